"""When relays are reached over TCP, and when no longer (NODE-080, NODE-083)."""

from __future__ import annotations

from itertools import pairwise

from overlay.peers import fallback
from overlay.peers.fallback import (
    DEAF_BYTES,
    DEAF_S,
    DOUBT_S,
    PROBE_MAX_S,
    PROBE_S,
    PROBE_WAIT_S,
    RETRY_MAX_S,
    RETRY_S,
    SETTLE_S,
    STEADY_S,
    UDP_TRY_S,
    Act,
    Call,
    Ear,
    Fallback,
    Mode,
)

STEP_S = 0.25


class Network:
    """One network's fallback, a look every quarter of a second, and the world around it."""

    def __init__(self) -> None:
        self.state = Fallback()
        self.now = 0.0
        self.may_call = True
        self.udp = True
        self.tcp: tuple[Call, ...] = (Call.OPEN,)
        self.calls: tuple[Call, ...] = ()
        self.asked: list[float] = []
        self.called: list[float] = []
        self.hung_up: list[float] = []

    def live(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now += STEP_S
            self._look()

    def _look(self) -> None:
        over_tcp = self.state.mode is Mode.TCP
        self.state, act = fallback.look(
            self.state,
            may_call=self.may_call,
            is_answered=self.udp and not over_tcp,
            calls=self.calls,
            is_probe_answered=self.udp and self.state.asked_at >= 0.0,
            now=self.now,
        )
        self._do(act)

    def _do(self, act: Act) -> None:
        if act.call:
            self.called.append(self.now)
            self.calls = self.tcp
        if act.hang_up:
            self.hung_up.append(self.now)
            self.calls = ()
        if act.probe:
            self.asked.append(self.now)


def blocked() -> Network:
    network = Network()
    network.udp = False
    network.live(UDP_TRY_S + 2.0)
    assert network.state.mode is Mode.TCP
    return network


def test_while_a_relay_answers_over_udp_nobody_is_called() -> None:
    network = Network()
    network.live(600.0)
    assert (network.state.mode, network.called, network.asked) == (Mode.UDP, [], [])


def test_silence_for_six_seconds_leads_to_calls_and_a_connection_to_tcp() -> None:
    network = Network()
    network.live(1.0)
    network.udp = False
    network.live(UDP_TRY_S)
    assert network.called == []
    network.live(2.0 * STEP_S)
    assert network.called == [1.0 + UDP_TRY_S + STEP_S]
    assert network.state.mode is Mode.TCP


def test_an_answer_in_between_begins_the_wait_anew() -> None:
    network = Network()
    network.udp = False
    network.live(UDP_TRY_S - 1.0)
    network.udp = True
    network.live(STEP_S)
    network.udp = False
    network.live(UDP_TRY_S - 1.0)
    assert network.called == []


def test_without_a_relay_that_takes_connections_nobody_is_called() -> None:
    network = Network()
    network.udp = network.may_call = False
    network.live(600.0)
    assert (network.state.mode, network.called) == (Mode.UDP, [])


def test_calls_in_vain_are_repeated_with_growing_waits_and_udp_stays() -> None:
    network = Network()
    network.udp, network.tcp = False, (Call.FAILED, Call.FAILED)
    network.live(3_600.0)
    assert network.state.mode is Mode.UDP
    waits = [b - a for a, b in pairwise(network.called)]
    assert waits[0] >= RETRY_S
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert max(waits) <= RETRY_MAX_S + 1.0
    assert len(network.called) < 20


def test_udp_that_answers_while_connections_are_made_wins() -> None:
    network = Network()
    network.udp, network.tcp = False, (Call.CALLING,)
    network.live(UDP_TRY_S + 1.0)
    assert network.state.mode is Mode.CALLING
    network.udp = True
    network.live(STEP_S)
    assert network.state.mode is Mode.UDP
    assert network.hung_up == [network.now]


def test_the_first_connection_waits_a_moment_for_the_others() -> None:
    network = Network()
    network.udp, network.tcp = False, (Call.OPEN, Call.CALLING)
    network.live(UDP_TRY_S + 2.0 * STEP_S)
    assert network.state.mode is Mode.CALLING
    network.live(SETTLE_S)
    assert network.state.mode is Mode.TCP


def test_over_tcp_udp_is_asked_for_seldom_and_ever_more_seldom() -> None:
    network = blocked()
    network.live(3_600.0)
    waits = [b - a for a, b in pairwise(network.asked)]
    assert network.state.mode is Mode.TCP
    assert PROBE_S <= waits[0] <= 2.0 * PROBE_S + PROBE_WAIT_S + 1.0
    assert max(waits) <= PROBE_MAX_S + PROBE_WAIT_S + 1.0
    assert len(network.asked) < 20


def test_an_answer_over_udp_ends_all_connections() -> None:
    network = blocked()
    network.udp = True
    network.live(PROBE_S + 1.0)
    assert network.state.mode is Mode.UDP
    assert len(network.hung_up) == 1


def test_udp_that_answers_questions_and_nothing_else_is_asked_ever_more_seldom() -> None:
    network = blocked()
    for _ in range(5):
        network.live(PROBE_MAX_S)
        network.udp = True  # it answers the next question
        while network.state.mode is Mode.TCP:
            network.live(STEP_S)
        network.udp = False
        network.live(UDP_TRY_S + 2.0)
        assert network.state.mode is Mode.TCP
    asked = len(network.asked)
    network.live(PROBE_MAX_S)
    assert len(network.asked) - asked <= 2


def test_after_ten_steady_minutes_over_udp_what_was_is_forgotten() -> None:
    network = blocked()
    network.live(PROBE_MAX_S)
    network.udp = True
    network.live(PROBE_MAX_S + STEADY_S + 10.0)
    assert (network.state.mode, network.state.probes) == (Mode.UDP, 0)


def test_when_our_links_change_udp_is_asked_for_at_once() -> None:
    network = blocked()
    network.live(1_000.0)
    asked = len(network.asked)
    network.live(PROBE_WAIT_S + STEP_S)
    network.state = fallback.hurried(network.state, now=network.now)
    network.live(PROBE_WAIT_S + 2.0 * STEP_S)
    assert len(network.asked) > asked


def test_a_relay_that_takes_no_connections_any_more_ends_them() -> None:
    network = blocked()
    network.may_call = False
    network.live(STEP_S)
    assert network.state.mode is Mode.UDP
    assert network.hung_up


def doubts(seconds: float, *, sent_each: int, heard_each: int) -> list[float]:
    """When UDP was doubted, with so many bytes out and in at every look."""
    ear, found, now, sent, heard = Ear(), [], 0.0, 0, 0
    while now < seconds:
        now, sent, heard = now + STEP_S, sent + sent_each, heard + heard_each
        ear, is_doubtful = fallback.listen(ear, sent_bytes=sent, heard_bytes=heard, now=now)
        found += [now] if is_doubtful else []
    return found


def test_much_that_is_sent_into_a_silence_raises_doubts_seldom() -> None:
    # NODE-080
    found = doubts(60.0, sent_each=DEAF_BYTES, heard_each=0)
    assert found[0] == STEP_S + DEAF_S
    assert all(b - a >= DOUBT_S for a, b in pairwise(found))
    assert len(found) == 4


def test_whoever_hears_or_says_little_doubts_nothing() -> None:
    assert doubts(60.0, sent_each=DEAF_BYTES, heard_each=1) == []
    assert doubts(5 * DEAF_S, sent_each=4, heard_each=0) == []
    assert doubts(60.0, sent_each=0, heard_each=0) == []


def test_a_device_that_counts_from_nothing_again_raises_no_doubt() -> None:
    ear, _ = fallback.listen(Ear(), sent_bytes=10_000, heard_bytes=5, now=0.0)
    ear, is_doubtful = fallback.listen(ear, sent_bytes=600, heard_bytes=5, now=DEAF_S)
    assert not is_doubtful
    assert ear.heard_at == DEAF_S
