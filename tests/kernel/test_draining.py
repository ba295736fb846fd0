"""What began at an exit that drains goes on there, by a device of its own (EXIT-060, EXIT-061)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest

from overlay.addressing import address_of, outside
from overlay.model import Address, Endpoint, Prefix, WgPeer
from overlay.netns import namespaces
from overlay.netns.converge import Configurator, Report
from overlay.netns.namespaces import open_socket
from overlay.netns.nft import Nftables
from overlay.netns.resource import Drain, desired_resource, flow_mark
from overlay.netns.state import DRAIN_LINK
from tests.convergence import KEYS, FixedClock
from tests.kernel.exit_world import HOST, OWN, PORT, SOON_S, WAN, World, open_world
from tests.real_machine import RealMachine, pings, run

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
NEXT = 9  # the index of the next exit, which takes what it is sent and says nothing


@pytest.fixture
async def world(machine: RealMachine) -> AsyncIterator[World]:
    async with open_world(machine) as world:
        for family in (4, 6):  # those are what is tried
            done = await run(f"ip -{family} route del default", netns=world.path(world.client))
            assert done.code == 0
        yield world


@dataclass
class Leaving:
    """What is on the client leaves the network by the exit, or the exit drains."""

    world: World

    def _peer(self, *more: Prefix) -> WgPeer:
        exit_ = self.world.exit
        endpoint = Endpoint(Address("127.0.0.1"), exit_.listen_port)
        allowed = tuple(sorted((exit_.subnet_v4, exit_.subnet_v6, *more)))
        return WgPeer(self.world.machine.key(exit_.index)[1], allowed, endpoint)

    @property
    def _outside(self) -> tuple[Prefix, ...]:
        return outside(self.world.client.range_v4, self.world.client.range_v6)

    async def by_the_exit(self) -> Report:
        return await self._converge(self._peer(*self._outside), way_out=self.world.exit.index)

    async def while_it_drains(self) -> Report:
        exit_ = self.world.exit
        drain = Drain(
            flow_mark(exit_.index),
            self._peer(*self._outside),
            (exit_.subnet_v4, exit_.subnet_v6),
        )
        return await self._converge(WgPeer(KEYS[0], self._outside), way_out=NEXT, drain=drain)

    async def when_it_has_drained(self) -> Report:
        peers = (self._peer(), WgPeer(KEYS[0], self._outside))
        return await self._converge(*peers, way_out=NEXT)

    async def _converge(self, *peers: WgPeer, way_out: int, drain: Drain | None = None) -> Report:
        client, machine = self.world.client, self.world.machine
        secret, public = machine.key(client.index)
        desired = desired_resource(
            client,
            device_key=public,
            peers={peer.public_key: peer for peer in peers},
            attachments=(self.world.remote,),
            has_exits=True,
            way_out=flow_mark(way_out),
            drain=drain,
        )
        configurator = Configurator(machine.shell, clock=FixedClock())
        return await configurator.converge(desired, private_key=secret)


class Connection:
    """Between the workload of the client and somebody in the internet."""

    def __init__(self, here: socket.socket, there: socket.socket) -> None:
        self._here, self._there = here, there

    async def passes(self) -> None:
        """Bytes go both ways. TimeoutError when they do not."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SOON_S):
            for source, sink in ((self._here, self._there), (self._there, self._here)):
                await loop.sock_sendall(source, b"x" * 5000)
                missing = 5000
                while missing:
                    missing -= len(await loop.sock_recv(sink, missing))

    def is_stuck(self) -> bool:
        self._here.send(b"late")
        with pytest.raises(BlockingIOError):
            self._there.recv(1)
        return True

    async def says_what_was_late(self) -> None:
        """What was sent in vain is sent again by TCP."""
        async with asyncio.timeout(SOON_S):
            assert await asyncio.get_running_loop().sock_recv(self._there, 4) == b"late"


@asynccontextmanager
async def connected(world: World, family: int) -> AsyncIterator[Connection]:
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with (
        open_socket(namespaces.pin_path(WAN), kind, socket.SOCK_STREAM) as server,
        open_socket(world.remote.netns, kind, socket.SOCK_STREAM) as here,
    ):
        for each in (server, here):
            each.setblocking(False)
        server.bind((HOST[family], PORT))
        server.listen(1)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SOON_S):
            await loop.sock_connect(here, (HOST[family], PORT))
            there, source = await loop.sock_accept(server)
        with there:
            assert source[0] == OWN[family]
            there.setblocking(False)
            yield Connection(here, there)


@contextmanager
def listening(family: int) -> Iterator[socket.socket]:
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with open_socket(namespaces.pin_path(WAN), kind, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind((HOST[family], PORT))
        yield server


def send_anew(world: World, family: int) -> None:
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with open_socket(world.remote.netns, kind, socket.SOCK_DGRAM) as it:
        it.sendto(b"new", (HOST[family], PORT))


@FAMILIES
async def test_what_is_established_goes_on_and_what_is_new_does_not_go_there(
    world: World, family: int
) -> None:  # EXIT-060
    leaving = Leaving(world)
    await leaving.by_the_exit()
    async with connected(world, family) as connection:
        await connection.passes()
        await leaving.while_it_drains()
        await connection.passes()
        with listening(family) as server:
            for _ in range(3):
                send_anew(world, family)
                await connection.passes()  # and with it whatever else would have arrived
            with pytest.raises(BlockingIOError):
                server.recv(16)
        assert (await leaving.while_it_drains()).changes == ()


@FAMILIES
async def test_the_exit_itself_is_reached_while_it_drains_and_afterwards(
    world: World, family: int
) -> None:  # EXIT-060, EXIT-061
    leaving, exit_ = Leaving(world), world.exit
    gateway = address_of(exit_.gateway_v4 if family == 4 else exit_.gateway_v6)
    for state in (leaving.by_the_exit, leaving.while_it_drains, leaving.when_it_has_drained):
        await state()
        assert await pings(world.remote.netns, gateway)
        assert await pings(world.path(world.client), gateway)


@FAMILIES
async def test_what_was_established_ends_when_the_exit_has_drained(
    world: World, family: int
) -> None:  # EXIT-061
    leaving = Leaving(world)
    await leaving.by_the_exit()
    async with connected(world, family) as connection:
        await leaving.while_it_drains()
        await connection.passes()
        report = await leaving.when_it_has_drained()
        assert DRAIN_LINK not in report.actual.links
        assert (report.actual.rules, report.actual.drain) == (frozenset(), None)
        gateway = address_of(world.exit.gateway_v4 if family == 4 else world.exit.gateway_v6)
        assert await pings(world.path(world.client), gateway)
        assert connection.is_stuck()


@FAMILIES
async def test_without_its_device_nothing_leaves_by_another_way_until_it_is_back(
    world: World, family: int
) -> None:  # EXIT-051, NET-053
    leaving = Leaving(world)
    await leaving.by_the_exit()
    async with connected(world, family) as connection:
        await leaving.while_it_drains()
        await connection.passes()
        await world.machine.shell.kernel.delete_link(world.path(world.client), DRAIN_LINK)
        assert connection.is_stuck()
        assert Nftables().refusals(world.path(world.client))["refused_drain"] > 0
        await leaving.while_it_drains()
        await connection.says_what_was_late()
        await connection.passes()
