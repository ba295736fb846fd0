"""The parts of a topology out of the entries of a lab file, and where each was said. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TypedDict, TypeVar

from msgspec import UNSET

from netlab import faults as limits
from netlab.files import expansion, values
from netlab.files.checking import Fault, Path, parted
from netlab.files.kinds import with_kind
from netlab.files.shape import LabFile, NetworkEntry, NodeEntry
from netlab.topology import (
    INTERNET,
    NAME_DEFAULT,
    RANGE_DEFAULT,
    Access,
    Event,
    Exit,
    Expect,
    Lan,
    Latency,
    Node,
    Region,
    Router,
    Tenant,
    TenantNetwork,
    Workload,
)
from overlay.errors import Rejected

# What all tenants together may have on nodes: far more than a machine can run.
MEMBERS_MAX = 100_000
_RUNNING = 'node with role = "node"'

N = TypeVar("N", Node, Router, Lan)

Origins = Mapping[tuple[str, str], Path]


class Parts(TypedDict):
    """The arguments of a Topology."""

    name: str
    seed: int
    nodes: tuple[Node, ...]
    routers: tuple[Router, ...]
    lans: tuple[Lan, ...]
    regions: tuple[Region, ...]
    latencies: tuple[Latency, ...]
    tenants: tuple[Tenant, ...]
    expects: tuple[Expect, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a file came to; whole only while there are no faults.

    origins  the entry of the file that a node, router, LAN or region of the lab comes from;
             of those with the same name the last
    """

    parts: Parts
    origins: Origins
    faults: tuple[Fault, ...]


def assemble(file: LabFile) -> Assembly:
    """Kinds, counts and chains become nodes, routers and LANs; patterns become names."""
    work = _Work()
    for position, region in enumerate(file.core.regions):
        work.origins["region", region] = ("core", "regions", position)
    home = file.core.regions[0] if file.core.regions else INTERNET
    routers = tuple(chain.from_iterable(work.routers(file, home=home)))
    lans = list(chain.from_iterable(work.lans(file)))
    nodes: list[Node] = []
    for more_nodes, more_lans in work.nodes(file, home=home):
        nodes += more_nodes
        lans += more_lans
    parts = Parts(
        name=NAME_DEFAULT if file.name is UNSET else file.name,
        seed=0 if file.seed is UNSET else file.seed,
        nodes=tuple(nodes),
        routers=routers,
        lans=tuple(lans),
        regions=tuple(map(Region, file.core.regions)),
        latencies=tuple(
            Latency(entry.between, values.impaired(entry)) for entry in file.core.latency
        ),
        tenants=tuple(work.tenants(file, nodes)),
        expects=tuple(map(values.expect, file.expect)),
        events=tuple(work.events(file)),
    )
    return Assembly(parts, work.origins, tuple(work.faults))


class _Work:
    """What is collected on the way: faults, and who comes from where."""

    def __init__(self) -> None:
        self.origins: dict[tuple[str, str], Path] = {}
        self.faults: list[Fault] = []
        self._sizes = {"router": 0, "lan": 0, "node": 0}
        self._members = 0

    def routers(self, file: LabFile, *, home: str) -> Iterator[list[Router]]:
        for name, entry in file.router.items():
            with self._at("router", name):
                whole = with_kind(entry, file.kind, what="router")
                pattern = values.router(whole, name=name, home=home)
                yield self._counted(pattern, entry.count, expansion.numbered_routers, "router")

    def lans(self, file: LabFile) -> Iterator[list[Lan]]:
        for name, entry in file.lan.items():
            with self._at("lan", name):
                pattern = Lan(name, "" if entry.gateway is UNSET else entry.gateway)
                yield self._counted(pattern, entry.count, expansion.numbered_lans, "lan")

    def nodes(self, file: LabFile, *, home: str) -> Iterator[tuple[list[Node], list[Lan]]]:
        for name, entry in file.node.items():
            with self._at("node", name):
                whole = with_kind(entry, file.kind, what="node")
                pattern = values.node(whole, name=name, home=home)
                nodes = self._counted(pattern, entry.count, expansion.numbered_nodes, "node")
                yield self._chained(nodes, entry) if entry.chain is True else (nodes, [])

    def tenants(self, file: LabFile, nodes: Iterable[Node]) -> Iterator[Tenant]:
        running = [node.name for node in nodes if node.role == "node"]
        for name, entry in file.tenant.items():
            networks = []
            for network_name, network in entry.network.items():
                with self._at("tenant", name, "network", network_name):
                    networks.append(self._network(network_name, network, running))
            yield Tenant(name, tuple(networks))

    def events(self, file: LabFile) -> Iterator[Event]:
        for position, entry in enumerate(file.at):
            with self._at("at", position):
                yield values.event(entry)

    def _counted(
        self,
        pattern: N,
        count: int | object,
        expand: Callable[[N, int], Iterator[N]],
        section: str,
    ) -> list[N]:
        """Remembers where they come from. Raises Rejected before there are too many."""
        how_many = count if isinstance(count, int) else 1
        self._sizes[section] += how_many
        if self._sizes[section] > limits.NODES_MAX:
            raise Rejected(
                f"is one too many: {limits.NODES_MAX} is the most",
                field="" if count is UNSET else "count",
                remedy="leave some out",
            )
        found = [pattern] if count is UNSET else list(expand(pattern, how_many))
        for each in found:
            self.origins[section, each.name] = (section, pattern.name)
        return found

    def _chained(self, nodes: list[Node], entry: NodeEntry) -> tuple[list[Node], list[Lan]]:
        if entry.count is UNSET:
            raise Rejected("needs a count", field="chain", remedy="add count, or leave chain out")
        linked, lans = expansion.chained(nodes)
        for lan in lans:
            self.origins["lan", lan.name] = self.origins["node", lan.gateway]
        return linked, lans

    def _network(self, name: str, entry: NetworkEntry, running: list[str]) -> TenantNetwork:
        nodes = self._named(entry.nodes, running, field="nodes")
        invited = self._named(entry.invited, running, field="invited")
        members = [*nodes, *invited]
        workloads = []
        for workload, at in entry.workloads.items():
            places = self._matching(at, members, what="member", field=f"workloads.{workload}")
            many = "*" in at
            workloads += [
                Workload(f"{workload}-{place}" if many else workload, place) for place in places
            ]
        return TenantNetwork(
            name,
            RANGE_DEFAULT if entry.range is UNSET else entry.range,
            nodes=nodes,
            invited=invited,
            clients=tuple(Access(client, via) for client, via in entry.clients.items()),
            workloads=tuple(workloads),
            relays=self._named(entry.relays, running, field="relays"),
            exits=self._exits(entry.exits, running),
        )

    def _exits(
        self, said: tuple[str, ...] | dict[str, int], running: list[str]
    ) -> tuple[Exit, ...]:
        """A list is in order; a table gives orders, of which some may be the same."""
        if not isinstance(said, dict):
            names = self._named(said, running, field="exits")
            return tuple(Exit(name, order) for order, name in enumerate(names))
        return tuple(
            Exit(name, order)
            for pattern, order in said.items()
            for name in self._matching(pattern, running, what=_RUNNING, field=f"exits.{pattern}")
        )

    def _named(self, patterns: Iterable[str], running: list[str], *, field: str) -> tuple[str, ...]:
        """Each once, in the order of the patterns; named twice outright stays twice, a fault."""
        names: list[str] = []
        for position, pattern in enumerate(patterns):
            found = self._matching(pattern, running, what=_RUNNING, field=f"{field}[{position}]")
            names += [name for name in found if "*" not in pattern or name not in names]
        return tuple(names)

    def _matching(self, pattern: str, names: Iterable[str], *, what: str, field: str) -> list[str]:
        found = expansion.matching(pattern, names)
        self._members += len(found)
        if self._members > MEMBERS_MAX:
            raise Rejected(
                f"more than {MEMBERS_MAX} members and workloads",
                field=field,
                remedy="leave some out",
            )
        if not found:
            raise Rejected(
                f"{pattern!r} stands for no {what}",
                field=field,
                remedy=f"name a {what}, or leave it out",
            )
        return found

    @contextmanager
    def _at(self, *path: str | int) -> Iterator[None]:
        """What is refused within is a fault of this entry."""
        try:
            yield
        except Rejected as fault:
            below = parted(fault.field or "")
            self.faults.append(((*path, *below), Rejected(fault.message, remedy=fault.remedy)))
