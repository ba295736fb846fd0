"""How expectations and verdicts read."""

from __future__ import annotations

import pytest

from netlab.judge.verdict import Answer, Miss, Verdict, as_json, describe
from netlab.topology import Expect


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        (Expect("a", "b"), "a reaches b"),
        (Expect("a", "b", reached=False, at_s=2.5), "a does not reach b at 2.5 s"),
        (Expect("a", "b", family="ipv6", path="lan"), "a reaches b over IPv6 by lan"),
        (
            Expect("t/n/a", "b", path="relay", via="e1"),
            "t/n/a reaches b through the exit e1 by relay",
        ),
        (
            Expect("a", "b", at_least_bit_s=64_000, at_most_bit_s=2_500_000),
            "a reaches b at 64 kbit/s or more at 2.5 Mbit/s or less",
        ),
    ],
)
def test_an_expectation_reads_as_a_sentence(expect, words):
    # LAB-313
    assert describe(expect) == words


def test_a_verdict_as_plain_values():
    # LAB-313
    verdict = Verdict(Expect("a", "*"), 3, 30.0, 2, (Miss("a", "b", "nobody answers", ("no",)),))
    value = as_json(verdict)
    assert not value["held"]
    assert (value["pairs"], value["failed"], value["after_s"]) == (3, 2, 30.0)
    assert "answers" not in value
    assert value["misses"] == [{"from": "a", "to": "b", "reason": "nobody answers", "why": ["no"]}]


def test_answers_of_every_pair_are_plain_values_when_they_were_kept():
    # LAB-353
    answers = (
        Answer("a", "b", 4, "198.18.1.2", True, 0.001234, "198.19.1.1"),
        Answer("a", "b", 6, "2001:db8::1:102", False, None, ""),
    )
    assert as_json(Verdict(Expect("a", "b"), 1, 1.0, answers=answers))["answers"] == [
        {
            "from": "a",
            "to": "b",
            "family": 4,
            "address": "198.18.1.2",
            "reached": True,
            "rtt_ms": 1.23,
            "seen_as": "198.19.1.1",
        },
        {
            "from": "a",
            "to": "b",
            "family": 6,
            "address": "2001:db8::1:102",
            "reached": False,
            "rtt_ms": None,
            "seen_as": None,
        },
    ]
