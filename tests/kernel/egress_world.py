"""A node with an uplink to a netns that is the operator's LAN, its gateway, and the internet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from overlay.documents.exits import ExitOffer, Uplink
from overlay.exitnode.converge import EgressConfigurator
from overlay.exitnode.egress import EGRESS_NETNS, LEG_LINK, UPLINK_LINK, Egress, Leg, select_legs
from overlay.exitnode.guards import Guards
from overlay.model import InterfaceAddress, NetworkId, Prefix
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

    async def converge_near(self, near: Iterable[str], **changes: Any) -> tuple[Any, ...]:
        """With these prefixes as those that the node is in."""
        offer = msgspec.structs.replace(OFFER, **changes)
        return await self.configurator.converge(
            Egress(offer, self.legs, node_prefixes=tuple(map(Prefix, near)))
        )

    async def converge_guarded(self, guards: Guards, **changes: Any) -> tuple[Any, ...]:
        offer = msgspec.structs.replace(OFFER, **changes)
        return await self.configurator.converge(Egress(offer, self.legs, guards=guards))

    def tenant(self, n: int = 0) -> str:
        path = self.machine.shell.pins.path(self.legs[n].netns)
        assert path is not None
        return path

    def counters(self) -> dict[str, int]:
        return Nftables().refusals(namespaces.pin_path(EGRESS_NETNS))

    async def reaches(
        self, address: str, *, port: int = PORT, tenant: int = 0, source: str = ""
    ) -> str:
        """The source address that a server at `address` sees."""
        with (
            listening(port) as servers,
            client(self.tenant(tenant), address, port, source=source) as it,
        ):
            server = servers[it.family]
            async with asyncio.timeout(SOON_S):
                connection, seen = await asyncio.get_running_loop().sock_accept(server)
            connection.close()
            return str(seen[0])

    async def is_refused(
        self, address: str, counter: str, *, port: int = PORT, tenant: int = 0
    ) -> None:
        """The first packet to `address` is dropped for this reason, and does not arrive."""
        before = self.counters()[counter]
        with listening(port) as servers, client(self.tenant(tenant), address, port) as it:
            await until(lambda: self.counters()[counter] > before)
            with pytest.raises(BlockingIOError):
                servers[it.family].accept()


@asynccontextmanager
async def opened(machine: RealMachine) -> AsyncIterator[World]:
    """Two tenants, no way out yet; nothing is left afterwards."""
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
        async with machine.shell.kernel.forgotten(world.tenant(world.legs.index(leg))):
            machine.shell.pins.remove(leg.netns)
    await machine.shell.kernel.delete_link(None, "eth0")
    async with machine.shell.kernel.forgotten(wan):
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
def client(netns: str, address: str, port: int, *, source: str = "") -> Iterator[socket.socket]:
    """A socket that is on its way to connect."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with open_socket(netns, family, socket.SOCK_STREAM) as it:
        it.setblocking(False)
        if source:
            it.bind((source, 0))
        it.connect_ex((address, port))
        yield it


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110 - a counter of the kernel tells nobody that it moved
            await asyncio.sleep(0.02)


async def stands_and_goes(
    world: World, uplink: Uplink, *, own: dict[int, str] = OWN, address: str = ADDRESSES[1]
) -> None:
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
        lambda: kernel.delete_address(egress, UPLINK_LINK, InterfaceAddress(address)),
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
            assert await world.reaches(HOST[family]) == own[family]
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


def host_prefix(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"
