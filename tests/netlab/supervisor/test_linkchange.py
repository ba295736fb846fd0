"""A change of a link: each parameter on its own, in the direction that is named."""

from __future__ import annotations

import pytest

from netlab.impairment import Both, Drop, Impairment
from netlab.supervisor.linkchange import changed, describe
from netlab.supervisor.status import LinkChange, LinkRequest
from overlay.errors import Rejected

BEFORE = Both(up=Impairment(delay_s=0.02, loss=0.1), down=Impairment(delay_s=0.02))


NOTHING = LinkChange()


def request(change: LinkChange = NOTHING, **options: object) -> LinkRequest:
    return LinkRequest("alice-home", change=change, **options)  # type: ignore[arg-type]


def test_what_is_not_given_stays() -> None:  # LAB-243
    found = changed(BEFORE, request(LinkChange(loss=0.0, jitter_s=0.001)))
    assert found.up == found.down == Impairment(delay_s=0.02, jitter_s=0.001)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_the_other_direction_stays(direction: str) -> None:  # LAB-243
    found = changed(BEFORE, request(LinkChange(rate_bit_s=10**6), direction=direction))
    other = "down" if direction == "up" else "up"
    assert getattr(found, other) == getattr(BEFORE, other)
    assert getattr(found, direction).rate_bit_s == 10**6


def test_clear_takes_back_all_but_what_is_given() -> None:  # LAB-243
    assert changed(BEFORE, request(clear=True)) == Both()
    found = changed(BEFORE, request(LinkChange(drops=(Drop("response", 2),)), clear=True))
    assert found.up == Impairment(drops=(Drop("response", 2),))
    assert describe(found) == "drop response 2"


def test_what_no_link_can_do_is_refused() -> None:  # LAB-243
    with pytest.raises(Rejected, match=r"alice-home\.up\.loss"):
        changed(BEFORE, request(LinkChange(loss=1.5)))
    with pytest.raises(Rejected, match="nothing to overtake"):
        changed(BEFORE, request(LinkChange(reorder=0.1, delay_s=0.0)))


def test_a_link_is_described_in_the_words_of_the_file() -> None:  # LAB-243
    assert describe(Both()) == "nothing"
    assert describe(BEFORE) == "up: delay 20ms, loss 10%; down: delay 20ms"
