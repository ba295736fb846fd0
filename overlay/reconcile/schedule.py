"""When the loop of a network makes its next pass, and why. Looking costs a share of a core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from contextlib import suppress

from overlay.ports import Clock
from overlay.reconcile.backoff import spread

FULL_PASS_S = 30.0
LOOK_MIN_S = 0.5
LOOK_SHARE = 0.012  # of one core, for all looks at all devices together; full passes come on top
HURRY_SHARE = 0.05  # of one core, at most, for looks at one device that come sooner than that
SETTLE_S = 0.02
CALM_FACTOR = 5.0  # passes for notifications take at most a sixth of one core
CALM_MAX_S = 0.7

DOCUMENTS, NOTIFICATION, POLL, INTERVAL, START = (
    "documents",
    "notification",
    "poll",
    "interval",
    "start",
)


class Schedule:
    """`await next_reasons()`, make the pass that they ask for, and say here what it was."""

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self.sharers = 1  # how many loops share LOOK_SHARE
        self._clock = clock
        self._random = random
        self._reasons: set[str] = {START}
        self._wake = asyncio.Event()
        self._next_full = 0.0
        self._next_look = 0.0
        self._calm_until = 0.0
        self._look_s = LOOK_MIN_S
        self._soonest_look = 0.0

    @property
    def now(self) -> float:
        return self._clock.monotonic()

    def wake(self, reason: str) -> None:
        self._reasons.add(reason)
        self._wake.set()

    async def next_reasons(self) -> set[str]:
        """Waits for one at least."""
        await self._wait_until(min(self._next_full, self._next_look))
        # A change by hand is several notifications, and a workload may flap its link all day.
        calm = max(self._calm_until, self.now + SETTLE_S)
        while self._reasons == {NOTIFICATION} and self.now < calm:
            self._wake.clear()
            await self._wait_until(calm)
        self._wake.clear()
        reasons, self._reasons = self._reasons, set()
        if self.now >= self._next_full:
            reasons.add(INTERVAL)
        elif self.now >= self._next_look:
            reasons.add(POLL)
        return reasons

    def passed(self, *, cost_s: float) -> None:
        """A full pass has taken so much of a core."""
        self._calm_until = self.now + min(CALM_FACTOR * cost_s, CALM_MAX_S)
        self._next_full = self.now + max(
            spread(FULL_PASS_S, self._random()), cost_s * self.sharers / LOOK_SHARE
        )
        self._next_look = self.now + self._look_s

    def looked(self, *, cost_s: float) -> None:
        # The first look reads every peer anew and takes long; the next ones do not.
        fair_s = min(cost_s * self.sharers / LOOK_SHARE, 2.0 * self._look_s)
        self._look_s = max(LOOK_MIN_S, fair_s)
        self._next_look = self.now + self._look_s
        self._soonest_look = self.now + cost_s / HURRY_SHARE

    def look_by(self, due: float) -> None:
        """The next look comes no later than `due`, unless looks at so many peers cost too much."""
        self._next_look = min(self._next_look, max(due, self._soonest_look))

    def failed(self, *, wait_s: float) -> None:
        """Another full pass after `wait_s`; looks go on."""
        self._next_full = self._calm_until = self.now + wait_s
        self._next_look = self.now + self._look_s

    def rest(self) -> None:
        """There is nothing to look at."""
        self._next_full = self._next_look = self.now + FULL_PASS_S

    async def _wait_until(self, due: float) -> None:
        """Until `due`, or until there is a reason to look."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - self.now)):
                await self._wake.wait()


def most_telling(reasons: Set[str]) -> str:
    """What a pass is called by that was made for all of these."""
    order = (NOTIFICATION, POLL, INTERVAL, START, DOCUMENTS)
    return next(reason for reason in order if reason in reasons)
