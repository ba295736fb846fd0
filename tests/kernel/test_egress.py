"""The way out of an exit node, tried with real packets in both families (EXIT-020 .. EXIT-031).

The underlay netns has `eth0` to a netns that is the operator's LAN, its gateway, and the internet.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from overlay.addressing import address_of
from overlay.documents.exits import ExitOffer, Uplink
from overlay.errors import Unavailable
from overlay.exitnode.converge import EgressConfigurator
from overlay.exitnode.egress import EGRESS_NETNS, LEG_LINK, UPLINK_LINK, Egress, Leg, select_legs
from overlay.exitnode.firewall import leg_counter
from overlay.exitnode.guards import MAX_SERVICES, MAX_UNDERLAY, Guards, select_guards
from overlay.exitnode.plan import AmendGuards
from overlay.model import Address, NetworkId, Prefix
from overlay.netns import namespaces
from overlay.netns.namespaces import open_socket
from overlay.netns.nft import Nftables
from overlay.netns.waiting import in_thread
from tests.real_machine import RealMachine, run

WAN = "wan"
PORT = 7777
SOON_S = 30.0
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
HOST = {4: "198.51.100.7", 6: "2001:db8:1::7"}  # in the internet
OTHER = {4: "198.51.100.8", 6: "2001:db8:1::8"}
OWN = {4: "192.0.2.2", 6: "2001:db8::2"}  # of the exit
GATEWAY = {4: "192.0.2.1", 6: "2001:db8::1"}
NODE = {4: "192.0.2.10", 6: "2001:db8::10"}
ADDRESSES = ("192.0.2.2/24", "2001:db8::2/64")
GUARDED = {
    4: ("10.9.9.9", "100.64.0.1", "169.254.169.254", "172.16.0.1", "192.168.9.9", GATEWAY[4]),
    6: ("fd00:ec2::254", "fd99::1", "2002:a09:909::1", "64:ff9b::a09:909", GATEWAY[6]),
}
NETWORKS = tuple(map(NetworkId, ("net1a", "net1b")))
UPLINK = Uplink("macvlan", "eth0", ADDRESSES, (GATEWAY[4], GATEWAY[6]))
OFFER = ExitOffer("node1", UPLINK, (HOST[4],))


@dataclass
class World:
    machine: RealMachine
    legs: tuple[Leg, Leg]

    @property
    def configurator(self) -> EgressConfigurator:
        return EgressConfigurator(self.machine.shell)

    async def converge(self, **changes: Any) -> tuple[Any, ...]:
        offer = msgspec.structs.replace(OFFER, **changes)
        return await self.configurator.converge(Egress(offer, self.legs))

    async def converge_guarded(self, guards: Guards, **changes: Any) -> tuple[Any, ...]:
        offer = msgspec.structs.replace(OFFER, **changes)
        return await self.configurator.converge(Egress(offer, self.legs, guards=guards))

    def tenant(self, n: int = 0) -> str:
        path = self.machine.shell.pins.path(self.legs[n].netns)
        assert path is not None
        return path

    def counters(self) -> dict[str, int]:
        return Nftables().refusals(namespaces.pin_path(EGRESS_NETNS))

    async def reaches(self, address: str, *, port: int = PORT, tenant: int = 0) -> str:
        """The source address that a server at `address` sees."""
        with listening(port) as servers, client(self.tenant(tenant), address, port) as it:
            server = servers[it.family]
            async with asyncio.timeout(SOON_S):
                connection, source = await asyncio.get_running_loop().sock_accept(server)
            connection.close()
            return str(source[0])

    async def is_refused(
        self, address: str, counter: str, *, port: int = PORT, tenant: int = 0
    ) -> None:
        """The first packet to `address` is dropped for this reason, and does not arrive."""
        before = self.counters()[counter]
        with listening(port) as servers, client(self.tenant(tenant), address, port) as it:
            await until(lambda: self.counters()[counter] > before)
            with pytest.raises(BlockingIOError):
                servers[it.family].accept()


@pytest.fixture
async def world(machine: RealMachine) -> AsyncIterator[World]:
    namespaces.create(WAN)
    wan = namespaces.pin_path(WAN)
    await machine.shell.kernel.create_port(None, "eth0", workload_netns=wan, workload_link="eth0")
    await machine.shell.kernel.set_link(None, "eth0", up=True)
    for link in ("lo", "eth0"):
        await machine.shell.kernel.set_link(wan, link, up=True)
    for family in (4, 6):
        bits = {4: (24, 32), 6: (64, 128)}[family]
        kernel = machine.shell.kernel
        await kernel.add_address(None, "eth0", f"{NODE[family]}/{bits[0]}")
        await kernel.add_address(wan, "eth0", f"{GATEWAY[family]}/{bits[0]}")
        for address in (HOST[family], OTHER[family], *GUARDED[family]):
            if address != GATEWAY[family]:
                await kernel.add_address(wan, "lo", f"{address}/{bits[1]}")
    first, second = select_legs(NETWORKS)
    for leg in (first, second):
        machine.shell.pins.create(leg.netns)
    world = World(machine, (first, second))
    yield world
    await world.configurator.converge(None)
    for leg in world.legs:
        machine.shell.kernel.forget(world.tenant(world.legs.index(leg)))
        machine.shell.pins.remove(leg.netns)
    await machine.shell.kernel.delete_link(None, "eth0")
    machine.shell.kernel.forget(wan)
    namespaces.remove(WAN)


@contextmanager
def listening(port: int) -> Iterator[dict[int, socket.socket]]:
    """Servers in the netns that is the outside, on all its addresses."""
    with ExitStack() as stack:
        servers = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            it = stack.enter_context(
                open_socket(namespaces.pin_path(WAN), family, socket.SOCK_STREAM)
            )
            it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                it.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            it.setblocking(False)
            it.bind(("", port))
            it.listen(64)
            servers[int(family)] = it
        yield servers


@contextmanager
def client(netns: str, address: str, port: int) -> Iterator[socket.socket]:
    """A socket that is on its way to connect."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with open_socket(netns, family, socket.SOCK_STREAM) as it:
        it.setblocking(False)
        it.connect_ex((address, port))
        yield it


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110 - a counter of the kernel tells nobody that it moved
            await asyncio.sleep(0.02)


@FAMILIES
async def test_a_tenant_reaches_the_internet_from_the_address_of_the_exit(
    world: World, family: int
) -> None:  # EXIT-022
    await world.converge()
    assert await world.reaches(HOST[family]) == OWN[family]
    assert await world.reaches(HOST[family], tenant=1) == OWN[family]
    assert world.counters()[leg_counter(world.legs[1], "up")] > 0


@FAMILIES
async def test_guards_refuse_all_that_is_not_the_internet(
    world: World, family: int
) -> None:  # EXIT-020
    await world.converge()
    for address in GUARDED[family]:
        await world.is_refused(address, "refused_guard")
    await world.is_refused(NODE[family], "refused_guard")
    # Everything of it is there and would answer: the operator's word is all that it takes.
    await world.converge(allow=tuple(sorted(map(host_prefix, GUARDED[family]))))
    for address in GUARDED[family]:
        assert await world.reaches(address) == OWN[family]


@FAMILIES
async def test_the_node_is_guarded_wherever_it_is(world: World, family: int) -> None:  # EXIT-021
    node = (Prefix(host_prefix(HOST[family])),)
    await world.configurator.converge(Egress(OFFER, world.legs, node_prefixes=node))
    await world.is_refused(HOST[family], "refused_guard")


@FAMILIES
async def test_what_overlays_stand_on_is_guarded(
    world: World, family: int
) -> None:  # EXIT-043, EXIT-044
    registry, other = HOST[family], OTHER[family]
    await world.converge()
    assert await world.reaches(registry) == OWN[family]
    first = world.legs[0].network
    for guards in (
        select_guards(services=[registry], underlay={first: [other]}),
        select_guards(services=[other], underlay={first: [registry]}),
    ):
        (change,) = await world.converge_guarded(guards)
        assert isinstance(change, AmendGuards)
        assert await world.converge_guarded(guards) == ()
        # What one tenant's documents say takes nothing from another.
        (mine,) = guards.underlay[first]
        for tenant in (0, 1):
            await world.is_refused(guards.services[0], "refused_underlay", tenant=tenant)
        await world.is_refused(mine, "refused_underlay")
        assert await world.reaches(mine, tenant=1) == OWN[family]
    allowed = tuple(host_prefix(address) for address in sorted((registry, other)))
    await world.converge_guarded(guards, allow=allowed)
    assert await world.reaches(registry) == await world.reaches(other) == OWN[family]
    # A ruleset that is loaded anew has its sets filled.
    await world.converge_guarded(guards)
    await world.is_refused(registry, "refused_underlay")
    (change,) = await world.converge()
    assert isinstance(change, AmendGuards)
    assert await world.reaches(registry) == await world.reaches(other) == OWN[family]


async def test_as_many_addresses_are_guarded_as_there_is_room_for(world: World) -> None:  # EXIT-044
    def many(count: int) -> list[Address]:
        return [Address(f"198.18.{n >> 8}.{n & 255}") for n in range(count)]

    first, second = (leg.network for leg in world.legs)
    guards = select_guards(
        services=many(MAX_SERVICES + 1),
        underlay={first: many(MAX_UNDERLAY), second: [Address(HOST[4])]},
    )
    assert len(guards.services) == MAX_SERVICES
    assert {len(guards.underlay[first]), len(guards.underlay[second])} == {MAX_UNDERLAY // 2, 1}
    await world.converge_guarded(guards)
    assert await world.converge_guarded(guards) == ()
    await world.is_refused(HOST[4], "refused_underlay", tenant=1)
    assert await world.reaches(HOST[4]) == OWN[4]


@FAMILIES
async def test_what_the_operator_refuses_is_refused_at_once(
    world: World, family: int
) -> None:  # EXIT-005
    await world.converge()
    assert await world.reaches(HOST[family])
    await world.converge(refuse=(host_prefix(HOST[family]),))
    await world.is_refused(HOST[family], "refused_operator")


@FAMILIES
async def test_mail_is_refused_unless_offered(world: World, family: int) -> None:  # EXIT-006
    await world.converge()
    await world.is_refused(HOST[family], "refused_smtp", port=25)
    await world.converge(smtp=True)
    assert await world.reaches(HOST[family], port=25) == OWN[family]


@FAMILIES
async def test_tenants_reach_neither_each_other_nor_the_exit(
    world: World, family: int
) -> None:  # EXIT-023
    await world.converge()
    other = world.legs[1]
    there = address_of(other.inside_v4 if family == 4 else other.inside_v6)
    await world.is_refused(there, "refused_forward")
    await world.is_refused(OWN[family], "refused_input")
    mine = world.legs[0]
    await world.is_refused(
        address_of(mine.outside_v4 if family == 4 else mine.outside_v6), "refused_input"
    )


@FAMILIES
async def test_nothing_new_comes_in(world: World, family: int) -> None:  # EXIT-024
    await world.converge()
    leg = world.legs[0]
    inside = leg.inside_v4 if family == 4 else leg.inside_v6
    route = f"ip -{family} route add {inside.rpartition('/')[0]} via {OWN[family]}"
    assert (await run(route, netns=namespaces.pin_path(WAN))).code == 0
    # What is no answer comes back from the chain of the leg to where nothing is let through.
    before = world.counters()["refused_forward"]
    with client(namespaces.pin_path(WAN), address_of(inside), PORT):
        await until(lambda: world.counters()["refused_forward"] > before)


@FAMILIES
async def test_a_forged_source_is_refused(world: World, family: int) -> None:  # EXIT-025
    await world.converge()
    source = {4: "203.0.113.9", 6: "2001:db8:9::9"}[family]
    kernel = world.machine.shell.kernel
    await kernel.add_address(world.tenant(), "lo", f"{source}/{32 if family == 4 else 128}")
    kernel.write_sysctl(namespaces.pin_path(EGRESS_NETNS), "net/ipv4/conf/all/rp_filter", "0")
    leg, before = world.legs[0], world.counters()
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with open_socket(world.tenant(), kind, socket.SOCK_DGRAM) as it:
        it.bind((source, 0))
        it.sendto(b"x", (HOST[family], PORT))
        name = leg_counter(leg, "source")
        await until(lambda: world.counters()[name] > before[name])


@FAMILIES
async def test_one_tenant_has_so_many_connections_and_leaves_others_theirs(
    world: World, family: int
) -> None:  # EXIT-030
    await world.converge(connections=3)
    name = leg_counter(world.legs[0], "connections")
    with ExitStack() as stack:
        servers = stack.enter_context(listening(PORT))
        for _ in range(5):
            stack.enter_context(client(world.tenant(), HOST[family], PORT))
        await until(lambda: world.counters()[name] >= 2)
        server = servers[socket.AF_INET if family == 4 else socket.AF_INET6]
        loop = asyncio.get_running_loop()
        for _ in range(3):
            stack.enter_context((await loop.sock_accept(server))[0])
        with pytest.raises(BlockingIOError):
            server.accept()
        other = stack.enter_context(client(world.tenant(1), HOST[family], PORT))
        async with asyncio.timeout(SOON_S):
            stack.enter_context((await loop.sock_accept(server))[0])
        assert other.getpeername()[0] == HOST[family]


@FAMILIES
async def test_new_connections_a_second_are_limited(world: World, family: int) -> None:  # EXIT-030
    await world.converge(connections_per_s=1)
    name = leg_counter(world.legs[0], "connection_rate")
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with ExitStack() as stack:
        for _ in range(10):
            it = stack.enter_context(open_socket(world.tenant(), kind, socket.SOCK_DGRAM))
            it.sendto(b"x", (HOST[family], PORT))
        await until(lambda: world.counters()[name] > 0)
    assert world.counters()[leg_counter(world.legs[0], "up")] < 10
    assert await world.reaches(HOST[family], tenant=1) == OWN[family]


@FAMILIES
async def test_bandwidth_is_limited(world: World, family: int) -> None:  # EXIT-030
    await world.converge(rate_mbit=1)
    name = leg_counter(world.legs[0], "bandwidth")
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with open_socket(world.tenant(), kind, socket.SOCK_DGRAM) as it:
        for _ in range(400):  # 480 kB: 64 KiB at once and 125 kB a second are allowed
            it.sendto(bytes(1200), (HOST[family], PORT))
    assert 0 < world.counters()[name] < 400
    assert await world.reaches(HOST[family], tenant=1) == OWN[family]


@pytest.fixture
async def lan(world: World) -> AsyncIterator[str]:
    """A bridge of the node, with the link to the outside as its port."""
    for command in (
        "ip link add lan type bridge",
        "ip link set lan up",
        "ip link set eth0 master lan",
    ):
        assert (await run(command)).code == 0
    async with asyncio.timeout(SOON_S):
        while b"state UP" not in (await run("ip link show lan")).stdout:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
    yield "lan"
    await run("ip link del lan")


async def test_by_a_bridge_nothing_of_the_node_changes(world: World, lan: str) -> None:  # EXIT-031
    await stands_and_goes(world, msgspec.structs.replace(UPLINK, kind="bridge", link=lan))


async def test_by_a_macvlan_nothing_of_the_node_changes(world: World) -> None:  # EXIT-031
    await stands_and_goes(world, UPLINK)


async def stands_and_goes(world: World, uplink: Uplink) -> None:
    """It is made, confirmed, healed whatever is taken from it, and leaves no trace."""
    await until_no_address_is_tentative()
    before, kernel = await everything(), world.machine.shell.kernel
    assert await world.converge(uplink=uplink)
    assert await world.converge(uplink=uplink) == ()
    egress = namespaces.pin_path(EGRESS_NETNS)
    harms: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: kernel.delete_link(egress, UPLINK_LINK),
        lambda: kernel.delete_link(egress, world.legs[0].link),
        lambda: kernel.delete_link(world.tenant(), LEG_LINK),
        lambda: kernel.delete_address(egress, UPLINK_LINK, ADDRESSES[1]),
        lambda: kernel.set_link(egress, UPLINK_LINK, up=False),
        lambda: run("ip route del default", netns=egress),
        lambda: run("nft flush ruleset", netns=egress),
        lambda: run("sysctl -qw net.ipv6.conf.all.forwarding=0", netns=egress),
        lambda: in_thread(namespaces.remove, EGRESS_NETNS),
    )
    for n, harm in enumerate(harms):
        await harm()
        assert await world.converge(uplink=uplink), n
        assert await world.converge(uplink=uplink) == ()
        for family in (4, 6):
            assert await world.reaches(HOST[family]) == OWN[family]
    await world.configurator.converge(None)
    assert await world.configurator.converge(None) == ()
    assert await everything() == before


async def until_no_address_is_tentative() -> None:
    """Duplicate address detection takes a second, and more on a slow machine (RFC 4862)."""
    async with asyncio.timeout(60):
        while b"tentative" in (await run("ip -o address")).stdout:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)


async def everything() -> list[str]:
    """What is to be seen of the underlay netns."""
    shown = []
    for command in (
        "ip -o link",
        "ip -o address",
        "ip -4 route show table all",
        "nft list ruleset",
        "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding",
        "ls /run/netns",
    ):
        done = await run(command)
        shown.append(str(done.stdout))
    return shown


async def test_a_public_configuration_changes_live(world: World) -> None:  # EXIT-032
    await world.converge()
    other = {4: "192.0.2.3", 6: "2001:db8::3"}
    uplink = msgspec.structs.replace(UPLINK, addresses=("192.0.2.3/24", "2001:db8::3/64"))
    changes = await world.converge(uplink=uplink)
    assert not any("link" in change.describe().split()[:2] for change in changes)
    for family in (4, 6):
        assert await world.reaches(HOST[family]) == other[family]
    await world.converge(uplink=msgspec.structs.replace(UPLINK, gateways=("192.0.2.1",)))
    assert await world.reaches(HOST[4]) == OWN[4]


async def test_a_tenant_that_lost_the_exit_is_cut_off(world: World) -> None:  # EXIT-031
    await world.converge()
    await world.configurator.converge(Egress(OFFER, world.legs[1:]))
    assert not world.machine.shell.kernel.has_link(world.tenant(), LEG_LINK)
    assert await world.reaches(HOST[4], tenant=1) == OWN[4]


async def test_an_uplink_that_is_not_there_says_so(world: World) -> None:
    uplink = msgspec.structs.replace(UPLINK, link="eth9")
    with pytest.raises(Unavailable, match="eth9"):
        await world.converge(uplink=uplink)


def host_prefix(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"
