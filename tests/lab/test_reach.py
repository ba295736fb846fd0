"""Nodes behind NATs reach each other: by a relay at once, straight when both can open the way."""

from __future__ import annotations

import asyncio
import time

import pytest

from netlab.nat import NATS
from tests.lab.meeting import asking, behind, meeting, until_way
from tests.lab.scene import measured

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]

RELAYED = ("via relay r1", "via relay r2")
CONE, SYMMETRIC = NATS["port-restricted"], NATS["symmetric"]


async def test_a_pair_leaves_its_relay_and_comes_back_to_it(lab):
    # NODE-070, NODE-071, NODE-072, NODE-073, NODE-075
    async with meeting(await lab(behind(CONE, CONE))) as fleet, asking(fleet) as questions:
        await questions.until_answered()
        begun = time.monotonic()
        await until_way(fleet, "punched")
        await asyncio.sleep(2)
        lost = questions.lost_since(begun)
        assert lost <= 100  # one second of them
        await fleet.lab.partition(["a"], ["b"])
        broken = time.monotonic()
        await questions.until_answered()
        gap_s = questions.gap_since(broken)
        await until_way(fleet, *RELAYED)
        await fleet.lab.heal()
        await until_way(fleet, "punched")
        measured(lost_while_leaving=lost, back_on_the_relay_s=round(gap_s, 2))


async def test_who_cannot_open_the_way_stays_at_the_relay_and_goes_to_the_next(lab):
    # NODE-070, NODE-074, NODE-075
    topology = behind(SYMMETRIC, SYMMETRIC)
    async with meeting(await lab(topology)) as fleet, asking(fleet) as questions:
        await questions.until_answered()
        begun = time.monotonic()
        used = await until_way(fleet, *RELAYED)
        await asyncio.sleep(6)  # both sides have tried
        assert await until_way(fleet, *RELAYED) == used
        lost = questions.lost_since(begun)
        await fleet.lab.node(used.split()[-1]).kill()
        killed = time.monotonic()
        await questions.until_answered()
        assert await until_way(fleet, *RELAYED) != used
        measured(lost_by_trying=lost, by_the_next_relay_s=round(questions.gap_since(killed), 2))


async def test_neighbours_behind_one_router_meet_on_their_lan(lab):
    # NODE-072
    topology = behind(SYMMETRIC, SYMMETRIC, relays=1, same_lan=True)
    async with meeting(await lab(topology)) as fleet, asking(fleet) as questions:
        await questions.until_answered()
        await until_way(fleet, "direct lan")


async def test_firewalls_for_ipv6_open_when_both_sides_send(lab):
    # NODE-072
    topology = behind(SYMMETRIC, SYMMETRIC, relays=1, ipv6=True, stateful=True)
    async with meeting(await lab(topology)) as fleet, asking(fleet, ipv6=True) as questions:
        await questions.until_answered()
        await until_way(fleet, "punched")
