"""From a relay to a better way, without losing the way that works (NODE-072 ..). Pure.

Both sides open their NATs and firewalls for each other: a few small packets from WireGuard's own
port, which WireGuard ignores. Then one side writes the better endpoint and asks; what comes back
from there proves it (WireGuard's endpoint is where the last packet came from). Otherwise the relay
is in use again after half a second, and the next round waits. Rounds of both sides meet on a grid
of wall time, for both have to send within the half minute that a NAT remembers.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from overlay.model import Endpoint

OPEN_AGAIN_S = 0.5
FIRST_TRIES_S = 1.0  # after the first opening, by the side that begins
OTHER_TRIES_S = 2.6
TRIAL_S = 0.4
LOOK_S = 0.1  # while something is tried
MAX_ASSERTIONS = 6  # a late packet by the relay takes the endpoint back to it
MAX_TARGETS = 6  # of one round
ROUNDS_S = (0.0, 16.0, 64.0, 256.0, 1024.0)  # the grid that each round waits for; the last stays


class Phase(Enum):
    WAITING = "waiting"
    OPENING = "opening"
    TRYING = "trying"


class Upgrade(msgspec.Struct, frozen=True, gc=False):
    """Where one pair is in finding a better way."""

    targets: tuple[Endpoint, ...]
    due: float  # monotonic, when something follows whatever is heard
    phase: Phase = Phase.WAITING
    rounds: int = 0  # that led to nothing
    began: float = 0.0
    opened: int = 0
    at: int = 0
    assertions: int = 0
    heard_bytes: int = -1  # at the first look after the target was written; -1: not looked yet

    @property
    def target(self) -> Endpoint | None:
        return self.targets[self.at] if self.phase is Phase.TRYING else None


class Act(msgspec.Struct, frozen=True):
    """What follows from a look."""

    opens: tuple[Endpoint, ...] = ()
    go: Endpoint | None = None  # write this endpoint
    ask: bool = False  # send what is answered at once
    back: bool = False  # write the endpoint that works
    proven: Endpoint | None = None


NOTHING = Act()


def begin_upgrade(targets: tuple[Endpoint, ...], *, now: float, rounds: int = 0) -> Upgrade:
    return Upgrade(targets[:MAX_TARGETS], due=now, rounds=rounds)


def look(
    upgrade: Upgrade,
    *,
    seen: Endpoint | None,
    by_relay: bool,
    heard_bytes: int,
    begins: bool,
    offset: int,
    wall: float,
    now: float,
) -> tuple[Upgrade, Act]:
    """The upgrade after a look at a pair that has traffic.

    `seen` is WireGuard's endpoint of the peer, `by_relay` whether that is a relay; `begins`: it is
    ours to begin with this peer; `offset`: a number that both sides know, so that pairs do not all
    wake at the same time.
    """
    match upgrade.phase:
        case Phase.WAITING if now >= upgrade.due and upgrade.targets:
            opening = msgspec.structs.replace(
                upgrade, phase=Phase.OPENING, began=now, opened=1, due=now + OPEN_AGAIN_S
            )
            return opening, Act(opens=upgrade.targets)
        case Phase.OPENING if now >= upgrade.due:
            return _open_or_try(upgrade, begins=begins, now=now)
        case Phase.TRYING:
            return _tried(
                upgrade,
                seen=seen,
                by_relay=by_relay,
                heard_bytes=heard_bytes,
                offset=offset,
                wall=wall,
                now=now,
            )
    return upgrade, NOTHING


def _open_or_try(upgrade: Upgrade, *, begins: bool, now: float) -> tuple[Upgrade, Act]:
    tries_at = upgrade.began + (FIRST_TRIES_S if begins else OTHER_TRIES_S)
    if now >= tries_at:
        return _try(upgrade, 0, now=now)
    again = msgspec.structs.replace(
        upgrade, opened=upgrade.opened + 1, due=min(now + OPEN_AGAIN_S, tries_at)
    )
    return again, Act(opens=upgrade.targets)


def _try(upgrade: Upgrade, at: int, *, now: float) -> tuple[Upgrade, Act]:
    trying = msgspec.structs.replace(
        upgrade, phase=Phase.TRYING, at=at, began=now, due=now, assertions=1, heard_bytes=-1
    )
    return trying, Act(go=upgrade.targets[at])


def _tried(
    upgrade: Upgrade,
    *,
    seen: Endpoint | None,
    by_relay: bool,
    heard_bytes: int,
    offset: int,
    wall: float,
    now: float,
) -> tuple[Upgrade, Act]:
    target = upgrade.targets[upgrade.at]
    if seen != target and not by_relay:
        # It answers from another port than a relay hears it at: its NAT maps by destination.
        return begin_upgrade((), now=now), Act(proven=seen)
    # What came before the target was written says nothing, so it is counted from the look after.
    if seen == target and 0 <= upgrade.heard_bytes < heard_bytes:
        return begin_upgrade((), now=now), Act(proven=target)
    if now - upgrade.began < TRIAL_S:
        return _wait(upgrade, seen=seen, heard_bytes=heard_bytes, now=now)
    if upgrade.at + 1 < len(upgrade.targets):
        return _try(upgrade, upgrade.at + 1, now=now)
    rounds = upgrade.rounds + 1
    due = _next_round(rounds, offset=offset, wall=wall, now=now)
    return Upgrade(upgrade.targets, due=due, rounds=rounds), Act(back=seen == target)


def _wait(
    upgrade: Upgrade, *, seen: Endpoint | None, heard_bytes: int, now: float
) -> tuple[Upgrade, Act]:
    target = upgrade.targets[upgrade.at]
    if seen == target:
        is_first = upgrade.heard_bytes < 0
        waiting = msgspec.structs.replace(
            upgrade,
            due=now + LOOK_S,
            heard_bytes=heard_bytes if is_first else upgrade.heard_bytes,
        )
        return waiting, Act(ask=is_first)
    if upgrade.assertions >= MAX_ASSERTIONS:
        return msgspec.structs.replace(upgrade, due=now + LOOK_S), NOTHING
    asserted = msgspec.structs.replace(
        upgrade, due=now, assertions=upgrade.assertions + 1, heard_bytes=-1
    )
    return asserted, Act(go=target)


def _next_round(rounds: int, *, offset: int, wall: float, now: float) -> float:
    """Monotonic; both sides come to the same moment, or one to a moment of the other's."""
    grid_s = ROUNDS_S[min(rounds, len(ROUNDS_S) - 1)]
    return now + grid_s - (wall - offset) % grid_s


def retry_later(targets: tuple[Endpoint, ...], *, offset: int, wall: float, now: float) -> Upgrade:
    """After a better way broke: it is not tried again at once."""
    return Upgrade(
        targets[:MAX_TARGETS],
        due=_next_round(1, offset=offset, wall=wall, now=now),
        rounds=1,
    )
