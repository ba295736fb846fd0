"""What happened in a lab, in order: kept in memory within a bound, on disk in full, and followed.

Every event has a number, one more than the one before; whoever reads says from which one on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

EVENTS_KEPT = 10_000
UNWRITTEN_BYTES_MAX = 4 << 20
# What an event is about. "phase" is building; "end" is the last one of a lab.
KINDS = (
    "phase",
    "ready",
    "link",
    "impairment",
    "node",
    "program",
    "partition",
    "nat",
    "command",
    "tunnel",
    "health",
    "expect",
    "capture",
    "plan",
    "end",
)


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened."""

    number: int  # the first one is 1
    at: float  # seconds since 1970, by the wall clock
    lab_s: float  # seconds since the lab began, by a clock that never jumps
    kind: str  # one of KINDS
    subject: str  # the node, link or expect that it happened to; empty for the lab itself
    text: str  # one sentence
    detail: dict[str, Any] = {}  # plain values


class Journal:
    """Belongs to one event loop's thread. Close it: then those who follow come to an end."""

    def __init__(
        self,
        path: Path,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._began = monotonic()
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._newer = asyncio.Event()
        self._is_closed = False
        # Unbuffered: what is written is there when the supervisor is killed.
        self._file = path.open("ab", buffering=0)
        self._unwritten = bytearray()

    @property
    def last(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._events[-1].number if self._events else 0

    @property
    def age_s(self) -> float:
        """Seconds since it was opened, by a clock that never jumps."""
        return self._monotonic() - self._began

    def tell(self, kind: str, subject: str, text: str, **detail: object) -> None:
        """Write it down and wake those who follow. Raises ValueError for an unknown kind.

        On a full disk it is written down later, with the first event for which there is room.
        """
        if kind not in KINDS:
            raise ValueError(f"no kind of event is called {kind!r}")
        event = Event(
            number=self.last + 1,
            at=self._wall(),
            lab_s=self.age_s,
            kind=kind,
            subject=subject,
            text=text,
            detail=detail,
        )
        self._write_down(msgspec.json.encode(event) + b"\n")
        self._events.append(event)
        self._newer.set()
        self._newer = asyncio.Event()

    def _write_down(self, line: bytes) -> None:
        # A full disk keeps nobody from mending, killing and ending: all of these tell.
        if len(self._unwritten) + len(line) <= UNWRITTEN_BYTES_MAX:
            self._unwritten += line
        with suppress(OSError):
            while self._unwritten:
                # What was written in part goes on where it stopped: no line is torn.
                del self._unwritten[: self._file.write(self._unwritten)]

    def since(self, number: int) -> list[Event]:
        """Every event that is kept with this number or a higher one."""
        oldest = self._events[0].number if self._events else 0
        skipped = max(0, number - oldest)
        return [event for n, event in enumerate(self._events) if n >= skipped]

    async def follow(self, number: int = 1) -> AsyncIterator[Event]:
        """Every event from this number on, those to come included, until the journal is closed.

        Whoever reads too slowly misses what is no longer kept, never the order.
        """
        while True:
            newer = self._newer
            for event in self.since(number):
                yield event
                number = event.number + 1
            if self._is_closed and number > self.last:
                return
            await newer.wait()

    def close(self) -> None:
        self._is_closed = True
        self._newer.set()
        self._file.close()
