"""The way out of an exit node, tried with real packets in both families (EXIT-020 .. EXIT-031).

The underlay netns has `eth0` to a netns that is the operator's LAN, its gateway, and the internet.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from overlay.addressing import address_of
from overlay.documents.exits import Uplink
from overlay.errors import Unavailable
from overlay.exitnode.egress import EGRESS_NETNS, LEG_LINK, Egress, OpenPort
from overlay.exitnode.firewall import leg_counter
from overlay.exitnode.guards import MAX_SERVICES, MAX_UNDERLAY, select_guards
from overlay.exitnode.plan import AmendSets
from overlay.model import Address, Prefix
from overlay.netns import namespaces
from overlay.netns.changes import ForgetFlows
from overlay.netns.namespaces import open_socket
from tests.kernel.egress_world import (
    FAMILIES,
    GUARDED,
    HOST,
    NODE,
    OFFER,
    OTHER,
    OWN,
    PORT,
    SOON_S,
    UPLINK,
    WAN,
    World,
    client,
    host_prefix,
    listening,
    opened,
    stands_and_goes,
    until,
)
from tests.real_machine import RealMachine, run

pytestmark = pytest.mark.any_backend

KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture
async def world(machine: RealMachine) -> AsyncIterator[World]:
    async with opened(machine) as world:
        yield world


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
        assert isinstance(change, AmendSets)
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
    assert isinstance(change, AmendSets)
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
async def test_what_nobody_answers_is_one_connection(world: World, family: int) -> None:
    # EXIT-064
    await world.converge(connections_per_s=1)
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    up, over = (leg_counter(world.legs[0], each) for each in ("up", "connection_rate"))
    with open_socket(world.tenant(), kind, socket.SOCK_DGRAM) as it:
        it.sendto(b"x", (HOST[family], PORT))
        await until(lambda: world.counters()[up] > 0)
        before = world.counters()[over]
        for _ in range(50):
            it.sendto(b"x", (HOST[family], PORT))
        await until(lambda: world.counters()[up] >= 51)
    assert world.counters()[over] == before


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


@pytest.mark.parametrize("wrong", [("macvlan", "eth9"), ("bridge", "eth9"), ("bridge", "eth0")])
@pytest.mark.parametrize("kind", ["macvlan", "bridge"])
async def test_an_uplink_that_cannot_be_made_leaves_the_one_in_use(
    world: World, lan: str, kind: str, wrong: tuple[str, str]
) -> None:  # EXIT-063
    there = uplink_on(lan, kind=kind)
    await world.converge(uplink=there)
    for _ in range(2):  # it is tried again
        with pytest.raises(Unavailable):
            await world.converge(uplink=uplink_on(wrong[1], kind=wrong[0]))
        for family in (4, 6):
            assert await world.reaches(HOST[family]) == OWN[family]
    await world.converge(uplink=there)
    assert await world.converge(uplink=there) == ()


async def test_an_uplink_becomes_one_of_another_kind(world: World, lan: str) -> None:  # EXIT-063
    for kind in ("macvlan", "bridge", "macvlan"):
        uplink = uplink_on(lan, kind=kind)
        await world.converge(uplink=uplink)
        assert await world.converge(uplink=uplink) == ()
        for family in (4, 6):
            assert await world.reaches(HOST[family]) == OWN[family]


def uplink_on(link: str, *, kind: Any) -> Uplink:
    return msgspec.structs.replace(UPLINK, kind=kind, link=link)


@FAMILIES
async def test_an_open_port_is_anothers_at_once(world: World, family: int) -> None:
    # PUB-025, PUB-026
    await world.converge()
    with open_socket(namespaces.pin_path(WAN), KINDS[family], socket.SOCK_DGRAM) as it:
        it.bind((HOST[family], 0))
        it.connect((OWN[family], PORT))
        for n in (0, 1, 0):
            leg = world.legs[n]
            port = OpenPort(leg.network, "udp", PORT)
            made = await world.configurator.converge(Egress(OFFER, world.legs, open_ports=(port,)))
            assert {type(change) for change in made} <= {AmendSets, ForgetFlows}
            with open_socket(world.tenant(n), KINDS[family], socket.SOCK_DGRAM) as server:
                server.setblocking(False)
                server.bind((address_of(leg.inside_v4 if family == 4 else leg.inside_v6), PORT))
                it.send(b"question")
                async with asyncio.timeout(SOON_S):
                    heard = await asyncio.get_running_loop().sock_recvfrom(server, 64)
                assert (heard[0], heard[1][0]) == (b"question", HOST[family])
