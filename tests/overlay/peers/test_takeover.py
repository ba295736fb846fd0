"""Which key bears a member's traffic, and when the next one is looked for and asked (KEY-026)."""

from __future__ import annotations

import pytest

from overlay.model import WgPeer, WgPublicKey
from overlay.peers import takeover
from overlay.peers.takeover import Fate, Takeovers
from tests.node_world import device
from tests.overlay.peers.test_selection import ALL, chosen, network, replacing

AT = 900  # when the key to come takes over, by the member's word
FORMER, COMING = device("n3").public_key, device("next").public_key
LOW, HIGH = WgPublicKey(bytes(32)), WgPublicKey(b"\xff" * 32)


def takeovers(own_key: WgPublicKey = LOW) -> Takeovers:
    return Takeovers(chosen("n1", network(), *ALL[:2], replacing("n3", 3, "next")), own_key)


def peers(*, former: int = 0, coming: int = 0) -> dict[WgPublicKey, WgPeer]:
    return {
        FORMER: WgPeer(FORMER, (), latest_handshake=former),
        COMING: WgPeer(COMING, (), latest_handshake=coming),
    }


def fate(found: Takeovers, *, wall: float, unanswered: bool = False, **seen: int) -> Fate:
    ((key, _, found_fate),) = found.look(
        peers(**seen), lambda key: unanswered and key == FORMER, wall=wall, now=wall
    )
    assert key == COMING
    return found_fate


def test_the_first_handshake_decides_and_no_later_one_of_the_former() -> None:
    found = takeovers()
    assert (found.bears_for(FORMER), found.bears_for(COMING)) == (FORMER, None)
    assert found.is_spare(COMING)
    assert fate(found, wall=100, former=100, coming=90) is Fate.TAKES_OVER  # before its time
    assert (found.bears_for(FORMER), found.bears_for(COMING)) == (None, FORMER)
    assert found.is_spare(FORMER)
    assert list(found.look(peers(former=150, coming=90), lambda _: True, wall=150, now=150)) == []
    assert found.bears_for(COMING) == FORMER


def test_the_former_is_outlived_when_no_session_of_it_can_be_left() -> None:
    found = takeovers()
    fate(found, wall=AT, coming=AT)
    last = AT + takeover.FORMER_S
    assert list(found.look(peers(), lambda _: False, wall=last, now=last - 0.1)) == []
    assert fate(found, wall=last) is Fate.OUTLIVED


@pytest.mark.parametrize(
    ("own_key", "after_s"), [(LOW, takeover.ASK_AFTER_S), (HIGH, takeover.OTHER_ASKS_AFTER_S)]
)
@pytest.mark.parametrize("seen", [{"former": AT - 179}, {"unanswered": True}])
def test_who_is_late_is_asked_by_one_side_first(
    own_key: WgPublicKey, after_s: float, seen: dict[str, int]
) -> None:
    found = takeovers(own_key)
    assert fate(found, wall=AT + after_s - 0.1, **seen) is Fate.IS_LEFT_ALONE
    assert not found.is_late(FORMER)
    assert fate(found, wall=AT + after_s, **seen) is Fate.IS_ASKED
    assert found.is_late(FORMER)
    assert fate(found, wall=AT + takeover.ASK_FOR_S - 0.1) is Fate.IS_ASKED  # whatever is seen now
    assert fate(found, wall=AT + takeover.ASK_FOR_S, **seen) is Fate.IS_LEFT_ALONE


def test_nobody_asks_where_nothing_was_going_on() -> None:
    found = takeovers()
    assert fate(found, wall=AT + 60, former=AT - 180) is Fate.IS_LEFT_ALONE


def test_the_device_is_looked_at_closely_around_the_time_and_not_otherwise() -> None:
    found = takeovers()
    assert found.next_look_s(wall=100) == AT - takeover.NEAR_S - 100
    for wall in (AT - takeover.NEAR_S, AT, AT + takeover.NEAR_S):
        assert found.next_look_s(wall=wall) == takeover.NEAR_LOOK_S
    assert found.next_look_s(wall=AT + takeover.NEAR_S + 1) is None
    fate(found, wall=AT, coming=AT)
    assert found.next_look_s(wall=AT) is None
