"""A whole internet on the real kernel: regions, hidden cores, chains, gateways, bare cables."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.leaks import observe_footprint
from netlab.nat import NATS
from netlab.topology import Lan, Link, Node, Region, Router, Topology
from netlab.wiring.places import LINKS_PER_CORE

# Far more than it takes: these end a hang, they measure nothing.
PATIENCE_S, AGAIN_S = 20.0, 0.5
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
CARRIER = "/sys/class/net/eth0/carrier"
RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
NAT = NATS["port-restricted"]


@pytest.fixture
def tracked() -> Iterator[None]:
    before = observe_footprint()
    yield
    assert observe_footprint().difference(before) == []


@asynccontextmanager
async def built(topology: Topology, tmp_path: Path) -> AsyncIterator[Lab]:
    async with Lab.create(topology, workdir=tmp_path / "lab") as lab:
        yield lab


@contextmanager
def udp(node: LabNode, family: int) -> Iterator[socket.socket]:
    with node.in_netns():
        opened = socket.socket(family, socket.SOCK_DGRAM)
    with opened:
        opened.settimeout(PATIENCE_S)
        opened.bind(("", 0))
        yield opened


def exchange(one: LabNode, other: LabNode, family: int) -> str:
    """There and back; as whom the other saw the one. Said again until it is heard."""
    address = other.ipv6 if family == socket.AF_INET6 else other.ipv4
    with udp(one, family) as here, udp(other, family) as there:
        sender = until_heard(here, b"ping", (address, there.getsockname()[1]), there)
        until_heard(there, b"pong", sender, here)
    return sender[0]


def until_heard(
    here: socket.socket, said: bytes, to: tuple[str, int], there: socket.socket
) -> tuple[str, int]:
    """As whom the other one heard it. On a busy machine a first packet may come too early."""
    there.settimeout(AGAIN_S)
    for _ in range(round(PATIENCE_S / AGAIN_S)):
        here.sendto(said, to)
        with suppress(TimeoutError):
            content, sender = there.recvfrom(64)
            assert content == said
            return sender[:2]
    raise AssertionError(f"{said!r} was not heard at {to} within {PATIENCE_S} s")


INTERNET = Topology(
    nodes=(
        Node("eve", (Link(to="eu"),)),
        Node("uma", (Link(to="us"),)),
        Node("deep", (Link(to="home"),)),
        Node("near", (Link(to="isp"),)),
        Node("gate", (Link(to="us"), Link(to="yard", name="eth1"))),
        Node("barn", (Link(to="yard"),)),
        Node("shed", (Link(to="yard"), Link(to="cellar", name="eth1"))),
        Node("dark", (Link(to="cellar"),)),
    ),
    routers=(
        Router("isp", Link(to="eu", name="wan"), nat=NAT),
        Router("home", Link(to="isp", name="wan"), nat=NAT),
    ),
    lans=(Lan("yard", gateway="gate"), Lan("cellar", gateway="shed")),
    regions=(Region("eu"), Region("us")),
)


@FAMILIES
async def test_a_whole_internet_is_reached(tracked, tmp_path, family):  # LAB-200, LAB-202, LAB-204
    async with built(INTERNET, tmp_path) as lab:
        node = lab.node
        assert exchange(node("eve"), node("uma"), family) == address(node("eve"), family)
        assert exchange(node("dark"), node("eve"), family) == address(node("dark"), family)
        assert exchange(node("eve"), node("dark"), family) == address(node("eve"), family)
        assert exchange(node("barn"), node("shed"), family) == address(node("barn"), family)
        for target in ("uma", "barn", "dark"):
            seen = exchange(node("deep"), node(target), family)
            if family == socket.AF_INET6:
                assert seen == node("deep").ipv6
            else:  # two translations, the outer one seen
                assert seen == "198.19.1.1"
        if family == socket.AF_INET6:  # routed down the chain, not translated
            assert exchange(node("uma"), node("deep"), family) == node("uma").ipv6
        else:
            assert exchange(node("deep"), node("near"), family) == "100.64.1.254"


def address(node: LabNode, family: int) -> str | None:
    return node.ipv6 if family == socket.AF_INET6 else node.ipv4


@FAMILIES
async def test_a_region_of_several_cores_is_one(tracked, tmp_path, family):  # LAB-201
    """Nodes at the first, a router behind a hidden one, and nobody at the rest of its block."""
    count = LINKS_PER_CORE["router"] + 1
    routers = tuple(Router(f"r{n}") for n in range(count))
    last = f"r{count - 1}"
    nodes = (Node("a"), Node("b", (Link(to=last),)))
    async with built(Topology(nodes=nodes, routers=routers), tmp_path) as lab:
        assert exchange(lab.node("a"), lab.node("b"), family) == address(lab.node("a"), family)
        assert exchange(lab.node("b"), lab.node("a"), family) == address(lab.node("b"), family)
        nobody = "198.19.2.200" if family == socket.AF_INET else "2001:db8::2:2c8"
        with udp(lab.node("a"), family) as sock:
            level, received = RECVERR[family]
            sock.setsockopt(level, received, 1)
            sock.connect((nobody, 9))
            sock.send(b"x")
            with pytest.raises(OSError, match=r"No route to host|Network is unreachable"):
                sock.recv(64)


@FAMILIES
@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_bare_cable_is_cut_and_mended_from_either_end(
    tracked, tmp_path, family, name
):  # LAB-204
    nodes = (Node("a", (Link(to="lan"),)), Node("b", (Link(to="lan"),)))
    async with built(Topology(nodes=nodes, lans=(Lan("lan"),)), tmp_path) as lab:
        a, b = lab.node("a"), lab.node("b")
        exchange(a, b, family)
        addresses = (await lab.node(name).run("ip", "-o", "address")).text
        async with lab.cut_off(name):
            assert (await lab.node(name).run("cat", CARRIER)).text == "0\n"
            assert (await lab.node(name).run("ip", "-o", "address")).text == addresses
        exchange(a, b, family)
        exchange(b, a, family)
        await lab.cut("b-a")
        await lab.plug("a-lan")
        exchange(a, b, family)


@FAMILIES
async def test_regions_are_parted_and_joined_again(tracked, tmp_path, family):  # LAB-205
    async with built(INTERNET, tmp_path) as lab:
        eve, uma = lab.node("eve"), lab.node("uma")
        await lab.cut("us-eu")
        with udp(eve, family) as here, udp(uma, family) as there:
            here.sendto(b"lost", (address(uma, family), there.getsockname()[1]))
            await lab.plug("eu-us")
            here.sendto(b"after", (address(uma, family), there.getsockname()[1]))
            assert there.recv(64) == b"after"
