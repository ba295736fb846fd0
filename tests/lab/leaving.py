"""Exits with an internet of their own each, and a workload that asks somebody out there."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet
from netlab.fleet.opening import bring_up
from netlab.lab import Lab
from netlab.topology import Node, Tenant, TenantNetwork, Topology, Workload
from zos_core.status import NetworkStatus, Status

HOST_4, HOST_6 = "198.51.100.7", "2001:db8:7::7"  # somebody in the internet, a beacon too
WAN = "wan"
BRIDGE = "br-ext"
EVERY_S = 0.01
PORT = 7008
EXITS = ("e1", "e2")
COMMAND_S = 200.0  # in a machine under emulation


def topology(*more: Workload) -> Topology:
    home = TenantNetwork("home", nodes=("n1", *EXITS), workloads=(Workload("web", "n1"), *more))
    nodes = tuple(Node(name, role="node") for name in ("n1", *EXITS))
    return Topology(
        nodes=(Node("registry", role="registry"), *nodes), tenants=(Tenant("alice", (home,)),)
    )


@asynccontextmanager
async def with_exits(lab: Lab, *names: str) -> AsyncIterator[Fleet]:
    """Everything runs; every exit has an internet beside it, which nobody offers yet."""
    async with bring_up(lab, progress=lambda *_: None, tell=lambda *_: None) as fleet:
        for name in names or EXITS:
            await _make_internet(fleet, name)
        yield fleet


async def _make_internet(fleet: Fleet, name: str) -> None:
    at = fleet.lab.node(name)
    await at.add_namespace(WAN)
    for line in (
        f"link add {BRIDGE} up type bridge",
        f"link add ext type veth peer name in netns {WAN}",
        f"link set ext master {BRIDGE} up",
    ):
        await at.run("ip", *line.split())
    for line in (
        "link set in up",
        "addr add 203.0.113.1/24 dev in",
        "addr add 2001:db8:113::1/64 dev in nodad",
        f"addr add {HOST_4}/32 dev lo",
        f"addr add {HOST_6}/128 dev lo nodad",
    ):
        await at.run("ip", "-n", WAN, *line.split())
    for family, address in ((socket.AF_INET, HOST_4), (socket.AF_INET6, HOST_6)):
        with at.in_netns(WAN):
            udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        udp.bind((address, PORT))
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Says(name.encode()), sock=udp)
        fleet.lab.call_at_end(transport.close)
        with at.in_netns(WAN):
            tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        tcp.bind((address, PORT))
        server = await loop.create_server(lambda: _SendsBack(name, fleet.lab), sock=tcp)
        fleet.lab.call_at_end(server.close)


class _Says(asyncio.DatagramProtocol):
    """Somebody in the internet: says by which exit it was reached, and from which address."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(b" ".join((self._name, addr[0].encode())), addr)


class _SendsBack(asyncio.Protocol):
    """Somebody in the internet: says who they are and whom they see, and sends all back."""

    def __init__(self, name: str, lab: Lab) -> None:
        self._name, self._lab = name, lab

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._lab.call_at_end(self._transport.abort)
        source = transport.get_extra_info("peername")[0]
        self._transport.write(f"{self._name} {source}\n".encode())

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


def address_of(exit_: str, family: int) -> str:
    """As which an exit is seen."""
    n = EXITS.index(exit_) + 11
    return f"203.0.113.{n}" if family == 4 else f"2001:db8:113::{n}"


async def offer(
    fleet: Fleet, *names: str, publish: str = "", resolvers: tuple[str, ...] = ()
) -> None:
    """The operator offers these, one command each."""
    operator = fleet.person("operator", at="registry")
    for name in names:
        words = ["--publish", publish] if publish else []
        for option, *values in (
            ("--uplink", f"bridge:{BRIDGE}"),
            ("--address", f"{address_of(name, 4)}/24", f"{address_of(name, 6)}/64"),
            ("--gateway", "203.0.113.1", "2001:db8:113::1"),
            ("--beacon", HOST_4, HOST_6),
            ("--resolver", *resolvers),
        ):
            words += (word for value in values for word in (option, value))
        await operator.zos("exit", "offer", "farm", name, *words, timeout_s=COMMAND_S)


async def drain(fleet: Fleet, name: str, duration: str) -> None:
    """The operator is about to take it out of use."""
    operator = fleet.person("operator", at="registry")
    await operator.zos("exit", "drain", "farm", name, "--for", duration, timeout_s=COMMAND_S)


async def network_status(fleet: Fleet, node: str) -> NetworkStatus:
    status = await node_socket.ask(fleet.lab.node(node), "/v1/status", Status)
    return status.networks[0]


class Answers:
    """By whom the internet was, when (monotonic)."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []
        self.sources: set[str] = set()  # as whom the workload was seen

    def by_since(self, at: float) -> set[str]:
        return {name for when, name in self.heard if when >= at}

    def first_by(self, name: str, *, since: float) -> float | None:
        """Seconds until the internet of this exit has answered."""
        return next((w - since for w, by in self.heard if w >= since and by == name), None)


@asynccontextmanager
async def asking_outside(fleet: Fleet, host: str = HOST_4) -> AsyncIterator[Answers]:
    """The workload asks the internet every 10 ms while the block runs."""
    web = fleet.inside["alice/home/web"]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with fleet.lab.node("n1").in_netns(web.netns):
        udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    answers, loop = Answers(), asyncio.get_running_loop()
    with udp:
        loop.add_reader(udp, _hear, udp, answers)
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(_ask(udp, host), name="questions")
                yield answers
                task.cancel()
        finally:
            loop.remove_reader(udp)


async def _ask(udp: socket.socket, host: str) -> None:
    while True:
        with suppress(OSError):
            udp.sendto(b"who is there?", (host, PORT))
        await asyncio.sleep(EVERY_S)


def _hear(udp: socket.socket, answers: Answers) -> None:
    with suppress(OSError):
        name, source = udp.recv(512).decode().split()
        answers.heard.append((time.monotonic(), name))
        answers.sources.add(source)
