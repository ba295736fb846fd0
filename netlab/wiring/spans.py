"""Runs of neighbouring networks, so that one route stands for many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

Span: TypeAlias = tuple[
    int, int
]  # networks of one size by number: the first, and one past the last


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same networks in ascending order, in as few spans as there can be."""
    merged: list[Span] = []
    for first, end in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return tuple(merged)


def prefixes(spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """The fewest aligned blocks that cover exactly the spans: first network, number of bits."""
    for first, end in spans:
        network = first
        while network < end:
            bits = (end - network).bit_length() - 1
            if network:
                bits = min(bits, (network & -network).bit_length() - 1)
            yield network, bits
            network += 1 << bits
