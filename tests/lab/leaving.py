"""Exits with a cable to a provider each, and a workload that asks somebody in the internet."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import cast

from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet
from netlab.fleet.opening import bring_up
from netlab.lab import Lab
from netlab.topology import (
    ExitOffer,
    Link,
    Node,
    Router,
    Tenant,
    TenantNetwork,
    Topology,
    Workload,
)
from netlab.wiring.egress import Egress, find_egresses
from netlab.wiring.wirer import wire
from zos_core.status import NetworkStatus, Status

EVERY_S = 0.01
PORT = 7008
EXITS = ("e1", "e2")
SITE, UPLINK = "site", "eth1"
RESOLVERS = ("dns-e1", "dns-e2")  # hosts that may be some
COMMAND_S = 200.0  # in a machine under emulation


def exit_node(name: str) -> Node:
    """With a cable to a provider of its own."""
    return Node(name, (Link(), Link(provider(name).name, UPLINK)), role="node")


def provider(name: str) -> Router:
    return Router(f"isp-{name}")


def topology(*more: Workload) -> Topology:
    """Nobody offers the exits yet."""
    home = TenantNetwork("home", nodes=("n1", *EXITS), workloads=(Workload("web", "n1"), *more))
    return Topology(
        nodes=(
            Node("registry", role="registry"),
            Node(SITE),
            Node("n1", role="node"),
            *map(exit_node, EXITS),
            *map(Node, RESOLVERS),
        ),
        routers=tuple(map(provider, EXITS)),
        tenants=(Tenant("alice", (home,)),),
    )


def egresses(of: Topology) -> dict[str, Egress]:
    """What there is to be offered: every node with an uplink."""
    offered = (
        replace(node, exit=ExitOffer(UPLINK, (SITE,)))
        if any(link.name == UPLINK for link in node.links)
        else node
        for node in of.nodes
    )
    return dict(find_egresses(wire(replace(of, nodes=tuple(offered)))))


EGRESSES = egresses(topology())
# Somebody in the internet, a beacon too.
HOST_4, HOST_6 = EGRESSES["e1"].beacons
SOURCES = {
    (name, host): next(each for each in egress.seen_as if (":" in each) == (":" in host))
    for name, egress in EGRESSES.items()
    for host in (HOST_4, HOST_6)
}


@asynccontextmanager
async def with_exits(lab: Lab) -> AsyncIterator[Fleet]:
    """Everything runs, and somebody is in the internet."""
    async with bring_up(lab, progress=lambda *_: None, tell=lambda *_: None) as fleet:
        site = lab.node(SITE)
        for family, address in ((socket.AF_INET, site.ipv4), (socket.AF_INET6, site.ipv6)):
            await _answer(lab, family, str(address))
        yield fleet


async def _answer(lab: Lab, family: int, address: str) -> None:
    site, loop = lab.node(SITE), asyncio.get_running_loop()
    udp = site.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    udp.bind((address, PORT))
    transport, _ = await loop.create_datagram_endpoint(_Says, sock=udp)
    lab.call_at_end(transport.close)
    tcp = site.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    tcp.bind((address, PORT))
    server = await loop.create_server(lambda: _SendsBack(lab), sock=tcp)
    lab.call_at_end(server.close)


def _greeting(asker: str) -> bytes:
    """By which exit somebody came, "nobody" for none, and from which address."""
    by = next((name for (name, _), source in SOURCES.items() if source == asker), "nobody")
    return f"{by} {asker}".encode()


class _Says(asyncio.DatagramProtocol):
    """Somebody in the internet: says by which exit it was reached, and from which address."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(_greeting(addr[0]), addr)


class _SendsBack(asyncio.Protocol):
    """Somebody in the internet: says whom they see, and sends all back."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._lab.call_at_end(self._transport.abort)
        self._transport.write(_greeting(transport.get_extra_info("peername")[0]) + b"\n")

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def offer(
    fleet: Fleet, *names: str, publish: str = "", resolvers: tuple[str, ...] = ()
) -> None:
    """The operator offers these, one command each."""
    operator = fleet.person("operator", at="registry")
    for name in names:
        egress = egresses(fleet.lab.topology)[name]
        words = ["--publish", publish] if publish else []
        for option, *values in (
            ("--uplink", egress.uplink),
            ("--address", *egress.addresses),
            ("--gateway", *egress.gateways),
            ("--beacon", *egress.beacons),
            ("--resolver", *resolvers),
            ("--allow", *egress.allow),
            ("--refuse", *egress.refuse),
        ):
            words += (word for value in values for word in (option, value))
        await operator.zos("exit", "offer", "farm", name, *words, timeout_s=COMMAND_S)


async def unplug(fleet: Fleet, name: str) -> None:
    """The uplink of an exit carries nothing any more."""
    await fleet.lab.cut(f"{name}:{UPLINK}")


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
async def asking_outside(
    fleet: Fleet, host: str = HOST_4, *, workload: str = "web", at: str = "n1"
) -> AsyncIterator[Answers]:
    """The workload asks the internet every 10 ms while the block runs."""
    web = fleet.inside[f"alice/home/{workload}"]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with fleet.lab.node(at).in_netns(web.netns):
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
