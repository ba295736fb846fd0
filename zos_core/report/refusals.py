"""What this node did not believe or did not act on, and why."""

from __future__ import annotations

from datetime import datetime

from overlay.peers.selection import RefusedPeer
from overlay.reconcile import journal
from overlay.reconcile.resource import ResourceLoop
from zos_core.status import Refusal


def network_refusals(loop: ResourceLoop, *, now: datetime) -> tuple[Refusal, ...]:
    """Of documents that did not get in, and of members that are in no right to be peers."""
    outside = [
        refusal_status(r) for r in loop.record.journal.refusals if network_of(r.key) == loop.network
    ]
    inside = [
        _peer_refusal(refused, now=now)
        for node, refused in sorted(loop.goals.selection.refusals.items())
        if node not in loop.departed
    ]
    return tuple((*outside, *inside)[: journal.MAX_REFUSALS])


def _peer_refusal(refused: RefusedPeer, *, now: datetime) -> Refusal:
    return Refusal(refused.key, refused.reason, refused.field, refused.remedy, now)


def refusal_status(refusal: journal.Refusal) -> Refusal:
    return Refusal(
        refusal.key, refusal.reason, refusal.field, refusal.remedy, refusal.at, refusal.count
    )


def network_of(key: str) -> str | None:
    kind, _, rest = key.partition("/")
    return rest.partition("/")[0] if kind in ("network", "member", "result", "sighting") else None
