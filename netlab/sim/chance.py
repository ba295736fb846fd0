"""A seeded generator as an input: `random.Random(seed)` is one. Nothing here makes its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Chance(Protocol):
    """The same numbers in the same order, whenever it begins at the same seed."""

    def random(self) -> float:
        """From 0 to below 1."""

    def randrange(self, stop: int, /) -> int:
        """From 0 to below `stop`."""

    def choice(self, seq: Sequence[T], /) -> T: ...

    def sample(self, population: Sequence[T], k: int) -> list[T]: ...
