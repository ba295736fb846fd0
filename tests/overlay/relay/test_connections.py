"""Who may have a TCP connection to a relay, how many, and for how long (REL-052)."""

from __future__ import annotations

import pytest

from overlay.relay.connections import (
    ALL_CALLS,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ORIGIN,
    MAX_UNPROVEN,
    ORIGIN_CALLS,
    PROOF_S,
    Connections,
    End,
)
from overlay.relay.limits import STREAM_PARTS, Place


def nobody(_: Place) -> bool:
    return False


def test_each_connection_has_a_place_of_its_own() -> None:
    found = Connections(0.0)
    places = {found.admit("192.0.2.1", 4_000, 0.0) for _ in range(3)}
    assert None not in places
    assert len(places) == 3
    assert all(place is not None and len(place) == STREAM_PARTS for place in places)


@pytest.mark.parametrize("same", [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::2:1")])
def test_an_origin_has_so_many_at_the_same_time_and_not_one_more(same: tuple[str, str]) -> None:
    found, now = Connections(0.0), 0.0
    places = []
    for port in range(MAX_CONNECTIONS_PER_ORIGIN):
        now += 1.0 / ORIGIN_CALLS.per_s
        places.append(found.admit(same[port % 2], port, now))
    assert None not in places
    assert found.admit(same[0], 9_999, now + 60.0) is None
    assert found.ends[End.ORIGIN_FULL] == 1
    assert found.admit("198.51.100.1", 1, now + 60.0) is not None
    found.leave(places[0] or ("", 0, 0))
    assert found.admit(same[0], 9_999, now + 120.0) is not None


def test_all_together_have_so_many_and_not_one_more() -> None:
    found, now = Connections(0.0), 0.0
    for number in range(MAX_CONNECTIONS):
        now += 1.0 / ALL_CALLS.per_s
        assert found.admit(f"198.51.{number >> 8}.{number & 255}", 1, now) is not None
    assert found.admit("192.0.2.1", 1, now + 60.0) is None
    assert (len(found), found.ends[End.FULL]) == (MAX_CONNECTIONS, 1)


def test_an_origin_calls_so_often_and_others_are_not_held_responsible() -> None:
    found = Connections(0.0)
    for port in range(int(ORIGIN_CALLS.burst)):
        place = found.admit("192.0.2.1", port, 0.0)
        assert place is not None
        found.leave(place)
    assert found.admit("192.0.2.1", 1, 0.0) is None
    assert found.ends[End.LIMITED] == 1
    assert found.admit("192.0.2.2", 1, 0.0) is not None
    assert found.admit("192.0.2.1", 1, 1.0 / ORIGIN_CALLS.per_s) is not None


def test_all_together_call_so_often() -> None:
    found = Connections(0.0)
    for number in range(int(ALL_CALLS.burst)):
        assert found.admit(f"198.51.100.{number & 255}", number, 0.0) is not None
    assert found.admit("192.0.2.1", 1, 0.0) is None
    assert found.ends[End.LIMITED] == 1


def test_a_connection_on_which_nobody_is_heard_is_overdue() -> None:
    found = Connections(0.0)
    place = found.admit("192.0.2.1", 1, 0.0)
    assert found.overdue(nobody, PROOF_S - 0.1) == []
    assert found.overdue(nobody, PROOF_S) == [place]


def test_one_on_which_somebody_was_heard_has_the_same_time_again() -> None:
    found = Connections(0.0)
    place = found.admit("192.0.2.1", 1, 0.0)
    assert found.overdue(lambda _: True, 1_000.0) == []
    assert found.overdue(nobody, 1_000.0 + PROOF_S - 0.1) == []
    assert found.overdue(nobody, 1_000.0 + PROOF_S) == [place]


def test_so_much_may_be_said_before_a_member_is_heard() -> None:
    found = Connections(0.0)
    place = found.admit("192.0.2.1", 1, 0.0)
    assert place is not None
    assert all(found.may_say(place, is_heard=False) for _ in range(MAX_UNPROVEN))
    assert not found.may_say(place, is_heard=False)
    assert found.may_say(place, is_heard=True)
    assert found.may_say(place, is_heard=False)


def test_who_has_left_says_nothing_and_is_forgotten() -> None:
    found = Connections(0.0)
    place = found.admit("192.0.2.1", 1, 0.0)
    assert place is not None
    found.leave(place)
    found.leave(place)
    assert len(found) == 0
    assert not found.may_say(place, is_heard=True)
    assert found.overdue(nobody, 1_000.0) == []


def test_origins_that_come_and_go_leave_nothing() -> None:
    found = Connections(0.0)
    for number in range(2_000):
        at = number / ALL_CALLS.per_s
        place = found.admit(f"2001:db8:{number:x}::1", 1, at)
        assert place is not None
        found.leave(place)
    assert (len(found), found.origins) == (0, 0)
