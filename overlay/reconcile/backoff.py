"""How long to wait before the next try: longer every time, and never all at once. Pure."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 0.25
MOST_S = 30.0
SPREAD = 0.2  # +-20 %, so that nodes that failed together do not return together


class Backoff:
    """Doubles up to a bound. `random` gives numbers from 0 to 1."""

    def __init__(
        self, random: Callable[[], float], *, first_s: float = FIRST_S, most_s: float = MOST_S
    ) -> None:
        self._random = random
        self._first_s = first_s
        self._most_s = most_s
        self._failures = 0

    def next_s(self) -> float:
        """The wait after one more failure."""
        wait_s = min(self._first_s * 2.0 ** min(self._failures, 32), self._most_s)
        self._failures += 1
        return spread(wait_s, self._random())

    def reset(self) -> None:
        self._failures = 0


def spread(seconds: float, random: float) -> float:
    """`seconds`, up to a fifth more or less."""
    return seconds * (1.0 + SPREAD * (2.0 * random - 1.0))
