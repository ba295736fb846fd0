"""What was refused and what was repaired, bounded, for people to read. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime

import msgspec

from overlay.errors import OverlayError

MAX_REFUSALS = 256
MAX_REPAIRS = 256
MAX_KEY_CHARS = 160


class Refusal(msgspec.Struct, frozen=True):
    """A document that was not believed or not acted on."""

    key: str
    reason: str
    field: str | None
    remedy: str | None
    at: datetime
    count: int = 1


class Repair(msgspec.Struct, frozen=True):
    """Drift that was found and repaired: what, when, by which pass."""

    at: datetime
    network: str
    what: str
    by: str


class Journal:
    """The latest refusals, one per document, and the latest repairs."""

    def __init__(self) -> None:
        self._refusals: OrderedDict[str, Refusal] = OrderedDict()
        self._repairs: deque[Repair] = deque(maxlen=MAX_REPAIRS)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        return tuple(self._refusals.values())

    @property
    def repairs(self) -> tuple[Repair, ...]:
        return tuple(self._repairs)

    def refuse(self, key: str, error: OverlayError, *, now: datetime) -> bool:
        """Note a refusal; whether it says something new, and so belongs into the log."""
        key = key[:MAX_KEY_CHARS]
        known = self._refusals.pop(key, None)
        is_new = known is None or known.reason != error.message
        self._refusals[key] = Refusal(
            key, error.message, error.field, error.remedy, now, known.count + 1 if known else 1
        )
        if len(self._refusals) > MAX_REFUSALS:
            self._refusals.popitem(last=False)
        return is_new

    def accept(self, key: str) -> None:
        """The document is good now: what was said against an earlier one is history."""
        self._refusals.pop(key, None)

    def forget_below(self, prefix: str) -> None:
        for key in [key for key in self._refusals if key.startswith(prefix)]:
            del self._refusals[key]

    def repair(self, repair: Repair) -> None:
        self._repairs.append(repair)
