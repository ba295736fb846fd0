"""What no link can do to packets. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from netlab.impairment import Both, Impairment, WireGuardMessage
from netlab.refusals.words import out_of_bounds, unknown
from overlay.errors import Rejected

DELAY_S_MAX = 60.0  # the way to the moon and back takes 2.6
# A packet of 1 500 bytes takes twelve seconds at the lowest rate.
RATE_BIT_S_MIN, RATE_BIT_S_MAX = 1_000, 100_000_000_000
DROPS_MAX = 16  # a rule each
NTH_MAX = 1_000_000


def find(both: Both, *, path: str) -> Iterator[Rejected]:
    """Every fault of the two directions."""
    for name in ("up", "down"):
        way: Impairment = getattr(both, name)
        if way:
            yield from _one_way(way, path=f"{path}.{name}")


def _one_way(way: Impairment, *, path: str) -> Iterator[Rejected]:
    for key in ("delay_s", "jitter_s"):
        yield from out_of_bounds(
            getattr(way, key), lowest=0, highest=DELAY_S_MAX, unit="seconds", path=f"{path}.{key}"
        )
    for key in ("loss", "duplicate", "reorder"):
        percent = getattr(way, key) * 100
        yield from out_of_bounds(percent, lowest=0, highest=100, unit="%", path=f"{path}.{key}")
    if way.reorder and not way.delay_s:
        yield Rejected(
            "without delay there is nothing to overtake",
            field=f"{path}.reorder",
            remedy="add delay, or leave reorder out",
        )
    if way.rate_bit_s:
        yield from out_of_bounds(
            way.rate_bit_s,
            lowest=RATE_BIT_S_MIN,
            highest=RATE_BIT_S_MAX,
            unit="bit/s",
            path=f"{path}.rate_bit_s",
        )
    if len(way.drops) > DROPS_MAX:
        yield Rejected(
            f"{len(way.drops)} messages, {DROPS_MAX} is the most",
            field=f"{path}.drops",
            remedy="leave some out",
        )
    for position, drop in enumerate(way.drops):
        yield from unknown(
            drop.message, known=get_args(WireGuardMessage), path=f"{path}.drops[{position}]"
        )
        yield from out_of_bounds(
            drop.nth, lowest=0, highest=NTH_MAX, path=f"{path}.drops[{position}]"
        )
