"""Which exit a network resource uses (EXIT-054 .. EXIT-056)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.exitnode.policy import STEADY_S, Contender, Election, elect
from overlay.model import NodeId

A, B, C = (NodeId(f"node1{name}") for name in "abc")


def there(
    node: NodeId,
    order: int = 0,
    *,
    ok: bool = True,
    drains: float | None = None,
    ms: float | None = None,
) -> Contender:
    latency_s = None if ms is None else ms / 1000
    return Contender(node, order, is_healthy=ok, drains_until=drains, latency_s=latency_s)


def elected(*contenders: Contender, before: Election | None = None, now: float = 0.0) -> Election:
    return elect(before or Election(), contenders, now=now)


@pytest.mark.parametrize(
    ("contenders", "expected"),
    [
        ((there(A, 1), there(B, 0)), B),
        ((there(A, ms=30), there(B, ms=10)), B),
        ((there(A), there(B, ms=90)), B),
        ((there(B), there(A)), A),
        ((there(A, ok=False), there(B, 9)), B),
        ((there(A, ok=False), there(B, ok=False)), A),
        ((there(A, drains=60.0), there(B, 9)), B),
        ((there(A, drains=60.0),), None),
        ((), None),
    ],
)
def test_the_first_choice(contenders: tuple[Contender, ...], expected: NodeId | None) -> None:
    assert elected(*contenders).elected == expected


def test_the_one_in_use_is_kept_while_it_is_healthy() -> None:
    begun = elected(there(B, 5))
    assert elected(there(A, 0, ms=1), there(B, 5, ms=900), before=begun, now=500.0) is begun


def test_one_that_fails_gives_way_at_once_and_is_taken_again_after_a_minute_without_failure() -> (
    None
):
    first = elected(there(A), there(B, 1))
    second = elected(there(A, ok=False), there(B, 1), before=first, now=1.0)
    assert (second.elected, second.since, second.reason) == (B, 1.0, "the one before failed")
    failing = elected(there(A), there(B, 1, ok=False), before=second, now=STEADY_S)
    assert failing.elected == B  # a has failed within the minute
    back = elected(there(A), there(B, 1, ok=False), before=failing, now=1.0 + STEADY_S)
    assert back.elected == A


def test_with_nobody_to_take_the_one_in_use_stays() -> None:
    begun = elected(there(A))
    assert elected(there(A, ok=False), before=begun, now=9.0).elected == A
    assert elected(there(A, ok=False), there(B, ok=False), before=begun, now=9.0).elected == A


def test_what_is_no_exit_any_more_is_left_at_once() -> None:
    begun = elected(there(A))
    assert elected(there(B, 7), before=begun, now=1.0).elected == B
    assert elected(before=begun, now=1.0).elected is None


def test_when_nothing_leaves_nobody_waits_for_a_minute_without_failure() -> None:
    first = elected(there(A), there(B, 1))
    second = elected(there(A, ok=False), there(B, 1), before=first, now=10.0)
    assert second.elected == B
    gone = elected(there(A), before=second, now=30.0)  # b was withdrawn
    assert gone.elected == A
    alone = elected(there(A, ok=False), before=elected(there(A)), now=10.0)
    nobody = elected(before=alone, now=11.0)
    assert nobody.elected is None
    assert elected(there(A, ok=False), before=nobody, now=12.0).elected == A


def test_one_that_drains_is_left_for_another_and_kept_without() -> None:
    begun = elected(there(A))
    moved = elected(there(A, drains=60.0), there(B, 9), before=begun, now=1.0)
    assert (moved.elected, moved.reason) == (B, "the one before drains")
    assert (moved.draining, moved.draining_until) == (A, 60.0)
    alone = elected(there(A, drains=60.0), there(B, ok=False), before=begun, now=1.0)
    assert (alone.elected, alone.draining) == (A, None)


def moved_from_a() -> Election:
    return elected(there(A, drains=60.0), there(B, 9), before=elected(there(A)), now=1.0)


@pytest.mark.parametrize(
    ("contenders", "now", "draining"),
    [
        ((there(A, drains=60.0), there(B)), 59.9, A),
        ((there(A, drains=60.0), there(B)), 60.0, None),  # its deadline
        ((there(A, drains=90.0), there(B)), 60.0, A),  # it said another one
        ((there(A), there(B)), 59.9, A),  # it drains no more: what began there may end there
        ((there(A), there(B)), 60.0, None),
        ((there(A, ok=False, drains=60.0), there(B)), 2.0, None),  # it died
        ((there(B),), 2.0, None),  # it was withdrawn
        ((there(A, drains=60.0), there(B, ok=False), there(C)), 2.0, A),  # the next one failed
        (
            (there(A, drains=60.0), there(B, drains=70.0), there(C)),
            2.0,
            B,
        ),  # there is one at a time
        ((there(A), there(B, ok=False)), 2.0, None),  # it is the one in use again
        ((), 2.0, None),
    ],
)
def test_what_began_at_one_that_drains_goes_on_there_until_its_deadline(
    contenders: tuple[Contender, ...], now: float, draining: NodeId | None
) -> None:  # EXIT-060, EXIT-061
    assert elected(*contenders, before=moved_from_a(), now=now).draining == draining


def test_what_drains_is_no_news_while_nothing_changes() -> None:
    moved = moved_from_a()
    assert elected(there(A, drains=60.0), there(B), before=moved, now=30.0) is moved


_LOOKS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=400)


@given(_LOOKS)
def test_exits_that_come_and_go_are_each_left_once_a_minute_at_most(
    looks: list[tuple[bool, bool, bool]],
) -> None:
    election, left = Election(), dict.fromkeys((A, B, C), -STEADY_S)
    for n, healthy in enumerate(looks):
        now = n * 0.4
        contenders = [there(node, ok=ok) for node, ok in zip((A, B, C), healthy, strict=True)]
        before, election = election, elect(election, contenders, now=now)
        if before.elected is not None and election.elected != before.elected:
            assert now - left[before.elected] >= STEADY_S
            left[before.elected] = now


@given(_LOOKS, st.integers(0, 2))
def test_a_dead_one_is_never_taken_while_a_live_one_may_be(
    looks: list[tuple[bool, bool, bool]], alive: int
) -> None:
    election, names = Election(), (A, B, C)
    for n, healthy in enumerate(looks):
        flags = [ok or which == alive for which, ok in enumerate(healthy)]
        contenders = [there(node, ok=ok) for node, ok in zip(names, flags, strict=True)]
        before, election = election, elect(election, contenders, now=n * 0.4)
        assert election.elected in names
        if election.elected != before.elected:
            assert flags[names.index(election.elected)]


def test_one_that_failed_and_was_no_exit_for_a_while_waits_for_its_minute_all_the_same() -> None:
    """EXIT-055: an operator drained it past its deadline, and offered it anew."""
    first = elected(there(A), there(B, 1))
    second = elected(there(A, ok=False), there(B, 1), before=first, now=1.0)
    alone = elected(there(B, 1), before=second, now=2.0)
    assert elected(there(A), there(B, 1, ok=False), before=alone, now=STEADY_S).elected == B
    assert elected(there(A), there(B, 1, ok=False), before=alone, now=STEADY_S + 1.0).elected == A
