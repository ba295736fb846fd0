"""Where UDP is blocked, relays are reached over TCP, and no longer than that (NODE-080 ..)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import pytest

from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet
from netlab.nat import NATS
from overlay.peers.fallback import PROBE_S
from tests.lab.meeting import asking, behind, meeting, until_way, way_from
from tests.lab.scene import measured, until
from zos_core.status import Status

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(280)]

CONE, SYMMETRIC = NATS["port-restricted"], NATS["symmetric"]
RELAYED = ("via relay r1", "via relay r2")
OVER_TCP = tuple(f"{way} over TCP" for way in RELAYED)
WITHIN_S = 60.0


async def until_a_says(fleet: Fleet, ways: Iterable[str]) -> str:
    """How a says that it reaches b, once it is one of these."""

    async def look() -> str:
        found = await way_from(fleet, "a", "b")
        return found if found in ways else ""

    found = await until(look, f"a says one of {ways}", within_s=WITHIN_S, every_s=0.2)
    return str(found)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "blocked"), [(True, False, "a"), (False, True, "ab"), (True, True, "ab")]
)
async def test_blocked_nodes_meet_others_at_a_relay_over_tcp(lab, ipv4, ipv6, blocked):
    # NODE-080, NODE-081, NODE-082, REL-050, REL-051, REL-055
    topology = behind(CONE, CONE, ipv4=ipv4, ipv6=ipv6, blocked=blocked)
    async with meeting(await lab(topology)) as fleet, asking(fleet, ipv6=ipv6) as questions:
        await questions.until_answered(within_s=WITHIN_S)
        await until_a_says(fleet, OVER_TCP)
        assert await way_from(fleet, "b", "a") in (OVER_TCP if "b" in blocked else RELAYED)
        begun = time.monotonic()
        await asyncio.sleep(5)
        assert questions.lost_since(begun) <= 20
        status = await node_socket.ask(fleet.lab.node("a"), "/v1/status", Status)
        assert "udp-blocked" in {item.code for item in status.health}
        (network,) = status.networks
        for relay in network.relays:
            assert (relay.over_tcp, relay.tcp_message, relay.hears_us_at) == (True, "", None)
        (peer,) = network.peers
        assert "UDP is blocked" in peer.relayed_because
        why = await fleet.zos("a", "why", "a", "b", "icmp")
        assert "over TCP: the last resort" in str(why)


async def test_udp_that_is_blocked_midway_and_passes_again(lab):
    # NODE-080, NODE-083
    free, blocked = behind(CONE, CONE), behind(CONE, CONE, blocked="a")
    async with meeting(await lab(free)) as fleet, asking(fleet) as questions:
        await until_way(fleet, "punched")
        await fleet.lab.apply(blocked)
        shut = time.monotonic()
        await until_a_says(fleet, OVER_TCP)
        await questions.until_answered()
        gap_s, lost_at_first = questions.gap_since(shut), questions.lost_since(shut)
        steady = time.monotonic()
        await asyncio.sleep(PROBE_S + 5)  # UDP was asked for in vain
        lost_meanwhile = questions.lost_since(steady)
        await fleet.lab.apply(free)
        opened = time.monotonic()
        await until_a_says(fleet, ("punched", *RELAYED))
        back_s = time.monotonic() - opened
        await until_way(fleet, "punched")
        lost = questions.lost_since(opened)
        measured(
            gap_s=round(gap_s, 1),
            lost_over_tcp=lost_meanwhile,
            back_s=round(back_s, 1),
            lost_by_going_back=lost,
        )
        assert lost_at_first <= 3_000  # two looks, six seconds of silence, a handshake, and room
        assert lost_meanwhile <= 20
        assert lost <= 150  # a second and a half of them, two changes of ways among it


async def test_a_relay_and_a_node_that_start_again_are_found_again_over_tcp(lab):
    # NODE-081, NODE-084
    topology = behind(SYMMETRIC, SYMMETRIC, relays=1, blocked="a")
    async with meeting(await lab(topology)) as fleet, asking(fleet) as questions:
        await questions.until_answered(within_s=WITHIN_S)
        await until_a_says(fleet, OVER_TCP)
        farm = (await fleet.status("a"))["node"]["farm"]
        declared = str(fleet.lab.node("r1").ipv4)
        options = {"r1": ("--endpoint", declared), "a": ()}
        for name in options:
            await fleet.stop_node(name)
            stopped = time.monotonic()
            await fleet.start_node(name, "--farm", farm, *options[name])
            await questions.until_answered(within_s=WITHIN_S)
            measured(**{f"{name}_back_s": round(questions.gap_since(stopped), 1)})
            await until_a_says(fleet, OVER_TCP)


async def test_a_blocked_node_and_a_public_one_meet_at_a_relay(lab):
    # NODE-086
    free = behind(CONE, CONE, relays=1, public=True)
    blocked = behind(CONE, CONE, relays=1, public=True, blocked="a")
    async with meeting(await lab(blocked)) as fleet, asking(fleet) as questions:
        await questions.until_answered(within_s=WITHIN_S)
        assert await until_a_says(fleet, OVER_TCP) == "via relay r1 over TCP"
        assert await way_from(fleet, "b", "a") == "via relay r1"
        await fleet.lab.apply(free)
        await until_a_says(fleet, ("direct",))
        await until_way(fleet, "direct")
        await fleet.lab.apply(blocked)
        shut = time.monotonic()
        await until_a_says(fleet, OVER_TCP)
        await questions.until_answered()
        measured(gap_s=round(questions.gap_since(shut), 1))
