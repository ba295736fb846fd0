"""A partition on the real kernel: parts hear nothing of each other, through NAT and in a LAN."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.leaks import observe_footprint
from netlab.nat import NATS
from netlab.topology import Link, Node, Router, Topology

pytestmark = pytest.mark.any_backend

TOPOLOGY = Topology(
    nodes=(
        Node("alice", (Link(to="home"),)),
        Node("anna", (Link(to="home"),)),
        Node("bob"),
        Node("carol"),
    ),
    routers=(Router("home", nat=NATS["port-restricted"]),),
)
# To say that nobody answers; who does takes well below a millisecond.
SILENCE_S = "1"
PATIENCE_S = "20"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    before = observe_footprint()
    async with Lab.create(TOPOLOGY, workdir=tmp_path / "lab") as lab:
        yield lab
    assert observe_footprint().difference(before) == []


async def reached(source: LabNode, target: LabNode, *, within_s: str = PATIENCE_S) -> set[int]:
    """The families in which an echo comes back."""
    found = set()
    for family, address in ((4, target.ipv4), (6, target.ipv6)):
        # Until one is answered: the first may find a link that is not up yet.
        argv = ("ping", "-n", "-c1", "-i0.2", "-W", within_s, "-w", within_s, str(address))
        done = await source.run(*argv, check=False)
        if done.returncode == 0:
            found.add(family)
    return found


async def silent(source: LabNode, target: LabNode) -> bool:
    return not await reached(source, target, within_s=SILENCE_S)


async def test_parts_are_apart_whatever_lies_between_them(lab: Lab) -> None:  # LAB-250
    alice, anna, bob, carol = (lab.node(name) for name in ("alice", "anna", "bob", "carol"))

    await lab.partition(["alice", "carol"], ["anna", "bob"])
    assert await silent(alice, bob)  # through the NAT
    assert await silent(alice, anna)  # in one LAN
    assert await silent(carol, bob)  # at one core
    assert await reached(alice, carol) == {4, 6}
    assert await reached(anna, bob) == {4, 6}

    await lab.partition(["alice"], ["carol"])  # in place of the one before
    assert await silent(alice, carol)
    assert await reached(alice, bob) == await reached(bob, carol) == {4, 6}

    await lab.heal()
    await lab.heal()
    assert await reached(alice, carol) == {4, 6}
