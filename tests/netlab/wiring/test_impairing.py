"""Which back end carries out what, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.impairment import Both, Drop, Impairment
from netlab.keeper import marks, traffic
from netlab.topology import Link, Node, Topology
from netlab.wiring import impairing
from netlab.wiring.impairing import Shares, divide, losses
from netlab.wiring.wirer import wire

(CABLE,) = wire(Topology(nodes=(Node("n1", (Link(),)),))).cables
DROP = Drop("response", 2)
EVERYTHING = Impairment(0.02, 0.001, 0.1, 0.1, 0.1, 10**6, (DROP,))


@pytest.mark.parametrize("has_netem", [False, True])
@pytest.mark.parametrize(
    ("impairment", "without", "with_netem"),
    [
        (Impairment(), (), ()),
        (Impairment(loss=0.1), ("nftables",), ("nftables",)),
        (Impairment(drops=(DROP,)), ("nftables",), ("nftables",)),
        (Impairment(rate_bit_s=10**6), ("tbf",), ("tbf",)),
        (Impairment(rate_bit_s=10**6, loss=0.1), ("tbf", "nftables"), ("tbf", "nftables")),
        (Impairment(delay_s=0.02), ("pump",), ("netem",)),
        (Impairment(jitter_s=0.02), ("pump",), ("netem",)),
        (Impairment(duplicate=0.1), ("pump",), ("netem",)),
        (Impairment(reorder=0.1), ("pump",), ("netem",)),
        (EVERYTHING, ("pump", "nftables"), ("netem", "tbf", "nftables")),
    ],
)
def test_divide_gives_every_parameter_to_the_cheapest_that_can(  # LAB-260
    has_netem, impairment, without, with_netem
):
    shares = divide(impairment, has_netem=has_netem)
    assert shares.back_ends == (with_netem if has_netem else without)
    assert bool(shares.error) == bool(shares.back_ends)


@given(loss=st.floats(1e-4, 1 - 1e-4), seed=st.integers(0, 2**64 - 1))
def test_losses_are_the_share_exactly_and_the_same_for_a_seed(loss, seed):  # LAB-261
    length, lost = losses(loss, seed)
    assert (length, lost) == losses(loss, seed)
    assert len(set(lost)) == len(lost)
    assert set(lost) <= set(range(length))
    assert abs(len(lost) / length - loss) <= 0.5 / length


def test_losses_of_two_seeds_differ():  # LAB-261
    assert losses(0.1, 1) != losses(0.1, 2)


@pytest.mark.parametrize(
    ("loss", "length", "count"), [(0.01, 1000, 10), (0.0005, 10_000, 5), (1e-9, 10_000, 1)]
)
def test_losses_are_counted_finely_only_where_they_must(loss, length, count):  # LAB-261
    assert (losses(loss, 1)[0], len(losses(loss, 1)[1])) == (length, count)


def ruleset(up=None, down=None, position=3) -> str:
    shares = {"up": up or Shares(), "down": down or Shares()}
    return impairing.cable_ruleset(CABLE, shares, lab_seed=1, position=position)


def test_ruleset_of_nothing_leaves_nothing():  # LAB-260
    assert (
        ruleset().split()
        == "table netdev impair-p1 delete table netdev impair-p1".replace(
            "p1", CABLE.far.name
        ).split()
    )


def test_ruleset_hands_only_whole_delays_over_uncut():  # LAB-265
    whole = divide(Impairment(delay_s=1, jitter_s=0.1), has_netem=False)
    assert f'fwd to "{marks.WHOLE}"' in ruleset(up=whole)
    for each in ({"loss": 0.1}, {"duplicate": 0.1}, {"reorder": 0.1}, {"rate_bit_s": 9}):
        cut = divide(Impairment(delay_s=1, **each), has_netem=False)
        assert f'fwd to "{marks.CUT}"' in ruleset(down=cut)


def test_ruleset_numbers_directions_apart():  # LAB-265
    pumped = divide(Impairment(delay_s=1), has_netem=False)
    text = ruleset(up=pumped, down=pumped)
    for number in (6, 7):
        assert f"mark set {marks.TO_PUMP | number:#x} " in text


def test_ruleset_counts_all_messages_of_a_kind_once():  # LAB-266
    drops = (Drop("response", 3), Drop("response", 1), Drop("data", 2), Drop("cookie"))
    text = ruleset(up=divide(Impairment(drops=drops), has_netem=False))
    assert text.count("0x02000000") == 1
    assert "{ 0, 2 } drop" in text
    assert "0x03000000 udp length 72 drop" in text


def queue(before: Impairment, after: Impairment, *, has_netem: bool) -> bytes:
    one, other = (divide(each, has_netem=has_netem) for each in (before, after))
    return impairing.queueing(
        2, mtu_bytes=1500, before=one, after=other, seed=5, has_netem=has_netem
    )


def test_queueing_never_takes_away_what_packets_wait_in():  # LAB-264
    rate, delay = Impairment(rate_bit_s=10**6), Impairment(delay_s=1)
    assert queue(Impairment(), Impairment(loss=0.1), has_netem=True) == b""
    assert queue(Impairment(), delay, has_netem=False) == b""
    gone = queue(rate, Impairment(), has_netem=False)
    assert gone == traffic.tbf(
        2,
        rate_bit_s=traffic.UNLIMITED_BIT_S,
        burst_bytes=traffic.UNLIMITED_BIT_S // 8000,
        queue_bytes=2_500_000_000,
    )
    assert queue(delay, Impairment(), has_netem=True) == traffic.netem(2, seed=5)


def test_terms_are_whole_nanoseconds():  # LAB-262
    assert impairing.terms(Impairment(delay_s=0.02, jitter_s=1e-9)) == {
        "delay_ns": 20_000_000,
        "jitter_ns": 1,
        "loss": 0.0,
        "duplicate": 0.0,
        "reorder": 0.0,
        "rate_bit_s": 0,
    }


def test_seeds_differ_by_lab_link_and_direction():  # LAB-261
    seeds = {
        impairing.seed_of(lab, link, direction)
        for lab in (0, 1, -1)
        for link in ("a-b", "a-c")
        for direction in ("up", "down")
    }
    assert len(seeds) == 12


def test_both_is_in_force_only_when_it_does_something():
    assert not Both()
    assert Both(down=Impairment(loss=0.1))
