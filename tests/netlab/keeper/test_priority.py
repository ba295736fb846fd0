"""The pump goes before others for as long as it leaves them a processor."""

from __future__ import annotations

from netlab.keeper.priority import SHARE_BACK, SHARE_MAX, WINDOW_NS, Priority


def test_priority_is_lost_above_a_share_and_comes_back_below_another():  # LAB-268
    priority = Priority(0, 0)
    at, used = 0, 0

    def window(share: float) -> bool:
        nonlocal at, used
        at += WINDOW_NS
        used += int(WINDOW_NS * share)
        assert priority.is_due(at)
        return priority.step(at, used)

    assert not window(SHARE_MAX)
    assert priority.is_real_time
    assert window(SHARE_MAX + 0.01)
    assert not priority.is_real_time
    assert not window(1.0)
    assert not window(SHARE_BACK)
    assert not priority.is_real_time
    assert window(SHARE_BACK - 0.01)
    assert priority.is_real_time


def test_priority_is_judged_by_whole_windows():  # LAB-268
    priority = Priority(5, 5)
    assert not priority.is_due(5 + WINDOW_NS - 1)
    assert priority.is_due(5 + WINDOW_NS)
    # A long sleep is part of the window that ends with it.
    assert not priority.step(5 + 10 * WINDOW_NS, 5 + 5 * WINDOW_NS)
    assert priority.step(5 + 11 * WINDOW_NS, 6 + 5 * WINDOW_NS + WINDOW_NS // 2)
