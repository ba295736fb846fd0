"""Flows that were led elsewhere are marked with where, so that they can be forgotten (PUB-025).

The kernel leads a flow as its first packet was led for as long as packets of it come. One that is
led nowhere any more, or elsewhere now, has to begin anew. Pure.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from overlay.netns.nftjson import Statement, put
from overlay.netns.state import Firewall

CHAIN = "destination_nat"
# The lowest bit of a mark is another's: limits count a flow once by it (EXIT-064).
WHERE_MASK = 0xFFFFFFFE
_CT_MARK = {"ct": {"key": "mark"}}


def mark_of(*where: object) -> int:
    """The mark of flows that are led there, never 0."""
    digest = hashlib.sha256("\x00".join(map(str, where)).encode()).digest()
    return int.from_bytes(digest[:4], "big") & WHERE_MASK or 2


def marked(value: Any) -> Statement:
    """A flow that begins has this mark; `value` may be a map."""
    return put(_CT_MARK, value)


def forgotten(*, before: Firewall | None, after: Firewall) -> tuple[int, ...]:
    """Marks of what the one ruleset leads somewhere, in normal form, and the other does not."""
    return () if before is None else tuple(sorted(_marks(before) - _marks(after)))


def _marks(firewall: Firewall) -> frozenset[int]:
    if CHAIN not in firewall.listing:
        return frozenset()
    objects = msgspec.json.decode(firewall.listing)
    rules = (item["rule"] for item in objects if "rule" in item)
    statements = (s for rule in rules if rule["chain"] == CHAIN for s in rule["expr"])
    puts = (put["value"] for s in statements if (put := s.get("mangle")) and put["key"] == _CT_MARK)
    return frozenset(puts)
