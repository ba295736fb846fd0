"""A running lab: nodes in which programs run, sockets open, workloads live and links fail.

Everything is held by a keeper process and ends with it, with the owner's thread, or with the
`async with` block, whichever comes first. Nothing global is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from socket import socket as Socket  # noqa: N812 - a method here has its name
from typing import TextIO

from netlab.construction import Construction
from netlab.faults import mtu_faults
from netlab.impairment import Both
from netlab.impairments import Impaired, Impairments
from netlab.keeper import rtnetlink
from netlab.lab_node import LabNode, Rebuilt, granted_socket, inside
from netlab.owner import Owner
from netlab.topology import Router, Topology
from netlab.wiring.changes import Impair, RemoveCable, SetMtu, places_of
from netlab.wiring.facts import Fact, program
from netlab.wiring.partition import heal, partition
from netlab.wiring.plan import Plan, plan
from netlab.wiring.realize import links_carried_by, plug_in, realize, routers_ruleset, unplug
from netlab.wiring.ruleset import reloaded
from netlab.wiring.wirer import wire
from netlab.wiring.wiring import Cable, End, Wiring
from overlay.errors import Rejected


class Lab:
    """Made by `Lab.create`; usable inside its `async with` block only."""

    def __init__(self, wiring: Wiring, *, owner: Owner, workdir: Path) -> None:
        self.topology = wiring.topology
        self.workdir = workdir
        self._wiring = wiring
        self._owner = owner
        self._facts: dict[str, tuple[Fact, ...]] = {}
        self._nodes: dict[str, LabNode] = {}
        self._impairments = Impairments(owner, lab_seed=self.topology.seed)
        self._held: dict[str, int] = {}
        self._cut: dict[Cable, str] = {}  # where an end is down for it
        self._mtus: dict[tuple[End, End], int] = {}  # as they were set by hand
        self._reboots: Counter[str] = Counter()
        self._parts: tuple[Sequence[str], ...] = ()
        self._construction = Construction(owner, workdir=workdir)
        self._applying = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def create(cls, topology: Topology, *, workdir: Path) -> AsyncIterator[Lab]:
        """Build it, lend it, end it: no process is left when the block is.

        `workdir` keeps logs and the nodes' state directories; it must be the lab's alone.
        """
        _make(workdir)
        owner = Owner(log=workdir / "keeper.log")
        try:
            # The keeper's interpreter starts meanwhile.
            lab = cls(wire(topology), owner=owner, workdir=workdir)
            await lab._build()
            yield lab
        finally:
            await owner.end()

    @property
    def nodes(self) -> Mapping[str, LabNode]:
        return self._nodes

    @property
    def wiring(self) -> Wiring:
        return self._wiring

    @property
    def keeper_pid(self) -> int:
        return self._owner.keeper_pid

    def call_at_end(self, close: Callable[[], None]) -> None:
        """Call it once the keeper has ended: for sockets of the owner that keep a netns alive."""
        self._owner.call_at_end(close)

    def call_when_pump_replaced(self, tell: Callable[[int], None]) -> None:
        """Call it, with how often so far, when what holds packets back has ended and begun anew."""
        self._owner.call_when_pump_replaced(tell)

    def node(self, name: str) -> LabNode:
        if name not in self._nodes:
            raise _unknown(name, self._nodes, what="node")
        return self._nodes[name]

    @contextlib.contextmanager
    def in_netns(self, name: str) -> Iterator[None]:
        """The calling thread is in this namespace of the wiring: a node, router, LAN or core.

        Never await inside: other tasks share the thread.
        """
        with inside(Path(f"/proc/{self.keeper_pid}/fd/{self._held[name]}")):
            yield

    def socket(self, name: str, family: int, kind: int, protocol: int = 0) -> Socket:
        """A socket of one of these namespaces, the caller's to close."""
        return granted_socket(self._owner, name, "", family, kind, protocol)

    def open_statistics(self, name: str, file: str) -> TextIO:
        """A file of /proc/net, "dev", as one of these namespaces sees it; the caller's to close."""
        return os.fdopen(self._owner.grant_now("open", name, file), encoding="utf-8")

    async def add_namespace(self, node: LabNode, name: str) -> None:
        """An empty network namespace, loopback up, at /run/netns/NAME inside the node."""
        await node.add_namespace(name)

    async def set_link(self, name: str, *, up: bool, link: str | None = None) -> None:
        """Pull or plug cables of a node (all, or the one named) or of a router (its uplink).

        The node keeps its addresses and routes and sees the carrier go.
        """
        if name not in self._wiring.stations:
            raise _unknown(name, self._wiring.stations, what="node or router")
        for station in self._wiring.stations[name]:
            if link in (None, station.end.name):
                cable = self._wiring.cable(f"{name}:{station.end.name}")
                await (self._plug_in(cable) if up else self._unplug(cable, seen_from=station.end))

    async def cut(self, link: str) -> None:
        """Pull the cable of this name (see Wiring.cable)."""
        cable = self._wiring.cable(link)
        await self._unplug(cable, seen_from=cable.near)

    async def plug(self, link: str) -> None:
        """Plug it again; nothing happens when it is."""
        await self._plug_in(self._wiring.cable(link))

    async def set_mtu(self, link: str, mtu_bytes: int) -> None:
        """Both ends of a link carry packets of up to so many bytes. Raises Rejected."""
        cable = self._wiring.cable(link)
        stations = (each for each in (cable.near_station, cable.far_station) if each)
        has_ipv6 = any(station.ipv6 is not None for station in stations)
        for fault in mtu_faults(mtu_bytes, ipv6=has_ipv6, path=f"{link}.mtu_bytes"):
            raise fault
        for end in (cable.near, cable.far):
            message = rtnetlink.link_mtu(end.ifindex, mtu_bytes=mtu_bytes)
            await self._owner.request("program", end.netns, message, ())
        self._mtus[cable.near, cable.far] = mtu_bytes

    async def impair(self, link: str, both: Both) -> None:
        """From now on the link does this to its packets, and nothing else (see Impairments)."""
        await self._impairments.apply([(self._wiring.cable(link), both)])

    async def impaired(self, link: str) -> Impaired:
        """What a link does to its packets, who carries that out, how exactly, and the counts."""
        return await self._impairments.read(self._wiring.cable(link))

    @contextlib.asynccontextmanager
    async def cut_off(self, *names: str) -> AsyncIterator[None]:
        """Nodes or routers without their cables for the length of the block."""
        try:
            for name in names:
                await self.set_link(name, up=False)
            yield
        finally:
            for name in names:
                await self.set_link(name, up=True)

    def plan(self, topology: Topology) -> Plan:
        """What `apply` would do. Raises Rejected for what cannot change while the lab runs."""
        found = plan(self._wiring, topology)
        self._refuse(found)
        return found

    async def apply(self, topology: Topology) -> Plan:
        """The lab is what the topology says, and what did not change was not touched.

        What was changed by hand meanwhile - an impairment, an MTU, a pulled cable - stays as it is
        where the topology says nothing new. Returns what was done. Raises Rejected before anything
        is done, Diverged when the kernel has something else afterwards.
        """
        async with self._applying:
            found = self.plan(topology)
            await self._carry_out(found)
            if self._parts:
                await self._load(partition(self._wiring, self._parts))
            return found

    async def partition(self, *parts: Sequence[str]) -> None:
        """Nodes of different parts hear nothing of each other, in place of an earlier partition.

        A router, LAN or region stands for the nodes behind it. Meanwhile DSCP is the lab's.
        """
        await self._load(partition(self._wiring, parts))
        self._parts = parts

    async def heal(self) -> None:
        """There is no partition."""
        await self._load(heal(self._wiring))
        self._parts = ()

    async def _load(self, rulesets: Mapping[str, str]) -> None:
        for netns, ruleset in rulesets.items():
            await self._owner.request("filter", netns, ruleset, False)

    async def reboot_nat(self, name: str) -> None:
        """A router forgets all connections and translations, and draws its ports anew."""
        router = self.router(name)
        self._reboots[name] += 1
        await self._owner.request("filter", name, self._rules(self._wiring, router), True)

    def router(self, name: str) -> Router:
        """Raises Rejected, naming the nearest one."""
        routers = {router.name: router for router in self.topology.routers}
        if name not in routers:
            raise _unknown(name, routers, what="router")
        return routers[name]

    def _rules(self, wiring: Wiring, router: Router) -> str:
        return reloaded(routers_ruleset(wiring, router, boot=self._reboots[router.name]))

    async def _plug_in(self, cable: Cable) -> None:
        self._cut.pop(cable, None)
        for netns, messages in plug_in(cable, self._facts):
            if not self._is_dead(netns):
                await self._owner.request("program", netns, messages, ())
        if self._carries(cable):
            links = links_carried_by(cable, self._wiring)
            # What was down has its addresses back, but the kernel leaves to a worker that they
            # receive.
            stations = (each for each in (cable.near_station, cable.far_station) if each)
            local = tuple(
                (station.end.netns, station.end.ifindex, address.packed)
                for station in stations
                for address in (station.ipv6, station.link_local)
                if address is not None
            )
            await self._owner.request("program", cable.far.netns, b"", links, local)

    async def _unplug(self, cable: Cable, *, seen_from: End) -> None:
        netns, messages = unplug(cable, seen_from=seen_from)
        self._cut[cable] = netns
        await self._owner.request("program", netns, messages, ())

    async def _build(self) -> None:
        build = realize(self._wiring)
        self._facts = {each.name: each.facts for each in build.namespaces}
        self._held = await self._construction.build(build)
        self._nodes = {node.name: self._lab_node(node.name) for node in self.topology.nodes}
        await self._impairments.apply(
            [(cable, cable.impaired) for cable in self._wiring.cables if cable.impaired]
        )

    def _lab_node(self, name: str) -> LabNode:
        return LabNode(
            name,
            stations=self._wiring.stations[name],
            owner=self._owner,
            directory=self.workdir / name,
            netns=self._held[name],
            rebuild=self._rebuild,
        )

    async def _carry_out(self, plan: Plan) -> None:
        removed = [each.cable for each in plan.changes if isinstance(each, RemoveCable)]
        gone = self._nodes.keys() - plan.wiring.stations.keys()
        still = self._still()
        rulesets = {
            router.name: self._rules(plan.wiring, router) for router in plan.wiring.topology.routers
        }
        await self._impairments.lift(removed)
        for name in gone:
            await self._nodes.pop(name).kill()
        await self._construction.remove(plan)
        added = await self._construction.add(plan, rulesets, still=still)
        self._take_over(plan, added)
        impaired = [each for each in plan.changes if isinstance(each, Impair)]
        await self._impairments.apply([(each.cable, each.both) for each in impaired])
        await self._construction.confirm(plan, still=still)

    def _take_over(self, plan: Plan, added: Mapping[str, int]) -> None:
        """The plan is what is so from now on."""
        names = {namespace.name for namespace in plan.build.namespaces}
        held = {name: fd for name, fd in self._held.items() if name in names}
        self._held = held | dict(added)
        self._facts = {each.name: each.facts for each in plan.build.namespaces}
        self.topology, self._wiring = plan.wiring.topology, plan.wiring
        lasting = {(cable.near, cable.far): cable for cable in plan.wiring.cables}
        anew = [each.cable for each in plan.changes if isinstance(each, SetMtu)]
        for ends in (self._mtus.keys() - lasting) | {(each.near, each.far) for each in anew}:
            self._mtus.pop(ends, None)
        self._cut = {
            lasting[cable.near, cable.far]: netns
            for cable, netns in self._cut.items()
            if (cable.near, cable.far) in lasting
        }
        for node in self.topology.nodes:
            if node.name in added:
                self._nodes[node.name] = self._lab_node(node.name)
            else:
                self._nodes[node.name].rewire(self._wiring.stations[node.name])

    def _still(self) -> frozenset[tuple[str, int]]:
        """The ends that are down because their cables were pulled."""
        ends = (
            (end, netns) for cable, netns in self._cut.items() for end in (cable.near, cable.far)
        )
        return frozenset((end.netns, end.ifindex) for end, netns in ends if end.netns == netns)

    def _refuse(self, plan: Plan) -> None:
        for change in plan.changes:
            for name in places_of(change):
                if self._is_dead(name) and name in plan.wiring.stations:
                    raise Rejected(
                        f"{name} is dead, and this would change it: {change.text}",
                        field=f"node.{name}",
                        remedy="restart it first",
                    )
        if self._parts:
            partition(plan.wiring, self._parts)

    def _is_dead(self, netns: str) -> bool:
        return netns in self._nodes and self._nodes[netns].state == "dead"

    def _carries(self, cable: Cable) -> bool:
        """Neither pulled nor at a dead machine."""
        ends = (cable.near.netns, cable.far.netns)
        return cable not in self._cut and not any(map(self._is_dead, ends))

    def _rebuild(self, name: str) -> Rebuilt:
        build = realize(self._wiring)
        cables = self._wiring.cables_of(name)
        ends = {cable: cable.near if cable.near.netns == name else cable.far for cable in cables}
        # An end that is down because its cable was pulled stays down.
        pulled = {end.ifindex for cable, end in ends.items() if self._cut.get(cable) == name}
        carried = [cable for cable in cables if self._carries(cable)]
        # Before addresses: a link of less than 1 280 bytes takes none of IPv6.
        mtus = b"".join(
            rtnetlink.link_mtu(
                end.ifindex,
                mtu_bytes=self._mtus.get((cable.near, cable.far), cable.mtu_bytes),
            )
            for cable, end in ends.items()
        )
        facts = program(each for each in self._facts[name] if each.ifindex not in pulled)
        return Rebuilt(
            program=mtus + facts,
            sysctls=next(each.sysctls for each in build.namespaces if each.name == name),
            links=tuple(
                link for cable in carried for link in links_carried_by(cable, self._wiring)
            ),
            addresses=tuple(
                each for each in build.addresses if each[0] == name and each[1] not in pulled
            ),
        )


def _unknown(name: str, known: Iterable[str], *, what: str) -> Rejected:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    remedy = f"did you mean {nearest[0]!r}?" if nearest else "this lab has none"
    return Rejected(f"there is no {what} {name!r}", field=what, remedy=remedy)


def _make(workdir: Path) -> None:
    workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
