"""Who is listening, and what each still has to be sent.

Lines are shared between watchers and never copied. A watcher that cannot keep up is closed, so that
it comes back and resumes; nothing is ever left out of a stream (specs REG-050 ..).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from overlay.errors import Unavailable
from overlay.registry import limits
from overlay.registry.directory import Delivery


class Closed(StrEnum):
    """Why a stream ends."""

    REPLACED = "replaced by a newer stream of the same caller"
    SLOW = "too slow"
    STOPPING = "the registry stops"


class Watcher:
    """Lines that wait for one stream."""

    __slots__ = ("_lines", "_wake", "caller", "closed")

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.closed: Closed | None = None
        self._lines: deque[bytes] = deque()
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._lines)

    def put(self, lines: Iterable[bytes]) -> None:
        self._lines.extend(lines)
        self._wake.set()

    def close(self, why: Closed) -> None:
        self.closed = self.closed or why
        self._wake.set()

    def take(self) -> bytes:
        """The next lines, as many as are sent in one piece."""
        taken: list[bytes] = []
        size = 0
        while self._lines and size < limits.MAX_WRITE_BYTES:
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        if not self._lines:
            self._wake.clear()
        return b"".join(taken)

    async def wait(self, timeout_s: float) -> bool:
        """True when there is something to send or nothing more will come, False after a while."""
        if self._lines or self.closed:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True


class Watchers:
    """All streams, by caller."""

    def __init__(
        self,
        *,
        limit: int = limits.MAX_WATCHERS,
        per_caller: int = limits.MAX_WATCHERS_PER_CALLER,
        waiting_lines: int = limits.MAX_WAITING_LINES,
    ) -> None:
        self._limit = limit
        self._per_caller = per_caller
        self._waiting_lines = waiting_lines
        self._of: dict[str, list[Watcher]] = {}
        self._is_closing = False
        self.count = 0
        self.slow = 0  # disconnected because they did not keep up
        self.sent = 0

    @contextmanager
    def watching(self, caller: str) -> Iterator[Watcher]:
        """Raises Unavailable when there are too many already, or none are served any more."""
        if self.count >= self._limit or self._is_closing:
            raise Unavailable("the registry serves no more watchers now")
        watcher = Watcher(caller)
        mine = self._of.setdefault(caller, [])
        mine.append(watcher)
        self.count += 1
        for oldest in mine[: -self._per_caller]:
            oldest.close(Closed.REPLACED)
        try:
            yield watcher
        finally:
            self.count -= 1
            mine.remove(watcher)
            if not mine and self._of.get(caller) is mine:
                del self._of[caller]

    def tell(self, deliveries: Iterable[Delivery]) -> None:
        """Queue what changed for everybody who listens and may see it."""
        told: dict[Watcher, list[bytes]] = {}
        for delivery in deliveries:
            for caller in self._of.keys() & set(delivery.audience):
                for watcher in self._of[caller]:
                    told.setdefault(watcher, []).append(delivery.held.line)
        for watcher, lines in told.items():
            if len(watcher) >= self._waiting_lines:
                self.slow += 1
                watcher.close(Closed.SLOW)
            else:
                self.sent += len(lines)
                watcher.put(lines)

    def close(self) -> None:
        """End all streams; no new ones begin."""
        self._is_closing = True
        for watchers in self._of.values():
            for watcher in watchers:
                watcher.close(Closed.STOPPING)
