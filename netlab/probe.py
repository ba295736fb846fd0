"""What a NAT really does, found out from both sides of it in the manner of RFC 5780.

Two public nodes stand for the server's two addresses, each with two ports. Packets that must not
arrive are sent before one that must, along the same way, so that nothing waits for silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.nat import Behaviour
from netlab.topology import Family, Router
from overlay.errors import Rejected, Unavailable

ANSWER_S = 1.0
TRIES = 5

_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen; None where nothing came through, or where it takes a second node inside.

    mapping    "none": the sender's own address and port arrive
    filtering  of what comes in without having been asked for
    preserved  the inner port is the outer one
    hairpin    two nodes behind it reach each other by their outer ends
    """

    mapping: Behaviour | Literal["none"] | None
    filtering: Behaviour | None
    preserved: bool | None
    hairpin: bool | None


@dataclass(frozen=True, slots=True)
class Vantage:
    """Who takes part: one or two nodes behind the router, two on the internet."""

    inside: tuple[LabNode, ...]
    first: LabNode
    second: LabNode


def find_vantage(lab: Lab, router: Router) -> Vantage:
    """Raises Rejected when the lab lacks the nodes that it takes."""
    regions = {region.name for region in lab.topology.regions}
    by_place = [(node.links[0].to, node.name) for node in lab.topology.nodes if node.links]
    inside = [name for place, name in by_place if place == router.name]
    public = [name for place, name in by_place if place in regions]
    if not inside or len(public) < 2:
        raise Rejected(
            f"{router.name}: a probe needs a node behind it and two on the internet",
            field=f"router.{router.name}",
            remedy="add them to the lab",
        )
    first, second = (lab.node(name) for name in public[:2])
    return Vantage(tuple(lab.node(name) for name in inside[:2]), first, second)


async def observe(vantage: Vantage, family: Family = "ipv4", *, port: int = 0) -> Observed:
    """Probe one family. `port`: the inner port, 0 for any.

    Raises Unavailable when an answer is lost that the probe itself has shown to come through.
    """
    with contextlib.ExitStack() as stack:

        def opened(node: LabNode, bound: int = 0) -> socket.socket:
            return stack.enter_context(_udp(node, family, port=bound))

        # A socket for each question: what came in by one mapping shapes where it leads next.
        mapped, filtered = (opened(vantage.inside[0], port and port + n) for n in (0, 1))
        nodes = (vantage.first, vantage.first, vantage.second)
        servers = [opened(node) for node in nodes]
        places = [
            (_address(node, family), _port(server))
            for node, server in zip(nodes, servers, strict=True)
        ]
        try:
            seen = await _ask(mapped, servers[0], places[0])
        except Unavailable:
            return Observed(None, None, None, None)
        others = [await _ask(mapped, *pair) for pair in zip(servers[1:], places[1:], strict=True)]
        filtering = await _filtering(filtered, servers, await _ask(filtered, servers[0], places[0]))
        own = (_address(vantage.inside[0], family), _port(mapped))
        if seen == own:
            return Observed("none", filtering, True, None)
        hairpin = None
        if len(vantage.inside) > 1:
            hairpin = await _hairpin(mapped, seen, opened(vantage.inside[1]), servers[0], places[0])
        return Observed(_mapping(seen, *others), filtering, seen[1] == own[1], hairpin)


def _mapping(seen: _Address, other_port: _Address, other_address: _Address) -> Behaviour:
    """RFC 5780 section 4.3: one server, its other port, its other address."""
    if seen == other_port == other_address:
        return "endpoint-independent"
    return "address-dependent" if seen == other_port else "address-and-port-dependent"


async def _filtering(
    inner: socket.socket, servers: list[socket.socket], seen: _Address
) -> Behaviour:
    """RFC 5780 section 4.4; only servers[0] was asked so far."""
    asked, same_address, stranger = servers
    for _ in range(TRIES):
        stranger.sendto(b"stranger", seen)
        same_address.sendto(b"same address", seen)
        asked.sendto(b"asked", seen)
        arrived = await _received_until(inner, b"asked")
        if b"asked" in arrived:
            if b"stranger" in arrived:
                return "endpoint-independent"
            if b"same address" in arrived:
                return "address-dependent"
            return "address-and-port-dependent"
    raise Unavailable("an answer to a packet that came through did not come back")


async def _hairpin(
    one: socket.socket,
    outer_one: _Address,
    two: socket.socket,
    server: socket.socket,
    place: _Address,
) -> bool:
    """Both first send to the other's outer end, as peers do who want to meet."""
    outer_two = await _ask(two, server, place)
    for _ in range(TRIES):
        one.sendto(b"hairpin", outer_two)
        two.sendto(b"hairpin", outer_one)
        if b"hairpin" in await _received_until(one, b"hairpin", within_s=ANSWER_S / TRIES):
            return True
    return False


async def _ask(inner: socket.socket, server: socket.socket, place: _Address) -> _Address:
    """As whom the server sees the inner socket. Raises Unavailable when nothing comes through."""
    loop = asyncio.get_running_loop()
    for _ in range(TRIES):
        # Some filters answer with an error that the next call would raise.
        with contextlib.suppress(OSError):
            inner.sendto(b"ask", place)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S / TRIES):
                while True:
                    packet, sender = await loop.sock_recvfrom(server, 64)
                    if packet == b"ask":
                        return (sender[0], sender[1])
    raise Unavailable(f"no packet reached {place[0]} port {place[1]}")


async def _received_until(
    sock: socket.socket, last: bytes, *, within_s: float = ANSWER_S
) -> set[bytes]:
    """All that came up to `last`, or in time."""
    loop = asyncio.get_running_loop()
    arrived: set[bytes] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while last not in arrived:
                with contextlib.suppress(ConnectionError):
                    packet, _ = await loop.sock_recvfrom(sock, 64)
                    arrived.add(packet)
    return arrived


@contextlib.contextmanager
def _udp(node: LabNode, family: Family, *, port: int) -> Iterator[socket.socket]:
    with node.socket(_FAMILIES[family], socket.SOCK_DGRAM) as opened:
        opened.setblocking(False)
        opened.bind(("", port))
        yield opened


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _address(node: LabNode, family: Family) -> str:
    found = node.ipv4 if family == "ipv4" else node.ipv6
    if found is None:
        raise Rejected(f"{node.name} has no {family} address", field=f"node.{node.name}")
    return found
