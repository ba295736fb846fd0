"""Ports of an exit's public addresses, tried with real packets in both families (PUB-020 ..).

The client in the internet asks node b, which is the exit; the workloads are there and on node a.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import pytest

from overlay.addressing import address_of
from overlay.exitnode.egress import EGRESS_NETNS, OpenPort
from overlay.exitnode.firewall import leg_counter
from overlay.model import AllowRule, Prefix, Publication
from overlay.netns import namespaces
from overlay.netns.namespaces import open_socket
from overlay.netns.nft import Nftables
from overlay.netns.state import Attachment
from tests.kernel.exit_world import HOST, OWN, SOON_S, WAN, World, open_world
from tests.real_machine import RealMachine

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
PORT, TARGET = 8080, 80
KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture
async def world(machine: RealMachine) -> AsyncIterator[World]:
    async with open_world(machine) as world:
        yield world


def leads_to(
    to: Attachment, *, port: int = PORT, protocol: Literal["tcp", "udp"] = "tcp"
) -> Publication:
    return Publication(protocol, port, address_of(to.address_v4), address_of(to.address_v6), TARGET)


def admitted(world: World) -> tuple[AllowRule, ...]:
    """As the node of the remote workload has it from the network document."""
    exit_, remote = world.exit, world.remote
    source = (host(exit_.gateway_v4), host(exit_.gateway_v6))
    to = (host(remote.address_v4), host(remote.address_v6))
    return (AllowRule(source, to, "tcp", ((TARGET, TARGET),)),)


def host(interface_address: str) -> Prefix:
    address = interface_address.partition("/")[0]
    return Prefix(f"{address}/{128 if ':' in address else 32}")


async def publish(world: World, to: Attachment, *, port: int = PORT) -> None:
    await world.converge_exit(publications=(leads_to(to, port=port),))
    await world.converge_egress(OpenPort(world.leg.network, "tcp", port))


@contextmanager
def serving(workload: Attachment, family: int, port: int = TARGET) -> Iterator[socket.socket]:
    with open_socket(workload.netns, KINDS[family], socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setblocking(False)
        server.bind(("", port))
        server.listen(64)
        yield server


@contextmanager
def asking(family: int, port: int = PORT, *, of: str = "") -> Iterator[socket.socket]:
    """Somebody in the internet, on the way to connect."""
    with open_socket(namespaces.pin_path(WAN), KINDS[family], socket.SOCK_STREAM) as it:
        it.setblocking(False)
        it.bind((HOST[family], 0))
        it.connect_ex((of or OWN[family], port))
        yield it


async def is_served(workload: Attachment, family: int, port: int = PORT) -> str:
    """As whom the workload sees the client, once both have heard each other."""
    loop = asyncio.get_running_loop()
    with serving(workload, family) as server, asking(family, port) as it:
        async with asyncio.timeout(SOON_S):
            connection, source = await loop.sock_accept(server)
            with connection:
                await loop.sock_sendall(connection, b"answer")
                assert await loop.sock_recv(it, 6) == b"answer"
    return str(source[0])


def counters(netns: str) -> dict[str, int]:
    return Nftables().refusals(netns)


async def counts(netns: str, name: str, *, above: int) -> None:
    async with asyncio.timeout(SOON_S):
        while counters(netns)[name] <= above:  # noqa: ASYNC110 - a counter of the kernel tells nobody
            await asyncio.sleep(0.02)


EGRESS = namespaces.pin_path(EGRESS_NETNS)


@FAMILIES
async def test_a_workload_at_the_exit_is_served_and_sees_who_asks(
    world: World, family: int
) -> None:  # PUB-020, PUB-021
    await publish(world, world.workload)
    assert await is_served(world.workload, family) == HOST[family]


@FAMILIES
async def test_a_workload_elsewhere_answers_by_the_exit_that_asked(
    world: World, family: int
) -> None:  # PUB-020, PUB-021
    # Nothing of the client's network is led to the internet by the exit: it has no default route.
    await publish(world, world.remote)
    gateway = world.exit.gateway_v4 if family == 4 else world.exit.gateway_v6
    assert await is_served(world.remote, family) == address_of(gateway)


@FAMILIES
async def test_a_publication_is_consent_where_the_policy_has_no_rule(
    world: World, family: int
) -> None:  # PUB-023
    await publish(world, world.remote)
    await world.converge_client(policy=())
    there = world.path(world.client)
    before = counters(there)["refused_policy"]
    with serving(world.remote, family), asking(family):
        await counts(there, "refused_policy", above=before)
    await world.converge_client(policy=(), admitted=admitted(world))
    assert await is_served(world.remote, family)


@FAMILIES
async def test_what_is_not_published_is_for_nobody(world: World, family: int) -> None:  # PUB-022
    await publish(world, world.workload)
    for port in (PORT + 1, TARGET):
        before = counters(EGRESS)["refused_input"]
        with asking(family, port):
            await counts(EGRESS, "refused_input", above=before)


@FAMILIES
async def test_the_leg_itself_cannot_be_asked_at_the_open_port(
    world: World, family: int
) -> None:  # PUB-022
    from tests.real_machine import run

    await publish(world, world.workload)
    inside = address_of(world.leg.inside_v4 if family == 4 else world.leg.inside_v6)
    route = f"ip -{family} route add {inside} via {OWN[family]}"
    assert (await run(route, netns=namespaces.pin_path(WAN))).code == 0
    before = counters(EGRESS)["refused_forward"]
    with serving(world.workload, family), asking(family, of=inside):
        await counts(EGRESS, "refused_forward", above=before)


@FAMILIES
async def test_a_withdrawal_ends_what_was_open(world: World, family: int) -> None:  # PUB-025
    await publish(world, world.remote)
    loop = asyncio.get_running_loop()
    with serving(world.remote, family) as server, asking(family) as it:
        async with asyncio.timeout(SOON_S):
            connection, _ = await loop.sock_accept(server)
        with connection:
            await world.converge_egress()
            before = counters(EGRESS)["refused_input"]
            await loop.sock_sendall(it, b"more")
            await counts(EGRESS, "refused_input", above=before)
            with pytest.raises(BlockingIOError):
                connection.recv(8)
    before = counters(EGRESS)["refused_input"]
    with serving(world.remote, family) as server, asking(family):
        await counts(EGRESS, "refused_input", above=before)
        with pytest.raises(BlockingIOError):
            server.accept()


@FAMILIES
async def test_who_goes_on_asking_is_led_to_what_is_published_now(
    world: World, family: int
) -> None:  # PUB-025
    port = OpenPort(world.leg.network, "udp", PORT)
    await world.converge_egress(port)
    with asking_on(family) as it:
        for workload in (world.remote, world.workload, world.remote):
            publication = leads_to(workload, protocol="udp")
            await world.converge_exit(publications=(publication,))
            assert await hears(workload, it, family)
        # Nor does who was led here before go on when it is led nowhere.
        await world.converge_exit()
        there = world.path(world.exit)
        before = counters(there)["refused_input"]
        it.send(b"question")
        await counts(there, "refused_input", above=before)


@contextmanager
def asking_on(family: int) -> Iterator[socket.socket]:
    """Somebody in the internet who asks again and again, always from the same port."""
    with open_socket(namespaces.pin_path(WAN), KINDS[family], socket.SOCK_DGRAM) as it:
        it.setblocking(False)
        it.bind((HOST[family], 0))
        it.connect((OWN[family], PORT))
        yield it


async def hears(workload: Attachment, it: socket.socket, family: int) -> bool:
    """The workload is asked, and its answer arrives."""
    loop = asyncio.get_running_loop()
    with open_socket(workload.netns, KINDS[family], socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(("", TARGET))
        async with asyncio.timeout(SOON_S):
            it.send(b"question")
            _, source = await loop.sock_recvfrom(server, 64)
            await loop.sock_sendto(server, b"answer", source)
            return await loop.sock_recv(it, 64) == b"answer"


@FAMILIES
async def test_whom_the_operator_refuses_does_not_ask(world: World, family: int) -> None:  # PUB-024
    await publish(world, world.workload)
    await world.converge_egress(
        OpenPort(world.leg.network, "tcp", PORT), refuse=(host(HOST[family]),)
    )
    with asking(family):
        await counts(EGRESS, "refused_client", above=0)


@FAMILIES
async def test_limits_hold_for_both_directions_together(
    world: World, family: int
) -> None:  # PUB-024
    await publish(world, world.workload)
    port = OpenPort(world.leg.network, "tcp", PORT)
    await world.converge_egress(port, connections=2)
    name = leg_counter(world.leg, "connections")
    loop = asyncio.get_running_loop()
    with serving(world.workload, family) as server, asking(family), asking(family), asking(family):
        await counts(EGRESS, name, above=0)
        async with asyncio.timeout(SOON_S):
            for _ in range(2):
                (await loop.sock_accept(server))[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()
        # Nor has the tenant one left for what it begins itself.
        before = counters(EGRESS)[name]
        with open_socket(world.workload.netns, KINDS[family], socket.SOCK_STREAM) as out:
            out.setblocking(False)
            out.connect_ex((HOST[family], 9))
            await counts(EGRESS, name, above=before + 1)


@FAMILIES
async def test_new_connections_a_second_are_limited_from_outside_too(
    world: World, family: int
) -> None:  # PUB-024, EXIT-064
    await publish(world, world.workload)
    port = OpenPort(world.leg.network, "tcp", PORT)
    await world.converge_egress(port, connections_per_s=1)
    with ExitStack() as stack:
        stack.enter_context(serving(world.workload, family))
        for _ in range(10):
            stack.enter_context(asking(family))
        await counts(EGRESS, leg_counter(world.leg, "connection_rate"), above=0)


async def test_rules_that_are_there_are_not_loaded_again(world: World) -> None:  # PUB-020
    await publish(world, world.remote)
    again = await world.converge_exit(publications=(leads_to(world.remote),))
    assert again.changes == ()
    assert await world.converge_egress(OpenPort(world.leg.network, "tcp", PORT)) == ()
