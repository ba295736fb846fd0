"""Which exit a network resource uses, with `now` as an argument (EXIT-054 .. EXIT-056). Pure.

The one in use is kept while it is healthy. An exit that failed is taken again only after a minute
without a failure, so that one that comes and goes costs one switch a minute at most; when there is
nobody else to take, the one in use stays, and what it does not let out goes nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from overlay.model import NodeId

STEADY_S = 60.0  # healthy for so long is an exit that failed taken again


class Contender(msgspec.Struct, frozen=True, gc=False):
    """An exit that the tenant names and that says it is one."""

    node: NodeId
    order: int
    is_healthy: bool
    drains_until: float | None = None  # monotonic; None: it does not
    latency_s: float | None = None  # None: not known yet


class Election(msgspec.Struct, frozen=True):
    """Who was elected, since when (monotonic), why; and who failed last when."""

    elected: NodeId | None = None
    since: float = 0.0
    reason: str = ""
    failed_at: Mapping[NodeId, float] = MappingProxyType({})
    draining: NodeId | None = None  # keeps what began at it, until then
    draining_until: float = 0.0


def elect(election: Election, contenders: Iterable[Contender], *, now: float) -> Election:
    """The election after another look; `election` itself when nothing follows."""
    known = {contender.node: contender for contender in contenders}
    failed_at = _failures(election, known, now=now)
    current = known.get(election.elected) if election.elected is not None else None
    chosen, reason = _choose(current, known, failed_at, now=now)
    draining, until = _draining(election, current, known, chosen, now=now)
    looked = msgspec.structs.replace(
        election, failed_at=failed_at, draining=draining, draining_until=until
    )
    if chosen == election.elected:
        return election if looked == election else looked
    because = _reason(election, current, reason)
    return msgspec.structs.replace(looked, elected=chosen, since=now, reason=because)


def _draining(
    election: Election,
    current: Contender | None,
    known: Mapping[NodeId, Contender],
    chosen: NodeId | None,
    *,
    now: float,
) -> tuple[NodeId | None, float]:
    """Where flows go on that began at an exit that was left because it drains, and how long.

    There is one at a time. What the exit said last holds, also when it drains no more: its flows
    would end, and nobody wants that.
    """
    kept = known.get(election.draining) if election.draining is not None else None
    until = election.draining_until
    if current is not None and current.node != chosen and current.drains_until is not None:
        kept = current
    if kept is not None and kept.drains_until is not None:
        until = kept.drains_until
    if kept is None or chosen in (None, kept.node) or not kept.is_healthy or until <= now:
        return None, 0.0
    return kept.node, until


def _failures(
    election: Election, known: Mapping[NodeId, Contender], *, now: float
) -> dict[NodeId, float]:
    """When each was seen unhealthy last, as far as that still matters."""
    # Who is no exit for a while, as after a deadline, may be one again within the minute.
    kept = {node: at for node, at in election.failed_at.items() if now - at < STEADY_S}
    # Who was never seen healthy has not failed: it is merely not there yet.
    elected = known.get(election.elected) if election.elected is not None else None
    for contender in known.values():
        was_there = contender is elected or contender.node in kept
        if was_there and not contender.is_healthy:
            kept[contender.node] = now
    return kept


def _choose(
    current: Contender | None,
    known: Mapping[NodeId, Contender],
    failed_at: Mapping[NodeId, float],
    *,
    now: float,
) -> tuple[NodeId | None, str]:
    if current is not None and current.is_healthy and current.drains_until is None:
        return current.node, ""
    others = [
        contender
        for contender in known.values()
        if contender is not current
        and contender.is_healthy
        and contender.drains_until is None
        and now - failed_at.get(contender.node, -STEADY_S) >= STEADY_S
    ]
    if others:
        return min(others, key=_preference).node, "it is the best that is healthy"
    if current is not None:
        return current.node, ""
    # Nothing leaves now, so there is nothing to be steady about; and nobody may have been heard of
    # yet: somebody has to be tried, for an exit proves itself by being used.
    willing = [contender for contender in known.values() if contender.drains_until is None]
    if not willing:
        return None, "no exit is there"
    healthy = [contender for contender in willing if contender.is_healthy]
    untried = [contender for contender in willing if contender.node not in failed_at]
    return min(healthy or untried or willing, key=_preference).node, "it is the first to be tried"


def _preference(contender: Contender) -> tuple[int, float, str]:
    latency_s = float("inf") if contender.latency_s is None else contender.latency_s
    return contender.order, latency_s, contender.node


def _reason(election: Election, current: Contender | None, because: str) -> str:
    if election.elected is None:
        return because
    if current is None:
        return "the one before is no exit any more"
    return "the one before drains" if current.is_healthy else "the one before failed"
