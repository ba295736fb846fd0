"""Virtual time: what is due next happens next, and time is what it was due at."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

EPOCH_S = 1_700_000_000  # Unix seconds at virtual 0


class Timeline:
    """A heap of calls. Those due at one time come in the order in which they were asked for."""

    __slots__ = ("_due", "_order", "now", "steps")

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._due: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = count()

    @property
    def wall(self) -> float:
        return EPOCH_S + self.now

    def after(self, delay_s: float, call: Callable[..., object], *args: object) -> None:
        heappush(self._due, (self.now + delay_s, next(self._order), call, args))

    def clear(self) -> None:
        """Nothing is due any more."""
        self._due.clear()

    def run(self, until: float) -> None:
        """Everything due up to `until`; it is `until` afterwards."""
        due, steps = self._due, 0
        while due and due[0][0] <= until:
            self.now, _, call, args = heappop(due)
            steps += 1
            call(*args)
        self.now = until
        self.steps += steps
