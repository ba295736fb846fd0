"""How much one source, one member and all together may ask of a relay. Time comes in."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# Where a datagram came from, as the socket says it: (address, port), for IPv6 flow and scope too.
# Of three parts when it came by a TCP connection: address, port and the connection's number.
Place = tuple[str, int] | tuple[str, int, int, int] | tuple[str, int, int]
STREAM_PARTS = 3

IPV6_ORIGIN_BITS = 64  # whoever has one IPv6 address has the 2^64 beside it


@dataclass(frozen=True, slots=True)
class Allowance:
    """So much at once, and so much a second on average."""

    burst: float
    per_s: float


# A handshake costs the relay four X25519 products, a quarter of a millisecond. A household, or
# the customers of a small carrier, share one origin.
ORIGIN: Final = Allowance(burst=100, per_s=20)
# A member's own handshakes, those that it sends to others, and its keepalives.
MEMBER: Final = Allowance(burst=500, per_s=50)
# Handshakes with the relay itself; beyond, only who shows a cookie is answered.
CALM: Final = Allowance(burst=400, per_s=200)
MAX_ORIGINS = 4_096
RATE_BURST_S = 0.5  # what waited while others had their turn comes at once
MIN_RATE_BURST_BYTES = 65_536  # so does what the kernel has joined


def data_rate(mbit: int) -> Allowance | None:
    """So many Mbit/s, in bytes; None for 0, which is no limit."""
    bytes_per_s = mbit * 1_000_000 / 8
    burst = max(bytes_per_s * RATE_BURST_S, MIN_RATE_BURST_BYTES)
    return Allowance(burst, bytes_per_s) if mbit else None


class Bucket:
    """Tokens that come back with time."""

    __slots__ = ("_allowance", "_at_s", "_tokens")

    def __init__(self, allowance: Allowance, now: float) -> None:
        self._allowance = allowance
        self._tokens = allowance.burst
        self._at_s = now

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Whether there were so many tokens; they are gone then."""
        allowance = self._allowance
        earned = max(now - self._at_s, 0.0) * allowance.per_s
        self._tokens = min(self._tokens + earned, allowance.burst)
        self._at_s = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def charge(self, tokens: float) -> None:
        """What something has cost beyond the token that was taken for it; may end in debt."""
        self._tokens -= tokens


class Origins:
    """A bucket for each of the sources heard last, at most `limit`; the longest silent one goes.

    Who makes up sources by the thousand gets a full bucket for each: what all together may ask is
    bounded elsewhere.
    """

    def __init__(self, allowance: Allowance = ORIGIN, limit: int = MAX_ORIGINS) -> None:
        self._allowance = allowance
        self._limit = limit
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, place: Place, now: float) -> bool:
        origin = origin_of(place[0])
        bucket = self._buckets.get(origin)
        if bucket is None:
            bucket = self._buckets[origin] = Bucket(self._allowance, now)
            if len(self._buckets) > self._limit:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(origin)
        return bucket.take(now)


@lru_cache(maxsize=MAX_ORIGINS)
def origin_of(host: str) -> bytes:
    """What addresses of one owner have in common: an IPv4 address, the /64 of an IPv6 one."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.packed if address.version == 4 else address.packed[: IPV6_ORIGIN_BITS // 8]
