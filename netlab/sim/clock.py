"""Virtual time: what is due next happens next, and time is what it was due at."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from heapq import heappop, heappush
from operator import itemgetter
from typing import Any

EPOCH_S = 1_700_000_000  # Unix seconds at virtual 0
SLOT_S = 1 / 8  # a power of two: no time is near the next slot by rounding

_Due = tuple[float, Callable[..., object], tuple[Any, ...]]
_when = itemgetter(0)


class Timeline:
    """Calls by time. Those due at one time come in the order in which they were asked for.

    What is due later lies unsorted in slots of time, and is sorted when its slot comes: most calls
    are asked for many slots before, and a heap of all of them costs as much as the calls.
    """

    __slots__ = ("_due", "_later", "_slot", "_slots", "now", "steps")

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._slot = 0.0
        self._due: list[_Due] = []  # in this slot, sorted
        self._later: dict[float, list[_Due]] = {}  # by slot
        self._slots: list[float] = []  # a heap of those

    @property
    def wall(self) -> float:
        return EPOCH_S + self.now

    def after(self, delay_s: float, call: Callable[..., object], *args: object) -> None:
        at = self.now + delay_s
        slot = at // SLOT_S
        if slot <= self._slot:
            insort(self._due, (at, call, args), key=_when)
        elif (later := self._later.get(slot)) is not None:
            later.append((at, call, args))
        else:
            self._later[slot] = [(at, call, args)]
            heappush(self._slots, slot)

    def clear(self) -> None:
        """Nothing is due any more."""
        self._due.clear()
        self._later.clear()
        self._slots.clear()

    def run(self, until: float) -> None:
        """Everything due up to `until`; it is `until` afterwards."""
        last = until // SLOT_S
        self._run_slot(until)
        while not self._due and self._slots and self._slots[0] <= last:
            self._slot = heappop(self._slots)
            self._due = self._later.pop(self._slot)
            self._due.sort(key=_when)
            self._run_slot(until)
        self.now = until

    def _run_slot(self, until: float) -> None:
        due, steps = self._due, 0
        # What is asked for meanwhile is due no earlier than now: it is added behind.
        for at, call, args in due:
            if at > until:
                break
            self.now = at
            steps += 1
            call(*args)
        del due[:steps]
        self.steps += steps
