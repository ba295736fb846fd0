"""When the pump may go before everybody else: as long as it leaves a processor to others. Pure."""

from __future__ import annotations

# One that never rests - slow processors, more packets than it can carry - would keep the kernel's
# own threads on its processor from running, and with them the whole machine.
WINDOW_NS = 100_000_000
SHARE_MAX = 0.5  # of a processor, in a window: more is no real time any more
SHARE_BACK = 0.25  # less is real time again


class Priority:
    """Real time from the start; by windows from then on."""

    __slots__ = ("_began_ns", "_used_ns", "is_real_time")

    def __init__(self, now_ns: int, used_ns: int) -> None:
        """`used_ns`: processor time of this thread so far."""
        self.is_real_time = True
        self._began_ns = now_ns
        self._used_ns = used_ns

    def is_due(self, now_ns: int) -> bool:
        """Whether a window is over, and `step` has something to say."""
        return now_ns - self._began_ns >= WINDOW_NS

    def step(self, now_ns: int, used_ns: int) -> bool:
        """Whether it is to change; a new window begins."""
        share = (used_ns - self._used_ns) / (now_ns - self._began_ns)
        self._began_ns, self._used_ns = now_ns, used_ns
        wanted = share <= SHARE_MAX if self.is_real_time else share < SHARE_BACK
        has_changed = wanted != self.is_real_time
        self.is_real_time = wanted
        return has_changed
