"""A lab that becomes another while it runs: only the difference is touched, and is confirmed."""

from __future__ import annotations

import dataclasses
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netlab.impairment import Both, Impairment
from netlab.keeper import rtnetlink as nl
from netlab.lab import Lab
from netlab.leaks import observe_footprint
from netlab.nat import NATS
from netlab.topology import Lan, Latency, Link, Node, Region, Router, Topology
from overlay.errors import Diverged, Rejected
from tests.kernel.test_wiring import CARRIER, FAMILIES, exchange

SLOW = Both(up=Impairment(delay_s=0.05))


@asynccontextmanager
async def built(topology: Topology, tmp_path: Path) -> AsyncIterator[Lab]:
    before = observe_footprint()
    async with Lab.create(topology, workdir=tmp_path / "lab") as lab:
        yield lab
    assert observe_footprint().difference(before) == []


HOME = Topology(
    nodes=(Node("a", (Link(to="home"),)), Node("b", (Link(to="home"),)), Node("c")),
    routers=(Router("home", nat=NATS["port-restricted"]),),
)


@FAMILIES
async def test_a_lab_grows_and_shrinks(tmp_path, family):  # LAB-214
    async with built(HOME, tmp_path) as lab:
        a, c = lab.node("a"), lab.node("c")
        seen = exchange(a, c, family)
        more = Topology(
            nodes=(
                *HOME.nodes,
                Node("d", (Link(to="office"), Link(to="pair", name="eth1"))),
                Node("e", (Link(to="pair"),)),
                Node("f", (Link(to="us"),)),
            ),
            routers=(*HOME.routers, Router("office", Link(to="home"))),
            lans=(Lan("pair", gateway="d"),),
            regions=(Region("internet"), Region("us")),
        )
        await lab.apply(more)
        for name in ("d", "e", "f", "b"):
            exchange(lab.node(name), c, family)
        exchange(c, lab.node("f"), family)
        assert exchange(a, c, family) == seen
        await lab.apply(HOME)
        assert sorted(lab.nodes) == ["a", "b", "c"]
        assert exchange(a, c, family) == seen
        await lab.apply(more)
        exchange(lab.node("e"), c, family)


async def test_what_does_not_change_is_not_touched(tmp_path):  # LAB-214
    """The kernel tells of all that is taken away; what a build has added, it may tell of late."""
    async with built(HOME, tmp_path) as lab:
        with lab.in_netns("c"):
            watcher = nl.open_socket()
        with watcher:
            watcher.setblocking(False)
            watcher.bind((0, sum(GROUPS)))
            before = (await lab.node("c").run("ip", "-o", "link")).text
            process = await lab.node("c").spawn("sleep", "1000", log="sleeper")
            fewer = dataclasses.replace(HOME, nodes=(HOME.nodes[0], HOME.nodes[2]))
            plan = await lab.apply(fewer)
            assert plan.changes
            assert process.returncode is None
            assert not told(watcher) & REMOVALS
            assert (await lab.node("c").run("ip", "-o", "link")).text == before
        exchange(lab.node("a"), lab.node("c"), socket.AF_INET)


# RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
GROUPS = (0x1, 0x4, 0x10, 0x40, 0x100, 0x400)
REMOVALS = {nl.RTM_DELLINK, nl.RTM_DELADDR, nl.RTM_DELROUTE, nl.RTM_DELNEIGH}


def told(watcher: socket.socket) -> set[int]:
    """The kinds of all messages that are there."""
    kinds = set()
    while True:
        try:
            message = watcher.recv(1 << 16)
        except BlockingIOError:
            return kinds
        kinds.add(int.from_bytes(message[4:6], sys.byteorder))


async def test_links_and_nats_change_in_place(tmp_path):  # LAB-214
    async with built(HOME, tmp_path) as lab:
        index = (await lab.node("c").run("cat", "/sys/class/net/eth0/ifindex")).text
        other = dataclasses.replace(
            HOME,
            nodes=(*HOME.nodes[:2], Node("c", (Link(mtu_bytes=1400, impaired=SLOW),))),
            routers=(Router("home", nat=NATS["symmetric"]),),
        )
        await lab.apply(other)
        assert (await lab.node("c").run("cat", "/sys/class/net/eth0/mtu")).text == "1400\n"
        assert (await lab.node("c").run("cat", "/sys/class/net/eth0/ifindex")).text == index
        assert (await lab.impaired("c-internet")).both == SLOW
        exchange(lab.node("a"), lab.node("c"), socket.AF_INET)
        # Removed and made again, it is a link that nobody has impaired.
        await lab.apply(dataclasses.replace(other, nodes=other.nodes[:2]))
        await lab.apply(HOME)
        assert not (await lab.impaired("c-internet")).both
        exchange(lab.node("a"), lab.node("c"), socket.AF_INET)


async def test_a_pulled_cable_stays_pulled(tmp_path):  # LAB-214
    async with built(HOME, tmp_path) as lab:
        await lab.cut("a-home")
        more = dataclasses.replace(HOME, nodes=(*HOME.nodes, Node("d", (Link(to="home"),))))
        await lab.apply(more)
        exchange(lab.node("d"), lab.node("b"), socket.AF_INET6)
        assert (await lab.node("a").run("cat", CARRIER)).text == "0\n"
        await lab.plug("a-home")
        exchange(lab.node("a"), lab.node("d"), socket.AF_INET6)


async def test_what_cannot_change_live_is_refused_and_nothing_done(tmp_path):  # LAB-212
    async with built(HOME, tmp_path) as lab:
        with pytest.raises(Rejected, match="seed cannot change"):
            await lab.apply(dataclasses.replace(HOME, seed=5, nodes=HOME.nodes[:1]))
        assert sorted(lab.nodes) == ["a", "b", "c"]
        await lab.node("c").kill()
        changed = Node("c", (Link(mtu_bytes=1400),))
        with pytest.raises(Rejected, match="c is dead"):
            await lab.apply(dataclasses.replace(HOME, nodes=(*HOME.nodes[:2], changed)))
        await lab.apply(dataclasses.replace(HOME, nodes=HOME.nodes[:2]))
        assert sorted(lab.nodes) == ["a", "b"]


async def test_a_kernel_that_has_something_else_is_noticed(tmp_path):  # LAB-215
    async with built(HOME, tmp_path) as lab:
        await lab.node("a").run("ip", "-6", "route", "del", "default")
        more = dataclasses.replace(HOME, nodes=(*HOME.nodes, Node("d", (Link(to="home"),))))
        with pytest.raises(Diverged, match=r"a: route .* is missing"):
            await lab.apply(more)


async def test_regions_come_and_go(tmp_path):  # LAB-214
    regions = (Region("internet"), Region("eu"))
    two = Topology(nodes=(Node("a"), Node("b", (Link(to="eu"),))), regions=regions)
    async with built(two, tmp_path) as lab:
        far = (Latency(("internet", "eu"), SLOW),)
        await lab.apply(dataclasses.replace(two, latencies=far))
        assert (await lab.impaired("eu-internet")).both == SLOW
        exchange(lab.node("a"), lab.node("b"), socket.AF_INET6)
        moved = (Node("a"), Node("b"))
        await lab.apply(Topology(nodes=moved))
        exchange(lab.node("b"), lab.node("a"), socket.AF_INET)
