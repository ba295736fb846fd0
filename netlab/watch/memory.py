"""What a lab looked like at every moment since somebody watches, within a bound. Pure."""

from __future__ import annotations

import zlib
from collections import OrderedDict

MOMENTS_MAX = 3600  # an hour of seconds


class Memory:
    """Snapshots by number, compressed: they are much alike. The oldest go first."""

    def __init__(self, moments_max: int = MOMENTS_MAX) -> None:
        self._moments_max = moments_max
        self._kept: OrderedDict[int, tuple[float, bytes]] = OrderedDict()
        self._last = 0

    def put(self, lab_s: float, snapshot: bytes) -> int:
        """The number under which it is found: one more than the one before."""
        self._last += 1
        self._kept[self._last] = (lab_s, zlib.compress(snapshot, level=1))
        if len(self._kept) > self._moments_max:
            self._kept.popitem(last=False)
        return self._last

    def get(self, number: int) -> bytes | None:
        found = self._kept.get(number)
        return None if found is None else zlib.decompress(found[1])

    def moments(self) -> list[tuple[int, float]]:
        """Number and time in the lab of all that is kept, in order."""
        return [(number, lab_s) for number, (lab_s, _) in self._kept.items()]
