"""Whether a way to a peer still works (NODE-075)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overlay.peers import liveness
from overlay.peers.liveness import (
    ACTIVE_S,
    ANSWER_S,
    OTHER_SIDE_S,
    OWN_BYTES,
    SILENT_S,
    Verdict,
    Watch,
    begin_watch,
)

LOOK_S = 0.25


def begun() -> Watch:
    return begin_watch(sent_bytes=0, heard_bytes=0, handshake=1)


def look(
    watch: Watch, *, sent: int, heard: int, now: float, begins: bool = True, handshake: int = 1
) -> tuple[Watch, Verdict]:
    return liveness.look(
        watch, sent_bytes=sent, heard_bytes=heard, handshake=handshake, begins=begins, now=now
    )


def test_who_sends_into_a_silence_asks_and_then_gives_up() -> None:
    watch, verdict = look(begun(), sent=128, heard=0, now=0.0)
    assert verdict is Verdict.FINE
    watch, verdict = look(watch, sent=256, heard=0, now=SILENT_S)
    assert verdict is Verdict.ASK
    watch, verdict = look(watch, sent=320, heard=0, now=SILENT_S + ANSWER_S - 0.01)
    assert verdict is Verdict.FINE
    _, verdict = look(watch, sent=384, heard=0, now=SILENT_S + ANSWER_S)
    assert verdict is Verdict.DEAD


def test_the_side_that_does_not_begin_leaves_the_other_time() -> None:
    watch, _ = look(begun(), sent=128, heard=0, now=0.0, begins=False)
    watch, verdict = look(watch, sent=256, heard=0, now=SILENT_S, begins=False)
    assert verdict is Verdict.ASK
    at = SILENT_S + ANSWER_S + OTHER_SIDE_S + 0.001
    watch, verdict = look(watch, sent=256, heard=0, now=at - 0.01, begins=False)
    assert verdict is Verdict.FINE
    assert look(watch, sent=256, heard=0, now=at, begins=False)[1] is Verdict.DEAD


def test_a_flow_in_one_direction_is_asked_after_and_stays() -> None:
    watch, sent, heard, asked = begun(), 0, 0, 0
    for n in range(400):
        sent += 1_000
        watch, verdict = look(watch, sent=sent, heard=heard, now=n * LOOK_S)
        assert verdict is not Verdict.DEAD
        if verdict is Verdict.ASK:
            asked += 1
            heard += 64  # the answer is there at the next look
    assert asked <= 400 * LOOK_S / SILENT_S


def test_an_idle_pair_costs_nothing() -> None:
    watch = begun()
    for n in range(1_000):
        before = watch
        watch, verdict = look(watch, sent=0, heard=0, now=n * 1.0)
        assert (watch, verdict) == (before, Verdict.FINE)
    assert not watch.is_active(now=0.0)


def test_what_wireguard_sends_by_itself_is_no_traffic() -> None:
    watch, _ = look(begun(), sent=OWN_BYTES, heard=OWN_BYTES, now=1.0)
    assert not watch.is_active(now=1.0)
    watch, _ = look(watch, sent=400, heard=400, now=2.0, handshake=2)  # a new handshake
    assert not watch.is_active(now=2.0)
    watch, _ = look(watch, sent=401 + OWN_BYTES, heard=400, now=3.0, handshake=2)
    assert watch.is_active(now=3.0 + ACTIVE_S - 0.1)
    assert not watch.is_active(now=3.0 + ACTIVE_S)


def test_counters_that_begin_anew_are_no_silence() -> None:
    watch, _ = look(begun(), sent=500, heard=500, now=0.0)
    watch, _ = look(watch, sent=900, heard=500, now=0.2)
    watch, verdict = look(watch, sent=10, heard=0, now=5.0)
    assert (verdict, watch.is_silent) == (Verdict.FINE, False)


@given(st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 2_000)), max_size=60))
def test_nobody_is_given_up_who_is_heard_at_every_look(growth: list[tuple[int, int]]) -> None:
    watch, sent, heard = begun(), 0, 0
    for n, (more_sent, more_heard) in enumerate(growth):
        sent, heard = sent + more_sent, heard + more_heard
        watch, verdict = look(watch, sent=sent, heard=heard, now=n * LOOK_S)
        assert verdict is Verdict.FINE
