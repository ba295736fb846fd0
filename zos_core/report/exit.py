"""What this node does as an exit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from overlay.documents.published import REASONS
from overlay.exitnode.publishing import Decided
from overlay.reconcile.exiting import Exiting
from overlay.reconcile.node import NodeLoop
from zos_core.status import ExitState, ExitStatus, HealthItem, PublishedStatus


def read_exit(node: NodeLoop) -> ExitStatus | None:
    """None while the farm does not offer this node as an exit."""
    exiting = node.exiting
    if exiting.offer is None:
        return None
    error, until = exiting.error, exiting.offer.draining_until
    return ExitStatus(
        state=_state(exiting),
        message=error.message if error is not None else "",
        remedy=(error.remedy or "zos tries again by itself") if error is not None else "",
        networks=tuple(sorted(exiting.standing)),
        draining_until=datetime.fromtimestamp(until, UTC) if until is not None else None,
        publish=exiting.offer.publish,
        published=tuple(_published(node, each) for each in exiting.publishing.decision.decided),
    )


def _published(node: NodeLoop, decided: Decided) -> PublishedStatus:
    claim, said = decided.claim, decided.claim.published
    loop = node.loops.get(claim.network)
    document = loop.document if loop is not None else None
    members = document.members if document is not None else ()
    member = next((m.name for m in members if m.node == said.node), said.node)
    return PublishedStatus(
        network=claim.network,
        name=document.name if document is not None else "",
        protocol=said.protocol,
        port=said.port,
        to=f"{said.workload}.{member}:{said.target}",
        state=decided.state,
        reason=REASONS[decided.state],
    )


def _state(exiting: Exiting) -> ExitState:
    if exiting.error is not None:
        return "failed"
    if exiting.offer_in_use is None:
        return "out of use"
    return "serving" if exiting.standing else "idle"


def exit_health(status: ExitStatus | None) -> Iterable[HealthItem]:
    """What an operator should know of it."""
    if status is not None and status.state == "failed":
        yield HealthItem(
            "exit-failed", "Nothing leaves by this exit", "error", status.message, status.remedy
        )
