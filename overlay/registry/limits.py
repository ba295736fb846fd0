"""How much the registry takes from anybody, and a token bucket per caller. Pure.

Bounds on documents are in overlay.documents, on what is stored in admission, on frames in
overlay.peers.registry_wire.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_CONNECTIONS = 16_384
MAX_WATCHERS = 10_000
MAX_WATCHERS_PER_CALLER = 4  # the newest stay: an old one may be a connection that died silently
MAX_WAITING_LINES = 16_384  # a watcher that is this far behind when news arrive is disconnected
MAX_WRITE_BYTES = 256 << 10  # lines sent in one piece
WRITE_DEADLINE_S = 30.0
REQUEST_DEADLINE_S = 30.0  # for a body to arrive
FIRST_REQUEST_DEADLINE_S = 20.0  # for the first request line and headers
HANDSHAKE_DEADLINE_S = 30.0  # a reconnect storm is served one handshake after the other
KEEPALIVE_S = 75.0
LARGE_BODY_BYTES = 64 << 10
MAX_LARGE_BODIES = 8  # read at the same time
MAX_REQUEST_LINE_BYTES = 2_048
MAX_HEADER_FIELD_BYTES = 4_096
MAX_HEADERS = 64
MAX_CALLERS_REMEMBERED = 65_536
REQUESTS_PER_S = 50.0
REQUEST_BURST = 200.0


class Buckets:
    """Token buckets, one a key; the longest unused are forgotten, which refills them."""

    def __init__(self, *, per_s: float, burst: float, size: int = MAX_CALLERS_REMEMBERED) -> None:
        self._per_s = per_s
        self._burst = burst
        self._size = size
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, *, now: float) -> float:
        """Seconds to wait until one more is allowed; 0.0 when it was taken."""
        level, at = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._per_s)
        wait_s = 0.0 if level >= 1 else (1 - level) / self._per_s
        self._levels[key] = (level - 1 if level >= 1 else level, now)
        if len(self._levels) > self._size:
            self._levels.popitem(last=False)
        return wait_s
