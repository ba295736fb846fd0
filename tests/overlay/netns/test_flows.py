"""Which flows are forgotten when rules change (PUB-025); that they are is tried in tests/kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from overlay.netns.flows import CHAIN, WHERE_MASK, forgotten, mark_of, marked
from overlay.netns.nftjson import meta, put
from overlay.netns.state import Firewall

MARKS = st.sets(st.integers(1, 0xFFFFFFFF), max_size=8)


def listing(*statements: dict[str, Any], chain: str = CHAIN) -> Firewall:
    """As the kernel lists a ruleset: counters, chains, rules."""
    rules = [{"rule": {"chain": chain, "expr": [s, {"accept": None}]}} for s in statements]
    objects = [{"chain": {"name": chain}}, {"counter": {"name": "up"}}, *rules]
    return Firewall(msgspec.json.encode(objects).decode())


def single(marks: Iterable[int]) -> Firewall:
    return listing(*map(marked, marks))


@given(MARKS, MARKS)
def test_what_no_rule_marks_any_more_is_forgotten(before: set[int], after: set[int]) -> None:
    expected = tuple(sorted(before - after))
    assert forgotten(before=single(before), after=single(after)) == expected


def test_at_first_there_is_nothing_to_forget() -> None:
    assert forgotten(before=None, after=single([7])) == ()
    assert forgotten(before=Firewall("no rules of ours"), after=single([7])) == ()


def test_marks_of_other_rules_are_not_ours_to_forget() -> None:
    # Those of flows that go on at an exit that drains (EXIT-060), and of packets.
    other = listing(marked(7), chain="mark_flows")
    assert forgotten(before=other, after=single([])) == ()
    assert forgotten(before=listing(put(meta("mark"), 7)), after=single([])) == ()


def test_a_mark_says_where_and_is_never_nothing() -> None:
    where = [("tcp", 8080, "10.1.2.2", 80), ("udp", 8080, "10.1.2.2", 80), ("tcp", 8080, "a")]
    marks = [mark_of(*each) for each in where]
    assert len(set(marks)) == len(where)
    assert marks == [mark_of(*each) for each in where]
    assert all(0 < mark == mark & WHERE_MASK for mark in marks)
