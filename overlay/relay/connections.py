"""Who may have a TCP connection to a relay, how many, and for how long. Pure; time comes in.

A connection lives for the member that is heard on it. Whoever makes one has shown an address and
nothing else, so what it may cost before its member has registered is bounded here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from overlay.relay.limits import Allowance, Bucket, Origins, Place, origin_of

MAX_CONNECTIONS = 1_024
# A node makes one for each of its networks, and a household shares one origin.
MAX_CONNECTIONS_PER_ORIGIN = 128
# A TLS handshake costs the relay a millisecond.
ORIGIN_CALLS = Allowance(burst=128, per_s=5)
ALL_CALLS = Allowance(burst=256, per_s=50)
PROOF_S = 15.0  # in which a member is heard on a connection, and again after it was not any more
# Messages while no member is heard on it: one that comes over with traffic sends before it is.
MAX_UNPROVEN = 4_096


class End(StrEnum):
    """Why a connection was refused, or ended by the relay."""

    FULL = "full"
    ORIGIN_FULL = "origin-full"
    LIMITED = "limited"
    NO_TLS = "no-tls"
    NO_WEBSOCKET = "no-websocket"
    NO_DATAGRAM = "no-datagram"  # it is too long, or no binary message
    UNPROVEN = "unproven"


@dataclass(slots=True)
class Connection:
    until_s: float
    unproven: int = 0


class Connections:
    """Those that are open, by the place that stands for each. `ends` counts what was refused."""

    def __init__(
        self,
        now: float,
        *,
        limit: int = MAX_CONNECTIONS,
        limit_per_origin: int = MAX_CONNECTIONS_PER_ORIGIN,
    ) -> None:
        self._limit = limit
        self._limit_per_origin = limit_per_origin
        self._open: dict[Place, Connection] = {}
        self._of: Counter[bytes] = Counter()
        self._calls = Bucket(ALL_CALLS, now)
        self._origins = Origins(ORIGIN_CALLS)
        self._number = 0
        self.ends: Counter[End] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def origins(self) -> int:
        """From how many origins they are."""
        return len(self._of)

    def admit(self, host: str, port: int, now: float) -> Place | None:
        """The place of a connection from there, which is open from now on; None: it is refused."""
        origin = origin_of(host)
        if self._of[origin] >= self._limit_per_origin:
            self.ends[End.ORIGIN_FULL] += 1
            return None
        if len(self._open) >= self._limit:
            self.ends[End.FULL] += 1
            return None
        if not self._origins.take((host, port), now) or not self._calls.take(now):
            self.ends[End.LIMITED] += 1
            return None
        self._number += 1
        place = (host, port, self._number)
        self._open[place] = Connection(now + PROOF_S)
        self._of[origin] += 1
        return place

    def leave(self, place: Place) -> None:
        """It is not open any more."""
        if self._open.pop(place, None) is not None:
            origin = origin_of(place[0])
            self._of[origin] -= 1
            if not self._of[origin]:
                del self._of[origin]

    def may_say(self, place: Place, *, is_heard: bool) -> bool:
        """Whether one more message is taken. `is_heard`: its member is."""
        connection = self._open.get(place)
        if connection is None:
            return False
        if is_heard:
            connection.unproven = 0
            return True
        connection.unproven += 1
        return connection.unproven <= MAX_UNPROVEN

    def overdue(self, is_heard: Callable[[Place], bool], now: float) -> list[Place]:
        """Those on which no member has been heard for too long; call it now and then."""
        found = []
        for place, connection in self._open.items():
            if is_heard(place):
                connection.until_s = now + PROOF_S
            elif now >= connection.until_s:
                found.append(place)
        return found
