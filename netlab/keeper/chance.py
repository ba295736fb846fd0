"""Seeded chance: the same words always give the same numbers, on every machine and version."""

from __future__ import annotations

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: spreads consecutive numbers


def mix(value: int) -> int:
    """A bijection of 64 bits that leaves no trace of neighbourhood (splitmix64, Steele 2014)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def fold(base: int, content: bytes) -> int:
    """64 bits that depend on all of these bytes."""
    base = mix(base ^ len(content))
    for start in range(0, len(content), 8):
        base = mix(base + GOLDEN & MASK ^ int.from_bytes(content[start : start + 8], "big"))
    return base


def threshold(share: float) -> int:
    """For 64 bits drawn: a share of them is below it. Of 1.0 all are, of 0.0 none."""
    return int(share * (1 << 64))
