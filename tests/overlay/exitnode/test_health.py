"""Which exits are healthy, from who answered when (EXIT-053)."""

from __future__ import annotations

import pytest

from overlay.exitnode.health import (
    BEACONS_OF_A_FAMILY,
    MAX_STANDBY,
    SILENT_S,
    STANDBY_S,
    STANDBY_SILENT_S,
    Exit,
    Pulses,
)
from overlay.exitnode.policy import Election
from overlay.model import Address, NodeId

BEACON_4, BEACON_6 = Address("198.51.100.1"), Address("2001:db8:1::1")
A, B = NodeId("node1a"), NodeId("node1b")


def exit_(node: NodeId, n: int, draining_until: int | None = None) -> Exit:
    return Exit(node, 0, (BEACON_4, BEACON_6), Address(f"10.1.{n}.1"), draining_until)


EXITS = (exit_(A, 1), exit_(B, 2))
BEGUN = Election(A, since=10.0)


def healthy(pulses: Pulses, *, now: float, election: Election = BEGUN) -> dict[NodeId, bool]:
    found = pulses.contenders(EXITS, election, wall=0.0, now=now)
    return {contender.node: contender.is_healthy for contender in found}


def heard(pulses: Pulses, address: Address, *, asked_at: float, now: float) -> None:
    pulses.note(EXITS, BEGUN, address, asked_at=asked_at, now=now)


def test_the_beacons_go_by_the_one_in_use_and_the_others_are_asked_themselves() -> None:
    pulses = Pulses()
    assert pulses.questions(EXITS, BEGUN, now=10.0) == [Address("10.1.2.1"), BEACON_4, BEACON_6]
    assert pulses.questions(EXITS, BEGUN, now=10.4) == [BEACON_4, BEACON_6]
    assert Address("10.1.2.1") in pulses.questions(EXITS, BEGUN, now=10.0 + STANDBY_S)


def test_who_was_just_elected_has_time_to_prove_itself() -> None:
    pulses = Pulses()
    assert healthy(pulses, now=10.0 + SILENT_S - 0.01)[A]
    assert not healthy(pulses, now=10.0 + SILENT_S)[A]


def test_one_family_that_answers_is_enough_and_silence_of_all_is_not() -> None:
    pulses = Pulses()
    heard(pulses, BEACON_6, asked_at=12.0, now=12.1)
    assert healthy(pulses, now=13.0)[A]
    assert not healthy(pulses, now=12.1 + SILENT_S)[A]


def test_an_answer_that_went_by_the_one_before_says_nothing() -> None:
    pulses = Pulses()
    heard(pulses, BEACON_4, asked_at=9.9, now=20.0)
    assert not healthy(pulses, now=20.0)[A]


def test_one_that_is_not_in_use_is_healthy_while_it_answers_itself() -> None:
    pulses = Pulses()
    assert not healthy(pulses, now=20.0)[B]
    heard(pulses, Address("10.1.2.1"), asked_at=20.0, now=20.05)
    assert healthy(pulses, now=20.0 + STANDBY_SILENT_S)[B]
    assert not healthy(pulses, now=20.05 + STANDBY_SILENT_S)[B]
    found = pulses.contenders(EXITS, BEGUN, wall=0.0, now=21.0)
    assert [c.latency_s is not None for c in found] == [False, True]


def test_the_questions_are_bounded() -> None:
    many = [
        Exit(
            NodeId(f"node1{n:02}"),
            0,
            tuple(Address(f"198.51.100.{k}") for k in range(1, 9)),
            Address(f"10.1.{n}.1"),
        )
        for n in range(16)
    ]
    asked = Pulses().questions(many, Election(many[0].node), now=0.0)
    assert len(asked) == MAX_STANDBY + BEACONS_OF_A_FAMILY


def test_one_that_drains_is_none_after_its_deadline() -> None:
    pulses, draining = Pulses(), [exit_(A, 1, draining_until=100)]
    found = pulses.contenders(draining, BEGUN, wall=99.9, now=10.0)
    assert [c.drains_until for c in found] == [pytest.approx(10.1)]
    assert pulses.contenders(draining, BEGUN, wall=100.0, now=10.0) == []


def test_one_that_drains_is_asked_before_others_and_has_time_to_answer() -> None:  # EXIT-061
    others = [exit_(NodeId(f"node1{n}"), n) for n in range(3, 3 + MAX_STANDBY)]
    exits, election = [*others, *EXITS], Election(B, since=10.0, draining=A)
    pulses = Pulses()
    assert Address("10.1.1.1") in pulses.questions(exits, election, now=10.0)
    assert healthy(pulses, now=10.0 + STANDBY_SILENT_S - 0.01, election=election)[A]
    assert not healthy(pulses, now=10.0 + STANDBY_SILENT_S, election=election)[A]
