"""The convergence law on the real kernel, and what it looks like from inside (NET-050 ...)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.convergence import BLOWS, Goal, blows, check_law, goals, network_resource
from tests.real_machine import RealMachine

pytestmark = pytest.mark.usefixtures("private_underlay")

REAL_EXAMPLES = 12  # each costs a few devices; the fake machine runs hundreds


async def check_here(before: Goal, done: Sequence[str], after: Goal, dies_after: int) -> None:
    async with RealMachine() as machine:
        await check_law(machine, before=before, done=done, after=after, dies_after=dies_after)


@given(before=goals, done=blows, after=goals, dies_after=st.integers(0, 60))
@settings(
    max_examples=REAL_EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes minutes here
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_converge_reaches_any_goal_from_anywhere(
    before: Goal, done: Sequence[str], after: Goal, dies_after: int
) -> None:  # NET-050, NET-051, NET-052
    asyncio.run(check_here(before, done, after, dies_after))


# The others never come near WireGuard.
ON_A_DEVICE = {
    "half born",
    "other key",
    "other listen port",
    "peers dropped",
    "restarted",
    "unpinned",
}


def is_on_a_device(blow: str) -> bool:
    return blow in ON_A_DEVICE or "wg" in blow or "peer" in blow


@pytest.mark.parametrize(
    "blow",
    [
        pytest.param(blow, marks=() if is_on_a_device(blow) else pytest.mark.any_backend)
        for blow in sorted(BLOWS)
    ],
)
def test_converge_repairs_each_blow(blow: str) -> None:  # NET-053
    goal = Goal(
        present=True,
        key=0,
        resource=network_resource(),
        peers=(),
        hosts=((2, "wa"), (3, "wb")),
        devices=(),
        drains=20,
    )
    asyncio.run(check_here(goal, [blow], goal, dies_after=1000))
