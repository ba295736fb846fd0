"""Every kind of NAT on the real kernel: its name is what a probe finds (LAB-321)."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.nat import NATS, Nat
from netlab.probe import Observed, Vantage, find_vantage, observe
from netlab.topology import Link, Node, Router, Topology
from netlab.wiring import ruleset
from overlay.errors import Rejected

pytestmark = pytest.mark.any_backend

PATIENCE_S = 20.0
MAPPINGS = FILTERINGS = (
    "endpoint-independent",
    "address-dependent",
    "address-and-port-dependent",
)
# Every combination of the axes that can be; two axes at a time would hide what only three show.
KINDS = [
    Nat(mapping, filtering, ports, hairpin)  # type: ignore[arg-type]
    for mapping, filtering, ports, hairpin in product(
        MAPPINGS, FILTERINGS, ("preserve", "random"), (False, True)
    )
    if mapping == "endpoint-independent" or (ports, hairpin) == ("random", False)
]


@pytest.fixture(autouse=True)
def in_order() -> Iterator[None]:
    """What one CPU sends crosses a lab in order: what arrives proves that the former was lost."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


def topology(*routers: Router, seed: int = 0) -> Topology:
    behind = (Node(f"{r.name}-{n}", (Link(to=r.name),)) for r in routers for n in (1, 2))
    return Topology(nodes=(Node("p1"), Node("p2"), *behind), routers=routers, seed=seed)


def declared(nat: Nat) -> Observed:
    return Observed(nat.mapping, nat.filtering, nat.ports == "preserve", nat.hairpin)


async def test_every_nat_is_what_it_is_called(tmp_path: Path):
    routers = tuple(Router(f"r{n}", nat=nat) for n, nat in enumerate(KINDS))
    async with Lab.create(topology(*routers), workdir=tmp_path / "lab") as lab:
        wrong = []
        for router in routers:
            seen = await observe(find_vantage(lab, router))
            if seen != declared(router.nat):
                wrong.append((router.nat, seen))
        assert not wrong, "\n".join(f"{nat}\n    is {seen}" for nat, seen in wrong)


@pytest.mark.parametrize("name", NATS)
async def test_preset_behaves_the_same_for_a_second_host_with_the_same_port(tmp_path: Path, name):
    router = Router("r", nat=NATS[name])
    async with Lab.create(topology(router), workdir=tmp_path / "lab") as lab:
        vantage = find_vantage(lab, router)
        one, two = vantage.inside
        await observe(Vantage((one,), vantage.first, vantage.second), port=5000)
        seen = await observe(Vantage((two,), vantage.first, vantage.second), port=5000)
        nat = NATS[name]
        assert (seen.mapping, seen.filtering) == (nat.mapping, nat.filtering)


async def test_a_mapping_is_forgotten_after_its_time_and_kept_until_then(tmp_path: Path):
    """Two inner ports of one age: the one that speaks keeps its outer port (RFC 4787 REQ-6)."""
    nat = Nat(ports="random", filtering="endpoint-independent", udp_timeout_s=2)
    async with Lab.create(topology(Router("r", nat=nat)), workdir=tmp_path / "lab") as lab:
        vantage = find_vantage(lab, lab.topology.routers[0])
        with (
            udp(vantage.inside[0]) as kept,
            udp(vantage.inside[0]) as forgotten,
            udp(vantage.first) as server,
        ):
            place = (vantage.first.ipv4, server.getsockname()[1])
            outer_forgotten = await heard(
                server, b"once", by=lambda: forgotten.sendto(b"once", place)
            )
            outer_kept = await heard(server, b"again", by=lambda: kept.sendto(b"again", place))
            began = time.monotonic()
            while time.monotonic() - began < 3 * nat.udp_timeout_s:
                kept.sendto(b"again", place)
                await asyncio.sleep(0.1)
            outers = set()
            with suppress(BlockingIOError):
                while True:
                    text, outer = server.recvfrom(64)
                    outers |= {outer} if text == b"again" else set()
            assert outers == {outer_kept}
            server.sendto(b"lost", outer_forgotten)
            await heard(kept, b"found", by=lambda: server.sendto(b"found", outer_kept))
            with pytest.raises(BlockingIOError):
                forgotten.recv(64)


@pytest.mark.parametrize("first", [5000, ruleset.PORTS_FIRST])
@pytest.mark.parametrize(
    "nat",
    [
        NATS["full-cone"],
        NATS["port-restricted"],
        NATS["symmetric"],
        Nat(ports="random"),
        Nat(ports="random", filtering="endpoint-independent"),
        Nat(mapping="address-dependent", ports="random"),
    ],
    ids=lambda nat: f"{nat.mapping}-{nat.filtering}-{nat.ports}",
)
async def test_no_two_get_the_same_outer_port(tmp_path: Path, nat, first):  # LAB-323
    """Of 512 ports 200 draws meet thirty times; who came second would be mute."""
    async with Lab.create(topology(Router("r", nat=nat)), workdir=tmp_path / "lab") as lab:
        vantage = find_vantage(lab, lab.topology.routers[0])
        own = range(first, first + 100)
        ends = [(host, port) for host in vantage.inside for port in own]
        outers = await outer_ends(vantage.first, ends)
        assert len(set(outers)) == len(ends)
        ports = [port for _, port in outers]
        drawn = range(ruleset.PORTS_FIRST, ruleset.PORTS_FIRST + ruleset.PORTS_COUNT)
        if nat.ports == "preserve":
            assert ports[:100] == [*own]
            assert set(ports[100:]) <= {*drawn}
        else:
            assert set(ports) <= {*drawn}
        if nat.mapping == "endpoint-independent":
            assert await outer_ends(vantage.second, ends[::20]) == outers[::20]


@pytest.mark.parametrize("ports", ["preserve", "random"])
async def test_who_finds_every_port_taken_gets_through_all_the_same(
    tmp_path: Path, monkeypatch, ports
):  # LAB-323
    monkeypatch.setattr(ruleset, "PORTS_COUNT", 3)
    nat = Nat(ports=ports, filtering="endpoint-independent")
    async with Lab.create(topology(Router("r", nat=nat)), workdir=tmp_path / "lab") as lab:
        vantage = find_vantage(lab, lab.topology.routers[0])
        ends = [(host, port) for host in vantage.inside for port in range(5000, 5008)]
        outers = await outer_ends(vantage.first, ends)
        assert len(set(outers)) == len(ends)
        # It takes nobody's: who has a mapping keeps it.
        mapped = 8 if ports == "preserve" else 3
        assert await outer_ends(vantage.second, ends[:mapped]) == outers[:mapped]


async def test_a_port_is_somebody_elses_after_its_time_and_not_before(tmp_path: Path, monkeypatch):
    """LAB-322, LAB-323: there is one port only, and two who want it."""
    monkeypatch.setattr(ruleset, "PORTS_COUNT", 1)
    nat = Nat(ports="random", udp_timeout_s=4)
    only = ruleset.PORTS_FIRST
    async with Lab.create(topology(Router("r", nat=nat)), workdir=tmp_path / "lab") as lab:
        vantage = find_vantage(lab, lab.topology.routers[0])
        one, two = ((host, 5000) for host in vantage.inside)
        began = time.monotonic()
        while time.monotonic() - began < 0.75 * nat.udp_timeout_s:
            assert (await outer_ends(vantage.first, [one]))[0][1] == only
            await asyncio.sleep(0.1)
        # Later than its time after the first packet, sooner after the last.
        await asyncio.sleep(0.5 * nat.udp_timeout_s)
        assert (await outer_ends(vantage.first, [two]))[0][1] != only
        await asyncio.sleep(1.5 * nat.udp_timeout_s)
        assert (await outer_ends(vantage.second, [two]))[0][1] == only
        assert (await outer_ends(vantage.second, [one]))[0][1] != only


async def test_what_does_not_leave_takes_no_port(tmp_path: Path, monkeypatch):  # LAB-323
    monkeypatch.setattr(ruleset, "PORTS_COUNT", 1)
    async with Lab.create(
        topology(Router("r", nat=NATS["symmetric"])), workdir=tmp_path / "lab"
    ) as lab:
        vantage = find_vantage(lab, lab.topology.routers[0])
        one, two = vantage.inside
        gateway = (await one.run("ip", "-4", "route", "show", "default")).text.split()[2]
        with udp(one) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for place in (gateway, str(two.ipv4), "255.255.255.255", "224.0.0.1"):
                sock.sendto(b"x", (place, 7))
        assert (await outer_ends(vantage.first, [(two, 5000)]))[0][1] == ruleset.PORTS_FIRST


async def test_a_router_that_starts_again_has_forgotten_and_draws_other_ports(tmp_path: Path):
    async with Lab.create(
        topology(Router("r", nat=NATS["symmetric"])), workdir=tmp_path / "lab"
    ) as lab:
        vantage = find_vantage(lab, lab.topology.routers[0])
        # With the same ports the same ones are drawn each time.
        with udp(vantage.inside[0], 4000) as inner, udp(vantage.first, 5000) as server:
            place = (vantage.first.ipv4, 5000)
            before = await heard(server, b"x", by=lambda: inner.sendto(b"x", place))
            await lab.reboot_nat("r")
            server.sendto(b"lost", before)
            after = await heard(server, b"y", by=lambda: inner.sendto(b"y", place))
            assert after != before
            await heard(inner, b"answer", by=lambda: server.sendto(b"answer", after))
        with pytest.raises(Rejected, match="did you mean 'r'"):
            await lab.reboot_nat("s")


async def test_the_same_seed_draws_the_same_ports(tmp_path: Path):
    drawn = []
    for number, seed in enumerate((7, 7, 8)):
        value = topology(Router("r", nat=NATS["symmetric"]), seed=seed)
        async with Lab.create(value, workdir=tmp_path / f"lab{number}") as lab:
            vantage = find_vantage(lab, lab.topology.routers[0])
            with udp(vantage.inside[0], 4000) as inner, udp(vantage.first, 5000) as server:
                place = (vantage.first.ipv4, 5000)
                outer = await heard(server, b"x", by=partial(inner.sendto, b"x", place))
                drawn.append(outer[1])
    assert drawn[0] == drawn[1] != drawn[2]


async def test_a_firewall_that_blocks_udp_lets_tcp_through_and_no_datagram(tmp_path: Path):
    router = Router("r", nat=NATS["port-restricted"], firewall="block-udp")
    async with Lab.create(topology(router), workdir=tmp_path / "lab") as lab:
        vantage = find_vantage(lab, router)
        for family in ("ipv4", "ipv6"):
            assert await observe(vantage, family) == Observed(None, None, None, None)
            kind = socket.AF_INET if family == "ipv4" else socket.AF_INET6
            with vantage.first.in_netns():
                listener = socket.create_server(("", 5000), family=kind)
            with listener, vantage.inside[0].in_netns():
                address = getattr(vantage.first, family)
                socket.create_connection((address, 5000), timeout=PATIENCE_S).close()


@pytest.mark.parametrize(
    ("firewall", "filtering"),
    [("none", "endpoint-independent"), ("stateful", "address-and-port-dependent")],
)
async def test_ipv6_is_never_translated_and_filtered_by_the_firewall(
    tmp_path: Path, firewall, filtering
):
    router = Router("r", nat=NATS["symmetric"], firewall=firewall)
    async with Lab.create(topology(router), workdir=tmp_path / "lab") as lab:
        seen = await observe(find_vantage(lab, router), "ipv6")
        assert seen == Observed("none", filtering, True, None)


def test_a_probe_says_which_nodes_it_lacks(tmp_path: Path):
    class Bare:
        topology = Topology(nodes=(Node("p1"),), routers=(Router("r"),))

    with pytest.raises(Rejected, match="two on the internet"):
        find_vantage(Bare(), Router("r"))


@contextmanager
def udp(node: LabNode, port: int = 0) -> Iterator[socket.socket]:
    with node.in_netns():
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with opened:
        opened.setblocking(False)
        opened.bind(("", port))
        yield opened


async def outer_ends(remote: LabNode, ends: Sequence[tuple[LabNode, int]]) -> list[tuple[str, int]]:
    """From where `remote` hears each of `ends`."""
    outers = []
    place = (remote.ipv4, 5000)
    with udp(remote, 5000) as server:
        for host, inner in ends:
            text = f"{host.name} {inner}".encode()
            with udp(host, inner) as sock:
                outers.append(await heard(server, text, by=partial(sock.sendto, text, place)))
    return outers


async def heard(sock: socket.socket, text: bytes, *, by: Callable[[], object]) -> tuple[str, int]:
    """Where `text` comes from that `by` sends, once more each second: one datagram may get lost.

    What was sent before may come as well, but nothing that must not.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            by()
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while True:
                        data, source = await asyncio.get_running_loop().sock_recvfrom(sock, 64)
                        if data == text:
                            return source
                        assert data != b"lost"


@pytest.mark.parametrize(
    ("inner", "outer", "mapping", "filtering"),
    [
        ("port-restricted", "port-restricted", MAPPINGS[0], FILTERINGS[2]),
        ("full-cone", "full-cone", MAPPINGS[0], FILTERINGS[0]),
        ("full-cone", "restricted", MAPPINGS[0], FILTERINGS[1]),
        ("port-restricted", "symmetric", MAPPINGS[2], FILTERINGS[2]),
        ("symmetric", "full-cone", MAPPINGS[2], FILTERINGS[2]),
    ],
)
async def test_two_layers_behave_like_the_stricter_one(
    tmp_path: Path, inner, outer, mapping, filtering
):
    """A carrier's NAT behind which people have their own (RFC 6888)."""
    routers = (
        Router("carrier", nat=NATS[outer]),
        Router("home", uplink=Link(to="carrier", name="wan"), nat=NATS[inner]),
    )
    async with Lab.create(topology(*routers), workdir=tmp_path / "lab") as lab:
        vantage = find_vantage(lab, routers[1])
        seen = await observe(vantage)
        assert (seen.mapping, seen.filtering) == (mapping, filtering)
        seen = await observe(vantage, "ipv6")
        assert (seen.mapping, seen.filtering) == ("none", "endpoint-independent")
