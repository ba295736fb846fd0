"""What is on record stays bounded, and the newest win (NODE-029)."""

from __future__ import annotations

from datetime import UTC, datetime

from overlay.errors import Refused
from overlay.reconcile.journal import MAX_REFUSALS, MAX_REPAIRS, Journal, Repair

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_refusals_are_bounded_and_the_newest_stay() -> None:
    journal = Journal()
    for n in range(MAX_REFUSALS + 5):
        journal.refuse(f"network/{n}", Refused("no"), now=NOW)
    assert len(journal.refusals) == MAX_REFUSALS
    assert journal.refusals[-1].key == f"network/{MAX_REFUSALS + 4}"
    assert journal.refusals[0].key == "network/5"


def test_the_same_refusal_again_is_counted_and_not_news() -> None:
    journal = Journal()
    assert journal.refuse("farm/f", Refused("no"), now=NOW)
    assert not journal.refuse("farm/f", Refused("no"), now=NOW)
    assert journal.refusals[0].count == 2
    assert journal.refuse("farm/f", Refused("never"), now=NOW)


def test_a_document_that_is_good_now_is_off_the_record() -> None:
    journal = Journal()
    journal.refuse("farm/f", Refused("no"), now=NOW)
    journal.accept("farm/f")
    assert journal.refusals == ()


def test_a_strangers_key_is_cut() -> None:
    journal = Journal()
    journal.refuse("x" * 10_000, Refused("no"), now=NOW)
    assert len(journal.refusals[0].key) < 200


def test_repairs_are_bounded_and_the_newest_stay() -> None:
    journal = Journal()
    for n in range(MAX_REPAIRS + 1):
        journal.repair(Repair(NOW, "net1x", f"change {n}", "poll"))
    assert len(journal.repairs) == MAX_REPAIRS
    assert journal.repairs[-1].what == f"change {MAX_REPAIRS}"
