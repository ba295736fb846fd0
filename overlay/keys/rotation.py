"""When a device key is replaced, and what the next step of a replacement is (specs KEY-020 ..).

Pure. Where a replacement stands is read off what is durable: which keys are on disk, and what the
own member document says. So a crash between two steps is no special case.

    steady      one key on disk, and the member document names it        -> MAKE when it is due
    made        a next key on disk, which the document does not name     -> ANNOUNCE
    announced   the document names both                                  -> PROMOTE at the time
    promoted    one key on disk, which the document names as the next    -> WEAR, then PUBLISH

Whatever else is found (a next key file that was lost, a document that an earlier life published)
leads back to steady by PUBLISH or DROP.
"""

from __future__ import annotations

import hashlib
from enum import Enum

import msgspec

DAY_S = 86_400
INTERVAL_S = 30 * DAY_S
OVERLAP_S = 3_600
MIN_OVERLAP_S = 5
MAX_OVERLAP_S = 7 * DAY_S
# Nodes that were set up together do not rotate together: each is up to a fifth early.
SPREAD = 0.2


class Step(Enum):
    """What is to be done now; each is durable by itself."""

    WAIT = "wait"
    MAKE = "make"  # the next key, on disk
    ANNOUNCE = "announce"  # publish the next key and the time from which it is used
    PROMOTE = "promote"  # the next key becomes the key, on disk: from here on there is no way back
    WEAR = "wear"  # the device has still to get the key
    PUBLISH = "publish"  # say which key is in use
    DROP = "drop"  # the next key is not wanted any more


class Record(msgspec.Struct, frozen=True):
    """What is remembered beside keys and documents, in Unix seconds."""

    device: str  # wg1...: which key `made` speaks of
    made: int
    coming: str = ""  # the next key, and when that was made
    coming_made: int = 0
    held_since: int = 0  # since when the registry is known to hold the announcement; 0: it is not


class Standing(msgspec.Struct, frozen=True):
    """What there is. Ids are wg1...; "" stands for none."""

    device: str  # the key on disk
    coming: str  # the next key on disk
    said: str  # what the own member document names as key, as next key, and when that takes over
    said_coming: str
    at: int
    worn: bool  # the device in the kernel is known to have the key on disk
    held_back: bool = False  # something here does not survive another key
    busy_until: int = 0  # until when another key would disturb something, Unix seconds


class Pace(msgspec.Struct, frozen=True):
    """How often, and how long peers know the next key before it is used."""

    interval_s: int | None = INTERVAL_S  # None: only when asked
    overlap_s: int = OVERLAP_S


class Next(msgspec.Struct, frozen=True):
    step: Step
    due: int | None = None  # when to ask again, Unix seconds; None: when something changes


def next_step(standing: Standing, record: Record, pace: Pace, *, spread: float, now: int) -> Next:
    """The step to make now. `spread` from 0 to 1 is this key's own, see `spread_of`."""
    it = standing
    if not it.said:
        return Next(Step.DROP if it.coming else Step.WAIT)
    if it.coming:
        return _with_next(it, record, pace, now=now)
    if it.said_coming == it.device:
        return Next(Step.PUBLISH if it.worn else Step.WEAR)
    if it.said_coming:
        return Next(Step.PUBLISH)
    due = due_at(record, pace, spread=spread)
    if due is None or it.held_back:
        return Next(Step.WAIT)
    due = max(due, it.busy_until)
    return Next(Step.MAKE) if due <= now else Next(Step.WAIT, due)


def _with_next(it: Standing, record: Record, pace: Pace, *, now: int) -> Next:
    if it.held_back:
        return Next(Step.DROP)
    # A time further off than any that we say was said by a clock that was wrong.
    if it.said_coming != it.coming or it.said != it.device or it.at - now > pace.overlap_s:
        return Next(Step.ANNOUNCE)
    if now < (at := max(it.at, it.busy_until)):
        return Next(Step.WAIT, at)
    # Peers that were never told would lose us: said again, with as much time as before.
    known_s = it.at - record.held_since
    if not record.held_since or known_s < pace.overlap_s // 2:
        return Next(Step.ANNOUNCE)
    return Next(Step.PROMOTE)


def due_at(record: Record, pace: Pace, *, spread: float) -> int | None:
    """When the next replacement begins by itself."""
    if pace.interval_s is None:
        return None
    return record.made + round(pace.interval_s * (1.0 - SPREAD * spread))


def spread_of(node: str, device: str) -> float:
    """A number from 0 to 1 that differs between nodes, and from one key of a node to the next."""
    digest = hashlib.sha256(f"zos rotation\x00{node}\x00{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def record_for(record: Record | None, *, device: str, coming: str, now: int) -> Record:
    """The record after a look at the keys on disk. A key that nothing is known of is new."""
    if record is None or device not in (record.device, record.coming):
        record = Record(device, now)
    elif device == record.coming:
        record = Record(device, record.coming_made)
    if coming != record.coming:
        made = now if coming else 0
        record = msgspec.structs.replace(record, coming=coming, coming_made=made, held_since=0)
    return _not_ahead(record, now=now)


def _not_ahead(record: Record, *, now: int) -> Record:
    """What the clock has taken back was not later than now."""
    return msgspec.structs.replace(
        record,
        made=min(record.made, now),
        coming_made=min(record.coming_made, now),
        held_since=min(record.held_since, now),
    )


def is_steady(standing: Standing) -> bool:
    """Whether nothing is being replaced."""
    it = standing
    return not it.coming and not it.said_coming and it.said == it.device
