"""A network is left by one exit at a time, or not at all."""

from __future__ import annotations

import asyncio
import time

import pytest

from netlab.topology import Workload
from tests.lab.leaving import (
    HOST_4,
    HOST_6,
    SOURCES,
    asking_outside,
    network_status,
    offer,
    topology,
    unplug,
    with_exits,
)
from tests.lab.scene import measured, until

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]


async def test_a_workload_gets_the_internet_from_an_exit_and_from_the_next_when_it_fails(lab):
    # EXIT-040, EXIT-051, EXIT-052, EXIT-053, EXIT-054
    async with with_exits(await lab(topology())) as fleet, asking_outside(fleet) as answers:
        alice = fleet.person("alice", at="registry")
        argv = ("network", "exit", "set", "home", "e1", "e2", "--registry", fleet.registry)
        await alice.zos(*argv)
        await asyncio.sleep(2)
        assert answers.heard == []  # nobody offers them
        began = time.monotonic()
        await offer(fleet, "e1")

        async def heard() -> bool:
            return "e1" in answers.by_since(began)

        await until(heard, "the first exit", within_s=20)
        offered_s = answers.first_by("e1", since=began)
        assert answers.sources == {SOURCES["e1", HOST_4]}
        await offer(fleet, "e2")
        async with asking_outside(fleet, HOST_6) as v6:
            since = time.monotonic()

            async def both() -> bool:
                return v6.by_since(since) == {"e1"}

            await until(both, "IPv6 as well", within_s=10)
        assert (await network_status(fleet, "n1")).way_out.exit == "e1"
        await asyncio.sleep(3)
        await unplug(fleet, "e1")
        cut = time.monotonic()

        async def moved() -> bool:
            return "e2" in answers.by_since(cut)

        await until(moved, "the next exit", within_s=20)
        measured(offered_s=offered_s, next_exit_s=answers.first_by("e2", since=cut), host=HOST_4)
        way = (await network_status(fleet, "n1")).way_out
        assert (way.exit, way.failed) == ("e2", ("e1",))
        await fleet.lab.node("e2").kill()
        gone = time.monotonic()
        await asyncio.sleep(3)
        silent = time.monotonic()
        await asyncio.sleep(2)
        assert answers.by_since(silent) == set(), gone


async def test_what_is_on_a_node_leaves_by_the_node_itself_and_nobody_else_does(lab):
    # EXIT-066
    scene = topology(Workload("db", "e1"))
    async with (
        with_exits(await lab(scene)) as fleet,
        asking_outside(fleet) as web,
        asking_outside(fleet, HOST_6, workload="db", at="e1") as db,
    ):
        alice = fleet.person("alice", at="registry")
        argv = ("network", "exit", "set", "home", "--registry", fleet.registry)
        await alice.zos(*argv, "--local")
        began = time.monotonic()
        await asyncio.sleep(2)
        assert (web.heard, db.heard) == ([], [])  # no operator offers anything
        await offer(fleet, "e1")

        async def left() -> bool:
            return db.by_since(began) == {"e1"}

        await until(left, "the node's own way", within_s=20)
        assert db.sources == {SOURCES["e1", HOST_6]}
        await asyncio.sleep(2)
        assert web.heard == []  # n1 is not offered, and e1 serves nobody but itself
        await alice.zos(*argv, "e2", "--local")
        await offer(fleet, "e2")
        named = time.monotonic()

        async def both() -> bool:
            return (web.by_since(named), db.by_since(named)) == ({"e2"}, {"e1"})

        await until(both, "the named exit for who has none, its own for who has one", within_s=20)
        assert web.sources == {SOURCES["e2", HOST_4]}
