"""From a topology with roles and tenants to a running overlay: registry, farm, nodes, networks.

Done the way people do it, with few words: farms and networks are files that are written whole and
published once, so sixty nodes cost as many command starts as two.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet, Inside, Person, host_of, until_granted
from netlab.lab import Lab
from netlab.supervisor.crew import Progress, Tell
from netlab.topology import Access, Node, Role, Tenant, TenantNetwork, Topology
from netlab.wiring.egress import find_egresses
from overlay import addressing
from overlay.documents.relays import DEFAULT_RELAY_PORT
from overlay.errors import Unavailable
from overlay.model import Address, Endpoint, NetworkId
from zos_core.files.network import FIRST_INDEX
from zos_core.status import JoinAnswer, JoinRequest, Status

T = TypeVar("T")

FARM = "farm"
INVITATION = "guests"
# Starting zos is half a second of processor time each: more at once only makes all of them late.
STARTS_AT_ONCE = 2 * (os.cpu_count() or 1)
PATIENCE_S = 180.0
POLL_S = 0.05
LINK_CHARS_MAX = 15  # IFNAMSIZ - 1


Scalar = str | int | tuple[str, ...]
Value = Scalar | Mapping[str, Scalar]
Table = tuple[str, str, Mapping[str, Value]]  # section, name, what stands in it


@asynccontextmanager
async def bring_up(lab: Lab, *, progress: Progress, tell: Tell) -> AsyncIterator[Fleet]:
    """All that the topology says runs, is published and attached inside the block.

    Tunnels come with the first packet. Raises Unavailable naming what did not come in time.
    """
    opening = _Opening(lab, progress, tell)
    try:
        if opening.desk:
            await opening.start()
            tell("phase", "", "the registry serves and all nodes run")
            await opening.publish()
            await opening.enter()
            tell("phase", "", "everybody has joined and every workload is attached")
        for node in lab.topology.nodes:
            await opening.fleet.start_programs(node)
        yield opening.fleet
    finally:
        opening.fleet.greeter.close()


class _Opening:
    def __init__(self, lab: Lab, progress: Progress, tell: Tell) -> None:
        self.topology = lab.topology
        self.lab = lab
        self.desk = next((node.name for node in _of_role(lab.topology, "registry")), "")
        self.fleet = Fleet(lab, registry_at=self.desk, on_command=partial(_tell_command, tell))
        self._egresses = find_egresses(lab.wiring)
        self._progress = progress
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)
        self._tokens: dict[str, str] = {}  # by tenant/network

    async def start(self) -> None:
        """The registry serves, every node runs, everybody has keys."""
        count = self._counted("registry", 1)
        await self.fleet.start_registry()
        count()
        operator = self._person("operator")
        farm = await operator.zos(
            "farm", "create", FARM, "--no-publish", "--registry", self.fleet.registry
        )
        nodes = _of_role(self.topology, "node")
        async with asyncio.TaskGroup() as group:
            for tenant in self.topology.tenants:
                group.create_task(self._create_networks(tenant), name=f"tenant {tenant.name}")
            count = self._counted("nodes", len(nodes))
            for node in nodes:
                started = self._start_node(node, farm["farm"], count)
                group.create_task(started, name=f"node {node.name}")

    async def publish(self) -> None:
        """The farm lists its nodes, and every network its members."""
        named: list[Table] = [
            ("nodes", node.name, {"node": self.fleet.node_ids[node.name], **self._offered(node)})
            for node in _of_role(self.topology, "node")
        ]
        operator = self._person("operator")
        _append(operator, f"farms/{FARM}.toml", named)
        async with asyncio.TaskGroup() as group:
            if named:
                farm = operator.zos("farm", "publish", FARM)
                group.create_task(farm, name="publish the farm")
            for tenant, network in self._networks():
                signed = self._publish_network(tenant, network)
                group.create_task(signed, name=f"publish {network.name}")

    async def enter(self) -> None:
        """Guests have joined, workloads are attached, clients connected; all say who they are."""
        for name in (node.name for node in self.topology.nodes if node.role == "client"):
            await self.fleet.greeter.listen(self.lab.node(name), name)
        async with asyncio.TaskGroup() as group:
            members = [
                (tenant, network, node)
                for tenant, network in self._networks()
                for node in (*network.nodes, *network.invited)
            ]
            count = self._counted("memberships", len(members))
            for tenant, network, node in members:
                entered = self._enter_node(tenant, network, node, count)
                group.create_task(entered, name=f"{node} enters {network.name}")
            for tenant, network in self._networks():
                admitted = self._admit_clients(tenant, network)
                group.create_task(admitted, name=f"clients of {network.name}")

    # The parts.

    async def _start_node(self, node: Node, farm: str, count: Callable[[], None]) -> None:
        options = [word for each in self._declared(node) for word in ("--endpoint", each)]
        async with self._turns:
            await self.fleet.start_node(node.name, "--farm", farm, *options)
        count()

    def _offered(self, node: Node) -> dict[str, Value]:
        """What the farm file says of a relay, and of an exit."""
        offered: dict[str, Value] = {}
        if node.relay:
            declared = (Address(each) for each in self._declared(node))
            endpoints = (Endpoint(each, DEFAULT_RELAY_PORT) for each in declared)
            offered["relay"] = tuple(map(str, endpoints))
        if egress := self._egresses.get(node.name):
            offered["exit"] = {
                "uplink": egress.uplink,
                "addresses": egress.addresses,
                "gateways": egress.gateways,
                "beacons": egress.beacons,
                "allow": egress.allow,
                "refuse": egress.refuse,
            }
        return offered

    async def _name_relays(self, person: Person, network: TenantNetwork) -> None:
        """As soon as each says of itself that it is one."""
        for name in network.relays:
            id_ = self.fleet.node_ids[name]
            argv = ("network", "relay", "add", network.name, id_, "--as", name, "--no-publish")
            add = partial(person.zos, *argv, "--registry", self.fleet.registry)
            async with _patience(f"{name} says that it is a relay"):
                await until_granted(add)

    def _declared(self, node: Node) -> list[str]:
        """Where everybody finds it, when its first link leads straight to the internet."""
        regions = {region.name for region in self.topology.regions}
        if not node.links or node.links[0].to not in regions:
            return []
        at = self.lab.node(node.name)
        return [str(address) for address in (at.ipv4, at.ipv6) if address is not None]

    async def _create_networks(self, tenant: Tenant) -> None:
        person = self._person(tenant.name)
        async with self._turns:
            await person.zos("id", "new", "tenant", tenant.name)
        for network in tenant.networks:
            async with self._turns:
                made = await person.zos(
                    "network", "create", network.name, "--range", network.range, "--no-publish"
                )
            self.fleet.network_ids[_place(tenant, network)] = NetworkId(made["network"])

    async def _publish_network(self, tenant: Tenant, network: TenantNetwork) -> None:
        person, registry = self._person(tenant.name), ("--registry", self.fleet.registry)
        members: list[Table] = [
            ("members", name, {"node": self.fleet.node_ids[name], "index": index})
            for index, name in enumerate(network.nodes, start=FIRST_INDEX)
        ]
        exits: list[Table] = [("exits", each.node, {"order": each.order}) for each in network.exits]
        _append(person, f"networks/{network.name}.toml", [*members, *exits])
        await self._name_relays(person, network)
        async with self._turns:
            if not network.invited:
                await person.zos("network", "publish", network.name, *registry)
                return
            uses = str(len(network.invited))
            made = await person.zos(
                "network", "invite", network.name, INVITATION, "--uses", uses, *registry
            )
        self._tokens[_place(tenant, network)] = made["token"]

    async def _enter_node(
        self, tenant: Tenant, network: TenantNetwork, name: str, count: Callable[[], None]
    ) -> None:
        place = _place(tenant, network)
        if name in network.invited:
            wish = JoinRequest(self._tokens[place])
            await node_socket.ask(self.lab.node(name), "/v1/join", JoinAnswer, wish=wish)
        await self._until_member(name, self.fleet.network_ids[place])
        if any(each.node == name for each in network.exits):
            await self._until_exit(name, self.fleet.network_ids[place])
        count()
        for workload in network.workloads:
            if workload.at == name:
                async with _patience(f"{place}/{workload.name} is attached"):
                    await self.fleet.attach(place, workload.name, at=name)

    async def _until_member(self, name: str, network: NetworkId) -> None:
        """The node has made its part of the network: looking at a file costs it nothing."""
        netns = self.lab.node(name).path(f"/run/netns/{addressing.netns_name(network)}")
        async with _patience(f"{name} joins {network}"):
            while not netns.exists():  # noqa: ASYNC110 - a file, which tells nobody
                await asyncio.sleep(POLL_S)

    async def _until_exit(self, name: str, network: NetworkId) -> None:
        """The node lets the network's members out. Raises Unavailable with why it does not."""
        node, why = self.lab.node(name), "it is not offered"
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    status = await node_socket.ask(node, "/v1/status", Status)
                    if status.exit is not None and network in status.exit.networks:
                        return
                    why = status.exit.message if status.exit is not None else why
                    await asyncio.sleep(POLL_S)
        raise Unavailable(f"{name} lets nobody out of {network}: {why or 'not yet'}")

    async def _admit_clients(self, tenant: Tenant, network: TenantNetwork) -> None:
        """One after the other: each is a new version of one file."""
        person = self._person(tenant.name)
        for access in network.clients:
            await self._until_member(access.via, self.fleet.network_ids[_place(tenant, network)])
            await self._admit(person, tenant, network, access)

    async def _admit(
        self, person: Person, tenant: Tenant, network: TenantNetwork, access: Access
    ) -> None:
        device = access.client
        # Else wg-quick would run resolvconf(8), which no machine here has.
        argv = ("network", "access", network.name, device, "--via", access.via, "--no-dns")
        async with _patience(f"{device} is let in at {access.via}"):
            made = await until_granted(lambda: person.zos(*argv, "--registry", self.fleet.registry))
        links = self.fleet.access.get(device, {})
        # A name that says which network it is, if there is one such network only.
        link = f"wg{len(links)}" if network.name in links else network.name[:LINK_CHARS_MAX]
        await self.fleet.connect_client(device, link, made["config"])
        v4, v6 = map(host_of, made["addresses"])
        place = _place(tenant, network)
        self.fleet.inside[f"{place}/{device}"] = Inside(device, place, device, "", v4, v6)

    def _networks(self) -> Iterable[tuple[Tenant, TenantNetwork]]:
        return ((each, network) for each in self.topology.tenants for network in each.networks)

    def _person(self, name: str) -> Person:
        return self.fleet.person(name, at=self.desk)

    def _counted(self, phase: str, total: int) -> Callable[[], None]:
        """Nothing of this is done yet; with every call one more is."""
        done = 0
        self._progress(phase, done, total)

        def count() -> None:
            nonlocal done
            done += 1
            self._progress(phase, done, total)

        return count


def _place(tenant: Tenant, network: TenantNetwork) -> str:
    return f"{tenant.name}/{network.name}"


def _tell_command(tell: Tell, speaker: str, argv: tuple[str, ...]) -> None:
    tell("command", speaker, shlex.join(argv))


def _of_role(topology: Topology, role: Role) -> list[Node]:
    return [node for node in topology.nodes if node.role == role]


def _append(person: Person, file: str, tables: Iterable[Table]) -> None:
    """Write tables into a file of theirs, as they would with an editor."""
    lines = []
    for section, name, entry in tables:
        lines += ["", f"[{section}.{name}]"]
        lines += (f"{key} = {_toml(value)}" for key, value in entry.items())
    with person.file(file).open("a") as out:
        out.write("\n".join([*lines, ""]))


def _toml(value: Value) -> str:
    """Ids, addresses, links and numbers: nothing that TOML would have to escape."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


@asynccontextmanager
async def _patience(what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except TimeoutError as exc:
        raise Unavailable(f"not within {PATIENCE_S:g} s: {what}") from exc
