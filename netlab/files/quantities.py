"""Quantities as people write them: "20ms", "1.5%", "10mbit", into seconds, shares and bit/s. Pure.

A number always bears its unit. What is written by `format_*` is read back as the very same number.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import get_args

from netlab.impairment import Drop, WireGuardMessage
from overlay.errors import Rejected

_NUMBER = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
_QUANTITY = re.compile(rf"({_NUMBER}) ?([A-Za-zµ%/]+)")

TIMES_S = {
    "us": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
RATES_BIT_S = {
    "bit": 1,
    "kbit": 10**3,
    "Kbit": 10**3,
    "mbit": 10**6,
    "Mbit": 10**6,
    "gbit": 10**9,
    "Gbit": 10**9,
}

TIME_PATTERN = rf"^{_NUMBER} ?(us|ms|s|m|h)$"
SHARE_PATTERN = rf"^{_NUMBER} ?%$"
RATE_PATTERN = rf"^{_NUMBER} ?([kKmMgG]?bit)$"

MESSAGES: tuple[WireGuardMessage, ...] = get_args(WireGuardMessage)
DROP_PATTERN = rf"^({'|'.join(MESSAGES)})( [1-9][0-9]*)?$"
_DROP = re.compile(DROP_PATTERN)


def parse_time(text: str, *, field: str | None = None) -> float:
    """Seconds of "500us", "20ms", "5s", "1m" or "2h". Raises Rejected."""
    number, unit = _split(text, TIMES_S, example="20ms", field=field)
    return float(number * TIMES_S[unit])


def format_time(seconds: float) -> str:
    """The shortest of "20ms", "5s", "500us" that is exactly this."""
    exact = Decimal(repr(seconds))
    for unit in ("s", "ms"):
        number = exact / TIMES_S[unit]
        if number >= 1:
            return _plain(number) + unit
    return "0s" if not exact else _plain(exact / TIMES_S["us"]) + "us"


def parse_share(text: str, *, field: str | None = None) -> float:
    """0.015 of "1.5%". Raises Rejected."""
    number, _ = _split(text, ("%",), example="1%", field=field)
    return float(number / 100)


def format_share(share: float) -> str:
    """ "1.5%" of 0.015."""
    return _plain(Decimal(repr(share)) * 100) + "%"


def parse_rate(text: str, *, field: str | None = None) -> int:
    """Bits per second of "10mbit", "64kbit" or "1.5Mbit". Raises Rejected."""
    number, unit = _split(text, RATES_BIT_S, example="10mbit", field=field)
    rate = number * RATES_BIT_S[unit]
    if rate != int(rate):
        raise Rejected(
            f"{text!r} is no whole number of bits a second",
            field=field,
            remedy="write it like '1500bit'",
        )
    return int(rate)


def format_rate(bit_s: int) -> str:
    """ "10mbit" of 10 000 000: the largest unit that leaves a whole number."""
    for unit in ("gbit", "mbit", "kbit"):
        if bit_s and bit_s % RATES_BIT_S[unit] == 0:
            return f"{bit_s // RATES_BIT_S[unit]}{unit}"
    return f"{bit_s}bit"


def parse_drop(text: str, *, field: str | None = None) -> Drop:
    """Of "response 2" the second handshake response, of "response" each one. Raises Rejected."""
    word, _, nth = text.partition(" ")
    for message in MESSAGES:
        if word == message and _DROP.fullmatch(text):
            return Drop(message, int(nth or 0))
    near = difflib.get_close_matches(word, MESSAGES, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]!r}?" if near else "write it like 'response 2'"
    raise Rejected(f"{text!r} is no WireGuard message", field=field, remedy=remedy)


def format_drop(drop: Drop) -> str:
    """ "response 2", or "response" for every one."""
    return f"{drop.message} {drop.nth}" if drop.nth else drop.message


def _split(
    text: str, units: Iterable[str], *, example: str, field: str | None
) -> tuple[Decimal, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise Rejected(
            f"{text!r} is no number with a unit", field=field, remedy=f"write it like {example!r}"
        )
    number, unit = match.groups()
    known = list(units)
    if unit not in known:
        near = known if len(known) == 1 else difflib.get_close_matches(unit.lower(), known, 1, 0.5)
        remedy = f"did you mean {number + near[0]!r}?" if near else f"units: {', '.join(known)}"
        raise Rejected(f"there is no unit {unit!r}", field=field, remedy=remedy)
    return Decimal(number), unit


def _plain(number: Decimal) -> str:
    """Digits without an exponent and without zeros that say nothing."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
