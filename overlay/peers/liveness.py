"""Whether a way to a peer still works, from what was sent and heard (NODE-070 ..). Pure.

WireGuard itself notices after 15 s that nobody answers. A pair that has another way to go is asked
as soon as it sends into a silence, and is given up when it does not answer that.
"""

from __future__ import annotations

from enum import Enum

import msgspec

SILENT_S = 0.5  # sent, and nothing heard: now it is asked
ANSWER_S = 0.5  # in which an echo from anywhere on earth has come back
OTHER_SIDE_S = 0.3  # the side that does not begin leaves so much time to the one that does
ACTIVE_S = 120.0  # after its last traffic a pair is idle
MET_S = 20.0  # after its first handshake: what it met for may be over before anybody looks
OWN_BYTES = 64  # what goes over an idle path: keepalives, and the echo of a probe


class Verdict(Enum):
    FINE = "fine"
    ASK = "ask"  # send something that is answered at once
    DEAD = "dead"


class Watch(msgspec.Struct, frozen=True, gc=False):
    """What one peer's counters said so far."""

    sent_bytes: int
    heard_bytes: int
    handshake: int  # Unix seconds
    silent_since: float = -1.0  # monotonic; -1: it is not
    asked_at: float = -1.0
    active_at: float = float("-inf")
    met_at: float = float("-inf")

    def is_active(self, *, now: float) -> bool:
        """It has traffic, or may have had some that nobody saw."""
        return self.has_traffic(now=now) or now - self.met_at < MET_S

    def has_traffic(self, *, now: float) -> bool:
        return now - self.active_at < ACTIVE_S

    @property
    def is_silent(self) -> bool:
        return self.silent_since >= 0.0


def begin_watch(
    *, sent_bytes: int, heard_bytes: int, handshake: int, met_at: float = float("-inf")
) -> Watch:
    """`met_at`: when the two met, if they did just now."""
    return Watch(sent_bytes, heard_bytes, handshake, met_at=met_at)


def look(
    watch: Watch, *, sent_bytes: int, heard_bytes: int, handshake: int, begins: bool, now: float
) -> tuple[Watch, Verdict]:
    """The watch after a look at the counters. `begins`: it is ours to begin with this peer."""
    sent, heard = sent_bytes - watch.sent_bytes, heard_bytes - watch.heard_bytes
    if sent < 0 or heard < 0:  # the device counts from nothing again
        fresh = begin_watch(sent_bytes=sent_bytes, heard_bytes=heard_bytes, handshake=handshake)
        known = msgspec.structs.replace(fresh, active_at=watch.active_at, met_at=watch.met_at)
        return known, Verdict.FINE
    is_active = handshake == watch.handshake and max(sent, heard) > OWN_BYTES
    silent_since, asked_at = watch.silent_since, watch.asked_at
    if heard:
        silent_since = asked_at = -1.0
    elif sent and silent_since < 0.0:
        silent_since = now
    verdict = Verdict.FINE
    if asked_at >= 0.0 and now - asked_at >= ANSWER_S + (0.0 if begins else OTHER_SIDE_S):
        verdict, silent_since, asked_at = Verdict.DEAD, -1.0, -1.0
    elif silent_since >= 0.0 and asked_at < 0.0 and now - silent_since >= SILENT_S:
        verdict, asked_at = Verdict.ASK, now
    return (
        Watch(
            sent_bytes,
            heard_bytes,
            handshake,
            silent_since,
            asked_at,
            now if is_active else watch.active_at,
            watch.met_at,
        ),
        verdict,
    )
