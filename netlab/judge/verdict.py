"""What became of what was expected. Values only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netlab.topology import Expect


@dataclass(frozen=True, slots=True)
class Miss:
    """One pair for which it does not hold: the last reason, and what `zos why` says of it."""

    source: str
    target: str
    reason: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one pair over one address family.

    address  where it was asked
    reached  whether whoever was meant has answered
    seen_as  as whom it saw the one who asks; "" when it did not answer
    """

    source: str
    target: str
    version: int
    address: str
    reached: bool
    rtt_s: float | None
    seen_as: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one expectation, which may stand for many pairs.

    after_s  how long it took until all of it held, or how long it was given
    failed   how many of the pairs did not hold; the first of them are in `misses`
    answers  of every pair, when a judge was to keep them
    """

    expect: Expect
    pairs: int
    after_s: float
    failed: int = 0
    misses: tuple[Miss, ...] = ()
    answers: tuple[Answer, ...] = ()

    @property
    def held(self) -> bool:
        return not self.failed


def describe(expect: Expect) -> str:
    """ "alice reaches bob over IPv6 by lan, at least 10 Mbit/s" """
    words = [expect.source, "reaches" if expect.reached else "does not reach", expect.target]
    if expect.family != "both":
        words.append({"ipv4": "over IPv4", "ipv6": "over IPv6"}[expect.family])
    if expect.via:
        words.append(f"through the exit {expect.via}")
    if expect.path:
        words.append(f"by {expect.path}")
    if expect.at_least_bit_s:
        words.append(f"at {format_rate(expect.at_least_bit_s)} or more")
    if expect.at_most_bit_s:
        words.append(f"at {format_rate(expect.at_most_bit_s)} or less")
    if expect.at_s is not None:
        words.append(f"at {expect.at_s:g} s")
    return " ".join(words)


def as_json(verdict: Verdict) -> dict[str, object]:
    """Plain values, for a report."""
    expect = verdict.expect
    answers = {"answers": list(map(_answer, verdict.answers))} if verdict.answers else {}
    return {
        "expect": describe(expect),
        "from": expect.source,
        "to": expect.target,
        "family": expect.family,
        "reached": expect.reached,
        "path": expect.path or None,
        "via": expect.via or None,
        "at_s": expect.at_s,
        "within_s": expect.within_s,
        "held": verdict.held,
        "after_s": round(verdict.after_s, 3),
        "pairs": verdict.pairs,
        "failed": verdict.failed,
        "misses": [
            {"from": m.source, "to": m.target, "reason": m.reason, "why": list(m.why)}
            for m in verdict.misses
        ],
        **answers,
    }


def _answer(answer: Answer) -> dict[str, object]:
    return {
        "from": answer.source,
        "to": answer.target,
        "family": answer.version,
        "address": answer.address,
        "reached": answer.reached,
        "rtt_ms": None if answer.rtt_s is None else round(answer.rtt_s * 1000, 2),
        "seen_as": answer.seen_as or None,
    }


def count_held(verdicts: Iterable[Verdict]) -> int:
    return sum(verdict.held for verdict in verdicts)


def format_rate(bit_s: float) -> str:
    for size, unit in ((10**9, "Gbit/s"), (10**6, "Mbit/s"), (10**3, "kbit/s")):
        if bit_s >= size:
            return f"{bit_s / size:.3g} {unit}"
    return f"{bit_s:.0f} bit/s"
