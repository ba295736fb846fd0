"""What became of a datagram, and where what it led to goes."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from overlay.relay.limits import Place

Sending = tuple[Place, bytes]


class Fate(StrEnum):
    FORWARDED = "forwarded"
    ANSWERED = "answered"  # a handshake of a member with the relay
    KEEPALIVE = "keepalive"
    COOKIE = "cookie"  # the relay is busy and asked for a cookie
    HELD = "held"  # an initiation for somebody who is not there yet; it may be forwarded soon
    NO_MESSAGE = "no-message"
    UNKNOWN_SOURCE = "unknown-source"
    UNKNOWN_INDEX = "unknown-index"
    UNKNOWN_RECEIVER = "unknown-receiver"  # nobody registered who shares a network with the sender
    NO_MEMBER = "no-member"
    FORGED = "forged"
    REPLAYED = "replayed"
    LIMITED = "limited"
    OVER_RATE = "over-rate"  # more data than one member may send
    FULL = "full"
    TAKEN = "taken"  # the index or the address is somebody else's


class Fates(Counter[Fate]):
    """How many datagrams met which fate."""

    def drop(self, fate: Fate) -> Sending | None:
        """Nothing is sent, and it is counted why."""
        self[fate] += 1
        return None

    def answer(self, fate: Fate, place: Place, packet: bytes) -> Sending | None:
        """`packet` goes to `place`, and it is counted."""
        self[fate] += 1
        return place, packet
