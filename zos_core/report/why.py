"""What `zos why` walks: documents, members and what the kernel lacks, in one answer."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from overlay.documents.schema import Network
from overlay.netns.changes import Change, LoadFirewall
from overlay.reconcile.node import NodeLoop
from overlay.reconcile.resource import ResourceLoop
from zos_core.report.facts import Facts
from zos_core.report.networks import read_network
from zos_core.report.peers import member_names
from zos_core.report.status import read_status
from zos_core.status import SCHEMA, MemberStatus, PlannedChange, WhyInputs


async def read_why(node: NodeLoop, loop: ResourceLoop, facts: Facts) -> WhyInputs:
    """What `zos why` walks. Raises Unavailable when the kernel cannot be asked."""
    status = await read_status(node, facts)
    network = await read_network(node, loop, now=node.clock.now())
    drift = await loop.plan()
    document = loop.document
    return WhyInputs(
        schema=SCHEMA,
        node=node.id,
        document=msgspec.to_builtins(document) if document else {},
        network=network,
        members=tuple(_members(loop, document)) if document else (),
        drift=planned(loop.network, drift, reason="drift"),
        firewall_loaded=not any(isinstance(change, LoadFirewall) for change in drift),
        health=tuple(h for h in status.health if h.network in (None, loop.network)),
    )


def planned(network: str, changes: Iterable[Change], *, reason: str) -> tuple[PlannedChange, ...]:
    return tuple(PlannedChange(network, change.describe(), reason) for change in changes)


def _members(loop: ResourceLoop, document: Network) -> Iterable[MemberStatus]:
    selection, names = loop.goals.selection, member_names(loop)
    named = {member.node for member in document.members}
    for member in document.members:
        yield _member(loop, names[member.node], member.node, member.index)
    for node, joined in selection.members.items():
        if node not in named:
            yield _member(loop, names[node], node, joined.index)
    for invitation in document.invitations:
        yield MemberStatus(
            name=invitation.name,
            kind="invitation",
            node=None,
            index=invitation.first_index,
            uses=invitation.uses,
            via=None,
            member=False,
            refusal=None,
        )
    for device in document.access:
        refused = selection.refusals.get(f"access/{device.name}")
        yield MemberStatus(
            name=device.name,
            kind="access",
            node=None,
            index=device.index,
            uses=1,
            via=device.via,
            member=refused is None,
            refusal=refused.reason if refused else None,
        )


def _member(loop: ResourceLoop, name: str, node: str, index: int) -> MemberStatus:
    selection = loop.goals.selection
    refused = selection.refusals.get(node)
    return MemberStatus(
        name=name,
        kind="node",
        node=node,
        index=index,
        uses=1,
        via=None,
        member=node in selection.members and refused is None,
        refusal=refused.reason if refused else None,
    )
