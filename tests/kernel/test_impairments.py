"""Impaired links on the real kernel: never early, in order, the very losses of a seed, no leaks.

Times are asserted in one direction only: a loaded machine is late, never early.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from netlab.impairment import Both, Drop, Impairment
from netlab.keeper import pump_house
from netlab.keeper.schedule import Schedule, Terms
from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.nat import NATS
from netlab.topology import Lan, Link, Node, Router, Topology
from netlab.wiring import impairing
from overlay.errors import Rejected, Unavailable

pytestmark = [pytest.mark.any_backend, pytest.mark.kernel, pytest.mark.blocking]

PATIENCE_S = 30.0
LINK = "n1:eth0"
PAIR = Topology(nodes=(Node("n1"), Node("n2")), seed=7)
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
UDP = 17


@contextmanager
def udp(node: LabNode, family: int) -> Iterator[socket.socket]:
    with node.in_netns():
        opened = socket.socket(family, socket.SOCK_DGRAM)
    with opened:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        opened.bind(("", 0))
        yield opened


@contextmanager
def joined(lab: Lab, family: int, one: str = "n1", other: str = "n2"):
    """A socket at each; what the first sends goes to the second."""
    source, target = lab.node(one), lab.node(other)
    with udp(source, family) as here, udp(target, family) as there:
        address = target.ipv6 if family == socket.AF_INET6 else target.ipv4
        here.connect((address, there.getsockname()[1]))
        yield here, there


async def receive(there: socket.socket, count: int, *, size: int = 2048) -> list[bytes]:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_S):
        return [await loop.sock_recv(there, size) for _ in range(count)]


async def nothing_more(lab: Lab, there: socket.socket) -> None:
    """What was on its way has arrived, and all of it is read."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            impaired = await lab.impaired(LINK)
            counts = [each.counts for each in (impaired.up, impaired.down) if each.counts]
            if not any(each.held for each in counts):
                break
            await asyncio.sleep(0.01)
    with pytest.raises(BlockingIOError):
        there.recv(1)


def with_pump(lab: Lab) -> Lab:
    """As on a kernel without netem, so that what is asserted is the same on every machine."""
    lab._impairments._has_netem = False
    return lab


@FAMILIES
async def test_impaired_link_is_never_early_and_keeps_order(lab, family):  # LAB-262
    running = await lab(PAIR)
    there_s, back_s = 0.05, 0.02
    impaired = Both(up=Impairment(delay_s=there_s), down=Impairment(delay_s=back_s, jitter_s=0.01))
    await running.impair(LINK, impaired)
    with joined(running, family) as (here, there):
        sent = []
        for number in range(40):
            sent.append(time.monotonic())
            here.send(bytes([number]))
        for number in range(40):
            (content,) = await receive(there, 1)
            assert content == bytes([number])
            assert time.monotonic() - sent[number] >= there_s
        there.connect(here.getsockname()[:2])
        for number in range(40):
            before = time.monotonic()
            there.send(bytes([number]))
            assert await receive(here, 1) == [bytes([number])]
            assert time.monotonic() - before >= back_s - 0.01


async def test_impaired_link_says_who_does_what_and_how_exactly(lab):  # LAB-260
    running = await lab(PAIR)
    assert not (await running.impaired(LINK)).both
    both = Both(up=Impairment(delay_s=0.001), down=Impairment(loss=0.5))
    await running.impair(LINK, both)
    impaired = await running.impaired(LINK)
    assert impaired.both == both
    trial = ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    tried = await running.node("n2").run(*trial, check=False)
    assert impaired.up.back_ends == (("netem",) if tried.returncode == 0 else ("pump",))
    assert impaired.down.back_ends == ("nftables",)
    assert impaired.up.error
    assert impaired.missed == 0


@FAMILIES
async def test_impaired_link_loses_the_very_packets_that_the_seed_says(lab, family):  # LAB-261
    running = with_pump(await lab(PAIR))
    await running.impair(LINK, Both(up=Impairment(delay_s=0.001, loss=0.3)))
    with joined(running, family) as (here, there):
        source, target = (running.node(name) for name in ("n1", "n2"))
        ends = (source.ipv4, target.ipv4)
        if family == socket.AF_INET6:
            ends = (source.ipv6, target.ipv6)
        kind = bytes([UDP]) + b"".join(socket.inet_pton(family, end) for end in ends)
        expected = arriving(running, Terms(loss=0.3), kind, count=200)
        await source.run("ping", "-c1", "-W1", ends[1], check=False)  # moves nothing
        for number in range(200):
            here.send(bytes([number]))
        assert [each[0] for each in await receive(there, len(expected))] == expected
        await nothing_more(running, there)
        counts = (await running.impaired(LINK)).up.counts
        assert counts is not None
        assert counts.lost >= 200 - len(expected)


def arriving(lab: Lab, terms: Terms, kind: bytes, *, count: int) -> list[int]:
    seed = impairing.seed_of(lab.topology.seed, LINK, "up")
    schedule = Schedule(seed, terms)
    return [number for number in range(count) if schedule.admit(0, 100, (kind, b"port"))]


@FAMILIES
async def test_link_with_loss_alone_loses_the_share_exactly(lab, family):  # LAB-261
    running = await lab(PAIR)
    await running.impair(LINK, Both(up=Impairment(loss=0.2)))
    seed = impairing.seed_of(PAIR.seed, LINK, "up")
    _, lost = impairing.losses(0.2, seed)
    expected = [number for number in range(1000) if number not in lost]
    assert len(expected) == 800
    with joined(running, family) as (here, there):
        received = []
        for number in range(1000):
            here.send(number.to_bytes(2, "big"))
            if number not in lost:
                received += await receive(there, 1)
        assert [int.from_bytes(each, "big") for each in received] == expected
        await nothing_more(running, there)


@FAMILIES
@pytest.mark.parametrize("delay_s", [0.0, 0.001])
async def test_wireguard_messages_are_lost_as_scripted(lab, family, delay_s):  # LAB-266
    running = with_pump(await lab(PAIR))
    drops = (Drop("response", 2), Drop("response", 3), Drop("initiation", 1), Drop("cookie"))
    await running.impair(LINK, Both(up=Impairment(delay_s=delay_s, drops=drops)))
    kinds = {"initiation": (1, 148), "response": (2, 92), "cookie": (3, 64), "data": (4, 96)}
    with joined(running, family) as (here, there):
        for number in range(4):
            for kind, length in kinds.values():
                here.send(bytes([kind, 0, 0, 0, number]) + bytes(length - 5))
        here.send(bytes([2, 0, 0, 1]) + bytes(88))  # the length of one, and no message
        names = {kind: name for name, (kind, _) in kinds.items()}
        received = [(names[each[0]], each[4]) for each in await receive(there, 10)]
        assert received == [
            ("response", 0),
            ("data", 0),
            ("initiation", 1),
            ("data", 1),
            ("initiation", 2),
            ("data", 2),
            ("initiation", 3),
            ("response", 3),
            ("data", 3),
            ("response", 0),
        ]
        await nothing_more(running, there)


async def test_every_packet_is_duplicated_where_all_are_to_be(lab):  # LAB-262
    running = await lab(PAIR)
    await running.impair(LINK, Both(up=Impairment(duplicate=1.0)))
    with joined(running, socket.AF_INET) as (here, there):
        for number in range(20):
            here.send(bytes([number]))
        received = [each[0] for each in await receive(there, 40)]
        assert sorted(received) == sorted([*range(20), *range(20)])
        await nothing_more(running, there)


async def test_changed_link_loses_nothing_that_is_under_way(lab):  # LAB-264
    running = await lab(PAIR)
    with joined(running, socket.AF_INET) as (here, there):
        number = 0
        for impairment in (
            Impairment(delay_s=0.2),
            Impairment(delay_s=0.2, rate_bit_s=10**8),
            Impairment(delay_s=0.01, rate_bit_s=10**8),
            Impairment(rate_bit_s=10**8),
            Impairment(delay_s=0.1),
            Impairment(),
            Impairment(rate_bit_s=10**8),
            Impairment(),
        ):
            await running.impair(LINK, Both(up=impairment))
            for _ in range(10):
                here.send(bytes([number]))
                number += 1
        received = [each[0] for each in await receive(there, number)]
        assert sorted(received) == list(range(number))


async def test_link_that_is_no_longer_impaired_has_let_go_of_all(lab):  # LAB-264
    running = with_pump(await lab(PAIR))
    await running.impair(LINK, Both(up=Impairment(delay_s=0.3)))
    with joined(running, socket.AF_INET) as (here, there):
        for number in range(10):
            here.send(bytes([number]))
        await running.impair(LINK, Both())
        impaired = await running.impaired(LINK)
        assert (impaired.up.back_ends, impaired.up.counts.held) == ((), 0)
        here.send(bytes([10]))
        assert [each[0] for each in await receive(there, 11)] == list(range(11))


async def test_long_delays_are_not_waited_for_when_they_end(lab):  # LAB-264
    running = with_pump(await lab(PAIR))
    await running.impair(LINK, Both(up=Impairment(delay_s=3)))
    with joined(running, socket.AF_INET) as (here, there):
        here.send(b"0")
        await running.impair(LINK, Both())
        impaired = await running.impaired(LINK)
        assert (impaired.up.impairment, impaired.up.back_ends) == (Impairment(), ("pump",))
        here.send(b"1")
        assert await receive(there, 2) == [b"0", b"1"]
        assert (await running.impaired(LINK)).up.back_ends == ()


@FAMILIES
async def test_no_packet_of_many_is_early(lab, family):  # LAB-262
    running = with_pump(await lab(PAIR))
    delay_ns, count = 5_000_000, 3_000
    await running.impair(LINK, Both(up=Impairment(delay_s=delay_ns / 1e9)))
    with joined(running, family) as (here, there):
        early = 0
        for _ in range(count // 50):
            for _ in range(50):
                here.send(time.monotonic_ns().to_bytes(8, "big"))
            for _ in range(50):
                (content,) = await receive(there, 1)
                took_ns = time.monotonic_ns() - int.from_bytes(content, "big")
                early += took_ns < delay_ns
        assert early == 0


@pytest.mark.parametrize("delay_s", [0.0, 0.001])
async def test_rate_is_never_exceeded_and_the_queue_has_an_end(lab, delay_s):  # LAB-263
    running = await lab(PAIR)
    rate_bit_s, size, offered = 4_000_000, 1_000, 100
    await running.impair(LINK, Both(up=Impairment(delay_s=delay_s, rate_bit_s=rate_bit_s)))
    frame_bits, burst_bits = 8 * (size + 42), 8 * 1514
    with joined(running, socket.AF_INET) as (here, there):
        began = time.monotonic()
        for number in range(offered):
            here.send(bytes([number]) * size)
        # 25 kB at least are let through: what the queue holds.
        for arrived in range(1, 21):
            await receive(there, 1)
            bits = arrived * frame_bits - burst_bits
            assert time.monotonic() - began >= bits / rate_bit_s


@FAMILIES
async def test_behind_a_router_every_impaired_link_of_the_way_adds_its_delay(lab, family):
    homes = Topology(  # LAB-262
        nodes=(
            Node("n1"),
            Node("a", (Link(to="home"),)),
            Node("b", (Link(to="home"),)),
            Node("c", (Link(to="lab"),)),
            Node("d", (Link(to="lab"),)),
            Node("e", (Link(to="lab"),)),
        ),
        routers=(Router("home", nat=NATS["port-restricted"]),),
        lans=(Lan("lab"),),
    )
    running = with_pump(await lab(homes))
    for link in ("a:eth0", "home:wan", "c:eth0"):
        await running.impair(link, Both(up=Impairment(delay_s=0.02), down=Impairment(loss=1e-9)))
    for one, other, least_s in (("a", "n1", 0.04), ("c", "d", 0.02), ("a", "b", 0.02)):
        with joined(running, family, one, other) as (here, there):
            for number in range(3):
                before = time.monotonic()
                here.send(bytes([number]))
                assert await receive(there, 1) == [bytes([number])]
                assert time.monotonic() - before >= least_s


@FAMILIES
@pytest.mark.parametrize("loss", [0.0, 0.01])
async def test_streams_cross_a_pumped_link_whole_and_in_segments(lab, family, loss):  # LAB-265
    running = with_pump(await lab(PAIR))
    impairment = Impairment(delay_s=0.001, loss=loss)
    await running.impair(LINK, Both(up=impairment, down=impairment))
    content = bytes(range(256)) * 4096
    n1, n2 = running.node("n1"), running.node("n2")
    with n2.in_netns():
        server = socket.create_server(("", 0), family=family)
    with n1.in_netns():
        client = socket.socket(family)
    server.setblocking(False)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_S):
        with client:
            address = n2.ipv6 if family == socket.AF_INET6 else n2.ipv4
            await loop.sock_connect(client, (address, server.getsockname()[1]))
            with server:
                accepted, _ = await loop.sock_accept(server)
            with accepted:
                received = bytearray()

                async def read() -> None:
                    while chunk := await loop.sock_recv(accepted, 1 << 20):
                        received.extend(chunk)

                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(read(), name="read")
                    await loop.sock_sendall(client, content)
                    client.shutdown(socket.SHUT_WR)
    assert bytes(received) == content
    counts = (await running.impaired(LINK)).up.counts
    assert counts is not None
    if loss:
        assert counts.arrived >= len(content) // 1460  # no two segments in one packet
    else:
        assert counts.arrived < len(content) // 1460


async def test_link_cut_while_impaired_loses_and_mended_carries(lab):  # LAB-264
    running = with_pump(await lab(PAIR))
    await running.impair(LINK, Both(up=Impairment(delay_s=0.02)))
    with joined(running, socket.AF_INET) as (here, there):
        async with running.cut_off("n1"):
            here.send(b"lost")
        here.send(b"after")
        assert await receive(there, 1) == [b"after"]


async def test_unknown_link_is_refused(lab):
    running = await lab(PAIR)
    with pytest.raises(Rejected):
        await running.impair("n3:eth0", Both())


async def test_topology_impairs_its_links_from_the_start(lab):  # LAB-267
    impaired = Both(up=Impairment(delay_s=0.02), down=Impairment(loss=0.5))
    running = await lab(Topology(nodes=(Node("n1", (Link(impaired=impaired),)), Node("n2"))))
    assert (await running.impaired(LINK)).both == impaired


@FAMILIES
async def test_pump_that_is_killed_is_replaced(lab, family):  # LAB-267
    running = with_pump(await lab(PAIR))
    told: asyncio.Queue[int] = asyncio.Queue()
    running.call_when_pump_replaced(told.put_nowait)
    both = Both(up=Impairment(delay_s=0.01, duplicate=1), down=Impairment(delay_s=0.03))
    await running.impair(LINK, Both(up=Impairment(delay_s=0.01), down=Impairment(delay_s=0.03)))
    await running.impair(LINK, both)
    for times in (1, 2):
        first = pump_of(running.keeper_pid)
        os.kill(first, signal.SIGKILL)
        if times == 2:  # it is missed sooner by whoever asks than by its parent, or later
            await running.impaired(LINK)
        async with asyncio.timeout(PATIENCE_S):
            assert await told.get() == times
        assert pump_of(running.keeper_pid) != first
        with joined(running, family) as (here, there):
            before = time.monotonic()
            here.send(b"up")
            assert await receive(there, 2) == [b"up"] * 2
            assert time.monotonic() - before >= 0.01
            there.connect(here.getsockname()[:2])
            before = time.monotonic()
            there.send(b"down")
            assert await receive(here, 1) == [b"down"]
            assert time.monotonic() - before >= 0.03
        assert (await running.impaired(LINK)).both == both
        assert (await running.impaired(LINK)).up.counts.duplicated >= 1


async def test_pump_is_replaced_without_what_has_left_the_lab(lab):  # LAB-267
    slow = Both(up=Impairment(delay_s=0.01), down=Impairment(delay_s=0.01))
    nodes = tuple(Node(name, (Link("lan", impaired=slow),)) for name in ("n1", "n2", "n3"))
    topology = Topology(nodes=nodes, lans=(Lan("lan"),))
    running = with_pump(await lab(topology))
    await running.apply(replace(topology, nodes=nodes[:2]))
    told: asyncio.Queue[int] = asyncio.Queue()
    running.call_when_pump_replaced(told.put_nowait)
    os.kill(pump_of(running.keeper_pid), signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        assert await told.get() == 1
    with joined(running, socket.AF_INET6) as (here, there):
        here.send(b"still")
        assert await receive(there, 1) == [b"still"]


async def test_pump_that_cannot_live_is_given_up(lab, monkeypatch):  # LAB-267
    running = with_pump(await lab(PAIR))
    await running.impair(LINK, Both(up=Impairment(delay_s=0.01)))
    for _ in range(pump_house.REPLACED_MAX):
        os.kill(pump_of(running.keeper_pid), signal.SIGKILL)
        await running.impaired(LINK)
    os.kill(pump_of(running.keeper_pid), signal.SIGKILL)
    with pytest.raises(Unavailable, match="has ended"):
        await running.impaired(LINK)
    assert (await running.node("n1").run("true")).returncode == 0


def pump_of(keeper: int) -> int:
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    found = []
    for pid in children:
        with suppress(FileNotFoundError, ProcessLookupError):  # one that was killed just now
            if "keeper.pump" in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(int(pid))
    (pump,) = found
    return pump


async def test_pump_with_too_much_to_do_lets_others_run(lab):  # LAB-268
    running = with_pump(await lab(PAIR))
    await running.impair(LINK, Both(up=Impairment(delay_s=0.001)))
    pump = pump_of(running.keeper_pid)
    assert os.sched_getscheduler(pump) == os.SCHED_RR
    with joined(running, socket.AF_INET) as (here, _):
        flood_until(here, lambda: os.sched_getscheduler(pump) == os.SCHED_OTHER)
    async with asyncio.timeout(PATIENCE_S):
        while os.sched_getscheduler(pump) != os.SCHED_RR:
            await running.impaired(LINK)
            await asyncio.sleep(0.05)


def flood_until(here: socket.socket, is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline
        for _ in range(1000):
            with suppress(BlockingIOError):
                here.send(b"x")
