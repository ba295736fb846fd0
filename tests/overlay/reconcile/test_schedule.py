"""When the next pass is made, and for which reasons (NODE-021 .. NODE-024)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from overlay.reconcile.schedule import (
    CALM_MAX_S,
    DOCUMENTS,
    FULL_PASS_S,
    HURRY_SHARE,
    INTERVAL,
    LOOK_MIN_S,
    LOOK_SHARE,
    NOTIFICATION,
    POLL,
    START,
    Schedule,
    most_telling,
)


class HandClock:
    """Moved by the test."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def schedule(clock: HandClock) -> Schedule:
    """After its first pass, which cost next to nothing."""
    schedule = Schedule(clock, lambda: 0.5)
    assert await schedule.next_reasons() == {START, INTERVAL}
    schedule.passed(cost_s=0.0)
    return schedule


async def test_looks_come_often_and_full_passes_now_and_then(
    schedule: Schedule, clock: HandClock
) -> None:
    clock.at += LOOK_MIN_S
    assert await schedule.next_reasons() == {POLL}
    schedule.looked(cost_s=0.0)
    clock.at += FULL_PASS_S
    assert await schedule.next_reasons() == {INTERVAL}


async def test_documents_do_not_wait(schedule: Schedule) -> None:
    schedule.wake(DOCUMENTS)
    assert await schedule.next_reasons() == {DOCUMENTS}


async def test_looks_take_their_share_of_a_core_and_no_more(
    schedule: Schedule, clock: HandClock
) -> None:  # NODE-021
    schedule.sharers = 2
    schedule.looked(cost_s=LOOK_MIN_S * LOOK_SHARE)  # so two may look half as often
    clock.at += 1.5 * LOOK_MIN_S
    schedule.wake(DOCUMENTS)
    assert await schedule.next_reasons() == {DOCUMENTS}
    clock.at += 0.5 * LOOK_MIN_S
    assert await schedule.next_reasons() == {POLL}


async def test_somebody_waited_for_is_looked_at_earlier(
    schedule: Schedule, clock: HandClock
) -> None:
    schedule.look_by(clock.at + LOOK_MIN_S / 5)
    clock.at += LOOK_MIN_S / 5
    assert await schedule.next_reasons() == {POLL}


async def test_who_is_waited_for_takes_a_twentieth_of_a_core_at_most(
    schedule: Schedule, clock: HandClock
) -> None:  # NODE-021
    schedule.looked(cost_s=0.01)
    schedule.look_by(clock.at)
    clock.at += 0.01 / HURRY_SHARE - 0.001
    schedule.wake(DOCUMENTS)
    assert await schedule.next_reasons() == {DOCUMENTS}
    clock.at += 0.001
    assert await schedule.next_reasons() == {POLL}


async def test_a_failed_pass_is_made_again_after_the_wait(
    schedule: Schedule, clock: HandClock
) -> None:  # NODE-024
    schedule.failed(wait_s=7.0)
    clock.at += 7.0
    assert await schedule.next_reasons() == {INTERVAL}


async def test_a_network_with_nothing_to_look_at_rests(
    schedule: Schedule, clock: HandClock
) -> None:
    schedule.rest()
    clock.at += LOOK_MIN_S
    schedule.wake(DOCUMENTS)
    assert await schedule.next_reasons() == {DOCUMENTS}


async def test_documents_do_not_wait_for_the_calm_that_notifications_wait_for(
    schedule: Schedule, clock: HandClock
) -> None:  # NODE-023
    schedule.passed(cost_s=CALM_MAX_S)
    schedule.wake(NOTIFICATION)
    schedule.wake(DOCUMENTS)
    assert await schedule.next_reasons() == {NOTIFICATION, DOCUMENTS}


def test_a_pass_is_called_by_what_tells_most() -> None:
    assert most_telling({DOCUMENTS, NOTIFICATION, POLL}) == NOTIFICATION
    assert most_telling({DOCUMENTS, POLL}) == POLL
    assert most_telling({DOCUMENTS}) == DOCUMENTS
