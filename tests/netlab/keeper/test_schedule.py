"""The pump's decisions in virtual time: never early, in order, within the rate, and repeatable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.keeper import schedule
from netlab.keeper.schedule import NS_PER_S, QUEUE_BYTES_MIN, Schedule, Terms, queue_bytes

FLOW = (b"kind", b"port")
OTHER = (b"other", b"")
LOST_WITH_SEED_7 = [
    0,
    1,
    9,
    13,
    18,
    26,
    28,
    29,
    32,
    36,
]  # of 40 at 20 %; as long as this project lives
SHARES = st.floats(0, 1)
GAPS = st.lists(st.tuples(st.integers(0, 10**8), st.integers(14, 1514)), min_size=1, max_size=60)


def shown(subject: Schedule, count: int, flow=FLOW) -> list[tuple[int, ...]]:
    return [subject.admit(number * 1000, 100, flow) for number in range(count)]


@given(
    seed=st.integers(0, 2**64 - 1),
    delay=st.integers(0, 10**9),
    jitter=st.integers(0, 10**8),
    duplicate=SHARES,
    rate=st.sampled_from([0, 1, 9_600, 10**6, 10**10]),
    gaps=GAPS,
)
def test_schedule_is_never_early_and_keeps_order(  # LAB-262
    seed, delay, jitter, duplicate, rate, gaps
):
    terms = Terms(delay_ns=delay, jitter_ns=jitter, duplicate=duplicate, rate_bit_s=rate)
    subject = Schedule(seed, terms)
    now = last = 0
    for gap, length in gaps:
        now += gap
        for due in subject.admit(now, length, FLOW):
            assert due >= now + max(0, delay - jitter)
            assert due >= last
            last = due


@given(delay=st.integers(0, 10**9), jitter=st.integers(0, 10**9), seed=st.integers(0, 1000))
def test_schedule_of_a_lone_packet_is_within_its_jitter(delay, jitter, seed):  # LAB-262
    (due,) = Schedule(seed, Terms(delay_ns=delay, jitter_ns=jitter)).admit(7, 100, FLOW)
    assert max(0, delay - jitter) <= due - 7 <= delay + jitter


@given(rate=st.integers(1, 10**9), gaps=GAPS)
def test_schedule_is_never_above_its_rate_in_any_window(rate, gaps):  # LAB-263
    subject = Schedule(1, Terms(rate_bit_s=rate))
    now, out = 0, []
    for gap, length in gaps:
        now += gap
        out += [(due, length) for due in subject.admit(now, length, FLOW)]
    for first in range(len(out)):
        for last in range(first + 1, len(out)):
            sent_bits = 8 * sum(length for _, length in out[first + 1 : last + 1])
            assert sent_bits * NS_PER_S <= (out[last][0] - out[first][0]) * rate


@given(rate=st.integers(1, 10**9), gaps=GAPS)
def test_schedule_drops_at_the_tail_exactly_what_the_queue_has_no_room_for(rate, gaps):  # LAB-263
    subject = Schedule(1, Terms(rate_bit_s=rate))
    now = dropped = waiting = 0  # bits, times a billion
    for gap, length in gaps:
        now += gap
        waiting = max(0, waiting - gap * rate)
        fits = not waiting or waiting + length * 8 * NS_PER_S <= queue_bytes(rate) * 8 * NS_PER_S
        out = subject.admit(now, length, FLOW)
        # Times are whole nanoseconds rounded up: at the very edge either is right.
        if abs(waiting + length * 8 * NS_PER_S - queue_bytes(rate) * 8 * NS_PER_S) > 60 * rate:
            assert bool(out) == fits
        waiting += length * 8 * NS_PER_S if out else 0
        dropped += not out
    assert subject.counts.overflowed == dropped


def test_schedule_lets_a_packet_pass_that_is_larger_than_the_queue():  # LAB-263
    subject = Schedule(1, Terms(rate_bit_s=8_000))
    assert subject.admit(0, 60_000, FLOW) == (60 * NS_PER_S,)
    assert subject.admit(1, 60, FLOW) == ()


def test_schedule_queue_grows_with_the_rate_from_a_few_packets_on():  # LAB-263
    assert queue_bytes(1) == QUEUE_BYTES_MIN
    assert queue_bytes(10_000_000) == 62_500


@given(
    seed=st.integers(0, 2**32), loss=SHARES, duplicate=SHARES, strays=st.lists(st.integers(0, 49))
)
def test_schedule_decides_the_same_whatever_else_passes(seed, loss, duplicate, strays):  # LAB-261
    terms = Terms(loss=loss, duplicate=duplicate)
    alone = shown(Schedule(seed, terms), 50)
    subject, among = Schedule(seed, terms), []
    for number in range(50):
        for _ in range(strays.count(number)):
            subject.admit(number * 1000, 42, OTHER)
        among.append(subject.admit(number * 1000, 100, FLOW))
    assert among == alone


@given(seed=st.integers(0, 2**32), ports=st.tuples(st.binary(), st.binary(max_size=3)))
def test_schedule_tells_flows_by_rank_and_not_by_port(seed, ports):  # LAB-261
    terms = Terms(loss=0.5)
    one, other = Schedule(seed, terms), Schedule(seed, terms)
    assert shown(one, 40, (b"kind", ports[0])) == shown(other, 40, (b"kind", ports[1]))


def test_schedule_treats_two_flows_of_a_kind_differently():  # LAB-261
    subject = Schedule(3, Terms(loss=0.5))
    assert shown(subject, 64, (b"kind", b"1")) != shown(subject, 64, (b"kind", b"2"))


def test_schedule_loses_these_packets_with_this_seed():  # LAB-261
    out = shown(Schedule(7, Terms(loss=0.2)), 40)
    assert [number for number, due in enumerate(out) if not due] == LOST_WITH_SEED_7


@given(loss=SHARES, seed=st.integers(0, 100))
def test_schedule_draws_of_one_parameter_move_no_other(loss, seed):  # LAB-262
    bare = shown(Schedule(seed, Terms(loss=loss)), 50)
    full = Terms(loss=loss, duplicate=0.3, jitter_ns=500, delay_ns=9, reorder=0.2)
    lost = [not due for due in shown(Schedule(seed, full), 50)]
    assert lost == [not due for due in bare]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("what", ["loss", "duplicate", "reorder"])
def test_schedule_shares_are_met_over_many_packets(what, share):  # LAB-262
    subject = Schedule(11, Terms(delay_ns=10, **{what: share}))
    shown(subject, 20_000)
    counted = {"loss": "lost", "duplicate": "duplicated", "reorder": "reordered"}[what]
    assert getattr(subject.counts, counted) / 20_000 == pytest.approx(share, abs=0.012)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (1.0, 200)])
def test_schedule_shares_of_nothing_and_of_all_are_exact(share, count):  # LAB-262
    subject = Schedule(11, Terms(loss=share))
    shown(subject, 200)
    assert subject.counts.lost == count


def test_schedule_reordered_packet_overtakes_those_delayed():  # LAB-262
    subject = Schedule(5, Terms(delay_ns=10_000, reorder=0.3))
    out = [due for (due,) in shown(subject, 50)]
    assert out != sorted(out)
    assert {due - number * 1000 for number, due in enumerate(out)} == {0, 10_000}


def test_schedule_change_leaves_what_is_on_its_way_and_lets_nothing_overtake_it():  # LAB-264
    subject = Schedule(5, Terms(delay_ns=10_000))
    assert subject.admit(0, 100, FLOW) == (10_000,)
    subject.change(Terms())
    assert subject.admit(1, 100, FLOW) == (10_000,)
    assert subject.admit(10_001, 100, FLOW) == (10_001,)


def test_schedule_change_begins_the_pattern_anew():  # LAB-264
    subject = Schedule(7, Terms(loss=0.2))
    shown(subject, 17)
    subject.change(Terms(loss=0.2))
    lost = [number for number, due in enumerate(shown(subject, 40)) if not due]
    assert lost == LOST_WITH_SEED_7


def test_schedule_forgets_the_first_of_too_many_flows(monkeypatch):  # LAB-261
    monkeypatch.setattr(schedule, "FLOWS_MAX", 3)
    subject = Schedule(5, Terms(loss=0.1))
    for number in range(100):
        subject.admit(0, 100, (bytes([number]), b""))
    assert (len(subject._flows), len(subject._kinds)) == (3, 3)
