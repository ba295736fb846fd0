"""What waits to be written to a connection that takes it more slowly than it comes. Pure.

A datagram that waits is worth less with every moment, and who sent it sends again what is missed:
so the oldest are dropped, and nothing is kept beyond a bound.
"""

from __future__ import annotations

from collections import deque

MAX_BACKLOG_BYTES = 256 << 10  # 20 ms at 100 Mbit/s


class Backlog:
    """Datagrams in order; `dropped` counts those that made room for later ones."""

    __slots__ = ("_limit", "_packets", "_size", "dropped")

    def __init__(self, limit_bytes: int = MAX_BACKLOG_BYTES) -> None:
        self._packets: deque[bytes] = deque()
        self._size = 0
        self._limit = limit_bytes
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._packets)

    @property
    def size_bytes(self) -> int:
        return self._size

    def put(self, packet: bytes) -> None:
        """The latest waits; of the oldest as many are gone as there is no room for."""
        self._packets.append(packet)
        self._size += len(packet)
        while self._size > self._limit:
            self._size -= len(self._packets.popleft())
            self.dropped += 1

    def take(self) -> bytes | None:
        """The oldest; None when nothing waits."""
        if not self._packets:
            return None
        packet = self._packets.popleft()
        self._size -= len(packet)
        return packet
