"""An exit that has nothing but the node's own interface, in both families (EXIT-045 ..)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator

import pytest

from overlay.documents.exits import Uplink
from overlay.exitnode import processes
from overlay.exitnode.daemons import SHARED_ADDRESSES, SHARED_PORTS
from overlay.netns import namespaces, spawn
from overlay.netns.namespaces import open_socket
from tests.kernel.egress_world import (
    FAMILIES,
    GATEWAY,
    GUARDED,
    HOST,
    NODE,
    PORT,
    SOON_S,
    WAN,
    World,
    client,
    host_prefix,
    listening,
    opened,
    stands_and_goes,
    until,
)
from tests.real_machine import RealMachine, pings, run

pytestmark = pytest.mark.any_backend

SILENCE_S = 1.5  # a way that stands takes milliseconds
UPLINK = Uplink("interface", "eth0")


@pytest.fixture
async def world(machine: RealMachine) -> AsyncIterator[World]:
    """The node has a way to the internet, as nodes have; and may ping, as systemd has it."""
    async with opened(machine) as world:
        for family in (4, 6):
            assert (await run(f"ip -{family} route add default via {GATEWAY[family]}")).code == 0
        allowed = ["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"]
        assert (await spawn.run(allowed, timeout_s=SOON_S)).code == 0
        yield world


@FAMILIES
async def test_a_tenant_is_seen_as_the_node(world: World, family: int) -> None:  # EXIT-045
    await world.converge(uplink=UPLINK)
    for tenant in (0, 1):
        assert await world.reaches(HOST[family], tenant=tenant) == NODE[family]
    assert await pings(world.tenant(), HOST[family])  # as members do with beacons


@FAMILIES
async def test_datagrams_come_back_and_take_no_port_of_others(
    world: World, family: int
) -> None:  # EXIT-045
    await world.converge(uplink=UPLINK)
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    loop = asyncio.get_running_loop()
    with (
        open_socket(namespaces.pin_path(WAN), kind, socket.SOCK_DGRAM) as server,
        open_socket(world.tenant(), kind, socket.SOCK_DGRAM) as it,
    ):
        for each in (server, it):
            each.setblocking(False)
        server.bind((HOST[family], PORT))
        async with asyncio.timeout(SOON_S):
            it.sendto(b"question", (HOST[family], PORT))
            asked, source = await loop.sock_recvfrom(server, 64)
            await loop.sock_sendto(server, asked, source)
            assert await loop.sock_recv(it, 64) == b"question"
    assert source[0] == NODE[family]
    assert SHARED_PORTS[0] <= source[1] <= SHARED_PORTS[1]


@FAMILIES
async def test_guards_hold(world: World, family: int) -> None:  # EXIT-020, EXIT-042
    await world.converge_near([host_prefix(NODE[family])], uplink=UPLINK)
    for address in (*GUARDED[family], NODE[family]):
        if address != GATEWAY[family]:
            await world.is_refused(address, "refused_guard")


async def test_nothing_of_the_node_changes(world: World) -> None:  # EXIT-031, EXIT-046
    await stands_and_goes(world, UPLINK, own=NODE, address=SHARED_ADDRESSES[6])


@FAMILIES
async def test_without_the_program_nothing_leaves(world: World, family: int) -> None:  # EXIT-046
    await world.converge(uplink=UPLINK)
    assert await world.reaches(HOST[family]) == NODE[family]
    ((argv, pid),) = processes.observe(None).items()
    assert argv[0] == "pasta"
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not processes.observe(None))
    with listening(PORT) as servers, client(world.tenant(), HOST[family], PORT) as it:
        accepting = asyncio.get_running_loop().sock_accept(servers[it.family])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(accepting, SILENCE_S)
    assert await world.converge(uplink=UPLINK)
    assert await world.reaches(HOST[family]) == NODE[family]


@FAMILIES
async def test_what_the_node_has_for_itself_is_not_reached_from_inside(
    world: World, family: int
) -> None:  # EXIT-045: an address of its loopback that no guard knows of
    own = {4: "203.0.113.77", 6: "2001:db8:77::77"}[family]
    for command in ("ip link set lo up", f"ip address add {host_prefix(own)} dev lo"):
        assert (await run(command)).code == 0
    await world.converge(uplink=UPLINK)
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as server:
        server.setblocking(False)
        server.bind((own, PORT))
        server.listen()
        with client(world.tenant(), own, PORT):
            accepting = asyncio.get_running_loop().sock_accept(server)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(accepting, SILENCE_S)
    assert (await run(f"ip address del {host_prefix(own)} dev lo")).code == 0
