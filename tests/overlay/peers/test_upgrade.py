"""From a relay to a better way (NODE-072 .. NODE-074)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.model import Address, Endpoint
from overlay.peers import upgrade
from overlay.peers.upgrade import (
    FIRST_TRIES_S,
    LOOK_S,
    MAX_ASSERTIONS,
    MAX_TARGETS,
    OTHER_TRIES_S,
    ROUNDS_S,
    TRIAL_S,
    Act,
    Phase,
    Upgrade,
    begin_upgrade,
    retry_later,
)

RELAY, NEAR, FAR = (Endpoint(Address(f"192.0.2.{n}"), 51820) for n in (1, 2, 3))
WALL = 1_000_000.0


def look(
    state: Upgrade, *, now: float, seen: Endpoint = RELAY, heard: int = 0, begins: bool = True
) -> tuple[Upgrade, Act]:
    return upgrade.look(
        state,
        seen=seen,
        by_relay=seen == RELAY,
        heard_bytes=heard,
        begins=begins,
        offset=7,
        wall=WALL + now,
        now=now,
    )


def trying(*targets: Endpoint, begins: bool = True) -> tuple[Upgrade, float]:
    """The first target was just written."""
    state, act = look(begin_upgrade(targets, now=0.0), now=0.0, begins=begins)
    assert act.opens == targets
    now = 0.0
    while state.phase is Phase.OPENING:
        now = state.due
        state, act = look(state, now=now, begins=begins)
    assert act.go == targets[0]
    return state, now


def test_both_sides_open_before_one_tries_and_the_other_tries_later() -> None:
    assert trying(NEAR)[1] == pytest.approx(FIRST_TRIES_S)
    assert trying(NEAR, begins=False)[1] == pytest.approx(OTHER_TRIES_S)
    assert OTHER_TRIES_S > FIRST_TRIES_S + TRIAL_S


def test_what_answers_is_proven() -> None:
    state, now = trying(NEAR, FAR)
    state, act = look(state, now=now, seen=NEAR, heard=500)
    assert act == Act(ask=True)
    state, act = look(state, now=now + LOOK_S, seen=NEAR, heard=564)
    assert act == Act(proven=NEAR)
    assert state.phase is Phase.WAITING


def test_what_was_heard_before_it_was_written_proves_nothing() -> None:
    state, now = trying(NEAR)
    state, act = look(state, now=now, seen=NEAR, heard=5_000)
    state, act = look(state, now=now + LOOK_S, seen=NEAR, heard=5_000)
    assert act == Act()


def test_what_came_by_the_relay_proves_nothing_and_it_is_written_again() -> None:
    state, now = trying(NEAR)
    for _ in range(MAX_ASSERTIONS - 1):
        state, act = look(state, now=now, seen=RELAY, heard=9_000)
        assert act == Act(go=NEAR)
    state, act = look(state, now=now, seen=RELAY, heard=9_999)
    assert act == Act()


def test_an_answer_from_another_port_of_the_peer_is_proof() -> None:
    state, now = trying(NEAR)
    state, act = look(state, now=now, seen=FAR, heard=500)
    assert (act, state.phase) == (Act(proven=FAR), Phase.WAITING)


def test_without_an_answer_the_next_is_tried_and_then_the_relay_is_back() -> None:
    state, now = trying(NEAR, FAR)
    state, _ = look(state, now=now, seen=NEAR)
    state, act = look(state, now=now + TRIAL_S + 0.001, seen=NEAR)
    assert act == Act(go=FAR)
    state, act = look(state, now=now + 2 * TRIAL_S + 0.002, seen=FAR)
    assert (act, state.phase, state.rounds) == (Act(back=True), Phase.WAITING, 1)


def test_a_relay_that_is_back_already_is_not_written() -> None:
    state, now = trying(NEAR)
    state, act = look(state, now=now + TRIAL_S + 0.001, seen=RELAY)
    assert act == Act(back=False)


@given(st.floats(0, 10_000), st.floats(0, 5), st.integers(1, 6))
def test_rounds_of_both_sides_meet(wall: float, late_s: float, rounds: int) -> None:
    """Sides that failed within one interval of each other begin the next round together."""
    starts = [
        upgrade._next_round(rounds, offset=7, wall=wall + d, now=wall + d) for d in (0.0, late_s)
    ]
    grid_s = ROUNDS_S[min(rounds, len(ROUNDS_S) - 1)]
    assert all(
        abs((start - 7) % grid_s) < 1e-3 or grid_s - (start - 7) % grid_s < 1e-3 for start in starts
    )
    assert abs(starts[0] - starts[1]) < 1e-3 or abs(abs(starts[0] - starts[1]) - grid_s) < 1e-3


def test_rounds_become_rare_and_are_bounded() -> None:
    state, count, now = begin_upgrade((NEAR,), now=0.0), 0, 0.0
    while now < 86_400.0:
        state, act = look(state, now=now, seen=state.target or RELAY)
        count += act.go is not None
        now = max(state.due, now + LOOK_S / 2)
    assert 80 <= count <= 86_400 / ROUNDS_S[-1] + len(ROUNDS_S) + 1


def test_a_round_has_so_many_targets_at_most() -> None:
    many = tuple(Endpoint(Address("192.0.2.9"), 1_000 + n) for n in range(MAX_TARGETS + 3))
    assert begin_upgrade(many, now=0.0).targets == many[:MAX_TARGETS]
    assert retry_later(many, offset=0, wall=WALL, now=0.0).targets == many[:MAX_TARGETS]


def test_a_way_that_broke_is_not_tried_at_once() -> None:
    state = retry_later((NEAR,), offset=7, wall=WALL, now=0.0)
    assert 0.0 < state.due <= ROUNDS_S[1]
    assert look(state, now=state.due - 0.01) == (state, Act())


def test_without_anything_better_nothing_happens() -> None:
    state = begin_upgrade((), now=0.0)
    assert look(state, now=1_000.0) == (state, Act())
