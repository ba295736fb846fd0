"""Waits grow, end growing, and differ from node to node (NODE-024, NODE-025)."""

from __future__ import annotations

import pytest

from overlay.reconcile.backoff import FIRST_S, MOST_S, Backoff, spread


def test_waits_double_up_to_a_bound_and_begin_anew() -> None:
    backoff = Backoff(lambda: 0.5)
    waits = [backoff.next_s() for _ in range(40)]
    assert waits[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert waits[-1] == MOST_S
    backoff.reset()
    assert backoff.next_s() == FIRST_S


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 24.0), (0.5, 30.0), (1.0, 36.0)])
def test_chance_moves_a_wait_by_a_fifth(random: float, seconds: float) -> None:
    assert spread(30.0, random) == pytest.approx(seconds)
