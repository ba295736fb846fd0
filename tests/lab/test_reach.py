"""Nodes behind NATs reach each other: by a relay at once, straight when both can open the way."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress

import pytest

from netlab.fleet.fleet import Fleet
from netlab.nat import NATS
from tests.lab.meeting import ANSWERER, ASKER, asking, behind, meeting, until_way
from tests.lab.scene import measured

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]

RELAYED = ("via relay r1", "via relay r2")
ETH_P_ALL = 0x0003  # linux/if_ether.h
DISCARD_PORT = 9  # RFC 863
WORDS = b"nobody but the two of us may read this " * 8
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
    # NODE-070, NODE-074, NODE-075, REL-036
    topology = behind(SYMMETRIC, SYMMETRIC)
    async with meeting(await lab(topology)) as fleet, asking(fleet) as questions:
        await questions.until_answered()
        begun = time.monotonic()
        used = await until_way(fleet, *RELAYED)
        await asyncio.sleep(6)  # both sides have tried
        assert await until_way(fleet, *RELAYED) == used
        lost = questions.lost_since(begun)
        assert await seen_at(fleet, used.split()[-1], "") == (True, False)
        assert await seen_at(fleet, "a", fleet.inside[ASKER].netns) == (True, True)
        await fleet.lab.node(used.split()[-1]).kill()
        killed = time.monotonic()
        await questions.until_answered()
        assert await until_way(fleet, *RELAYED) != used
        measured(lost_by_trying=lost, by_the_next_relay_s=round(questions.gap_since(killed), 2))


async def seen_at(fleet: Fleet, node: str, netns: str) -> tuple[bool, bool]:
    """Whether packets pass there, and whether any of them holds a tenant's words."""
    web, db = fleet.inside[ASKER], fleet.inside[ANSWERER]
    at = fleet.lab.node(node)
    with at.in_netns(netns):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with fleet.lab.node("a").in_netns(web.netns):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with tap, udp:
        tap.setblocking(False)
        frames: list[bytes] = []
        for _ in range(50):
            udp.sendto(WORDS, (db.v4, DISCARD_PORT))
            await asyncio.sleep(0.01)
            with suppress(BlockingIOError):
                while True:
                    frames.append(tap.recv(2_048))
        return len(frames) >= 50, any(WORDS in frame for frame in frames)


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
