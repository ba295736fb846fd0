"""When relays are reached over TCP, because UDP is blocked, and when no longer (NODE-080 ..). Pure.

Over TCP everything works and nothing works well: it is the last resort, taken only when no relay
has answered over UDP and one of them does over TCP, and left as soon as UDP is answered again.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec

UDP_TRY_S = 6.0  # nobody answered: six greetings, a second apart
SETTLE_S = 1.0  # for the other connections, after the first is there
RETRY_S, RETRY_MAX_S = 5.0, 300.0  # between calls, when nobody answers over TCP either
PROBE_S, PROBE_MAX_S = 15.0, 300.0  # between questions whether UDP passes again
PROBE_WAIT_S = 2.0  # for the answer
DEAF_S, DEAF_BYTES = 5.0, 500  # so much was sent for so long, and nobody was heard
DOUBT_S = 15.0  # between doubts; each costs a handshake with every relay
STEADY_S = 600.0  # over UDP for so long: what was before is forgotten
LOOK_S = 0.25  # between looks while something is waited for


class Mode(Enum):
    UDP = "udp"
    CALLING = "calling"  # over UDP still; connections are being made
    TCP = "tcp"


class Call(Enum):
    """How far a connection to one relay is."""

    CALLING = "calling"
    OPEN = "open"
    FAILED = "failed"


class Fallback(msgspec.Struct, frozen=True):
    """Where one network is. Times are monotonic; -1: not."""

    mode: Mode = Mode.UDP
    since: float = -1.0
    silent_since: float = -1.0
    calls_at: float = 0.0  # not before
    calls: int = 0  # that led to nothing
    probes_at: float = -1.0
    probes: int = 0  # without an answer
    asked_at: float = -1.0

    @property
    def due(self) -> float | None:
        """When to look again at the latest, besides the looks that there are anyway."""
        if self.mode is Mode.CALLING:
            return self.since + LOOK_S
        if self.asked_at >= 0.0:
            return self.asked_at + LOOK_S
        return None


class Ear(msgspec.Struct, frozen=True):
    """What went out and came in by the underlay, but for our LAN, since somebody was heard last."""

    sent_bytes: int = 0  # then
    heard_bytes: int = -1  # then; -1: not looked yet
    heard_at: float = 0.0
    doubted_at: float = float("-inf")


def listen(ear: Ear, *, sent_bytes: int, heard_bytes: int, now: float) -> tuple[Ear, bool]:
    """The ear after a look, and whether to doubt that UDP passes: much went out, nothing came.

    A session that WireGuard holds says nothing about that for three minutes.
    """
    if heard_bytes != ear.heard_bytes or sent_bytes < ear.sent_bytes:
        fresh = msgspec.structs.replace(
            ear, sent_bytes=sent_bytes, heard_bytes=heard_bytes, heard_at=now
        )
        return fresh, False
    if (
        sent_bytes - ear.sent_bytes < DEAF_BYTES
        or now - ear.heard_at < DEAF_S
        or now - ear.doubted_at < DOUBT_S
    ):
        return ear, False
    return msgspec.structs.replace(ear, doubted_at=now), True


class Act(msgspec.Struct, frozen=True):
    """What follows from a look."""

    call: bool = False  # make connections
    hang_up: bool = False  # and end them
    probe: bool = False  # ask the relays over UDP


NOTHING = Act()


def look(
    fallback: Fallback,
    *,
    may_call: bool,
    is_answered: bool,
    calls: Iterable[Call],
    is_probe_answered: bool,
    now: float,
) -> tuple[Fallback, Act]:
    """The fallback after a look.

    `may_call`: one of the relays takes connections. `is_answered`: one of them answers the device
    over UDP. `calls`: how far the connections are. `is_probe_answered`: one answered a question.
    """
    match fallback.mode:
        case Mode.UDP:
            return _over_udp(fallback, may_call=may_call, is_answered=is_answered, now=now)
        case Mode.CALLING:
            return _calling(
                fallback, may_call=may_call, is_answered=is_answered, calls=set(calls), now=now
            )
    if is_probe_answered or not may_call:
        return Fallback(since=now, probes=fallback.probes), Act(hang_up=True)
    return _over_tcp(fallback, now=now)


def hurried(fallback: Fallback, *, now: float) -> Fallback:
    """Our own links changed: what was refused may be granted now."""
    return msgspec.structs.replace(
        fallback, calls_at=now, calls=0, probes_at=min(fallback.probes_at, now), probes=0
    )


def _over_udp(
    fallback: Fallback, *, may_call: bool, is_answered: bool, now: float
) -> tuple[Fallback, Act]:
    if is_answered or not may_call:
        if is_answered and fallback.probes and now - fallback.since >= STEADY_S:
            return Fallback(since=fallback.since), NOTHING
        if fallback.silent_since < 0.0 and not fallback.calls:
            return fallback, NOTHING
        return msgspec.structs.replace(fallback, silent_since=-1.0, calls=0), NOTHING
    if fallback.silent_since < 0.0:
        return msgspec.structs.replace(fallback, silent_since=now), NOTHING
    if now - fallback.silent_since < UDP_TRY_S or now < fallback.calls_at:
        return fallback, NOTHING
    calling = msgspec.structs.replace(fallback, mode=Mode.CALLING, since=now)
    return calling, Act(call=True)


def _calling(
    fallback: Fallback, *, may_call: bool, is_answered: bool, calls: set[Call], now: float
) -> tuple[Fallback, Act]:
    if is_answered or not may_call:
        return Fallback(since=now, probes=fallback.probes), Act(hang_up=True)
    if Call.CALLING in calls and not (Call.OPEN in calls and now - fallback.since >= SETTLE_S):
        return fallback, NOTHING
    if Call.OPEN in calls:
        over_tcp = msgspec.structs.replace(
            fallback, mode=Mode.TCP, since=now, silent_since=-1.0, calls=0
        )
        return _probing_later(over_tcp, now=now), NOTHING
    wait_s = min(RETRY_S * 2.0 ** min(fallback.calls, 16), RETRY_MAX_S)
    failed = msgspec.structs.replace(
        fallback, mode=Mode.UDP, since=now, calls=fallback.calls + 1, calls_at=now + wait_s
    )
    return failed, Act(hang_up=True)


def _over_tcp(fallback: Fallback, *, now: float) -> tuple[Fallback, Act]:
    if fallback.asked_at >= 0.0:
        if now - fallback.asked_at < PROBE_WAIT_S:
            return fallback, NOTHING
        unanswered = msgspec.structs.replace(fallback, asked_at=-1.0, probes=fallback.probes + 1)
        return _probing_later(unanswered, now=now), NOTHING
    if now < fallback.probes_at:
        return fallback, NOTHING
    return msgspec.structs.replace(fallback, asked_at=now), Act(probe=True)


def _probing_later(fallback: Fallback, *, now: float) -> Fallback:
    wait_s = min(PROBE_S * 2.0 ** min(fallback.probes, 16), PROBE_MAX_S)
    return msgspec.structs.replace(fallback, probes_at=now + wait_s)
