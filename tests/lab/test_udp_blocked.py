"""Where UDP is blocked, relays are reached over TCP, and no longer than that (NODE-080 ..)."""

from __future__ import annotations

import pytest

from netlab.nat import NATS
from tests.lab.meeting import asking, behind, meeting, way_from

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]

CONE = NATS["port-restricted"]
RELAYED = ("via relay r1", "via relay r2")


async def test_a_blocked_node_meets_others_at_a_relay_over_tcp(lab):
    # NODE-080, NODE-081, NODE-082, REL-050, REL-051
    async with meeting(await lab(behind(CONE, CONE, blocked="a"))) as fleet, asking(fleet) as q:
        await q.until_answered(within_s=60)
        assert (await way_from(fleet, "a", "b")).removesuffix(" over TCP") in RELAYED
        assert (await way_from(fleet, "a", "b")).endswith(" over TCP")
        assert await way_from(fleet, "b", "a") in RELAYED
