"""The status of one network resource, and of a network that this node refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

import msgspec

from overlay import addressing
from overlay.documents.schema import Network
from overlay.errors import Refused, Unavailable
from overlay.exitnode.named import has_exits
from overlay.keys import wireguard
from overlay.model import AllowRule, NetworkResource, PeerTraffic, WgDevice, WgPublicKey
from overlay.netns.namespaces import pin_path
from overlay.netns.state import Attachment
from overlay.reconcile.node import NodeLoop
from overlay.reconcile.resource import ResourceLoop
from zos_core.report.keys import read_key
from zos_core.report.names import names_status
from zos_core.report.peers import member_names, read_peers
from zos_core.report.refusals import network_refusals
from zos_core.report.relay import network_relays
from zos_core.status import (
    AttachmentStatus,
    NetworkState,
    NetworkStatus,
    RuleStatus,
    WayOutStatus,
)

DEVICE_PATIENCE_S = 2.0  # a person waits; a device of any size answers sooner


async def read_network(node: NodeLoop, loop: ResourceLoop, *, now: datetime) -> NetworkStatus:
    """One network resource."""
    device, traffic = await _read_device(loop)
    selection, nr, document = loop.goals.selection, loop.network_resource, loop.document
    own = selection.own_member
    state, message, remedy = _state(loop)
    named = document is not None and loop.node in {m.node for m in document.members}
    return NetworkStatus(
        id=loop.network,
        name=document.name if document else "",
        state=state,
        message=message,
        remedy=remedy,
        owners=document.owners.keys if document else (),
        version=document.version if document else 0,
        joined_by="name" if named else "invitation",
        member_name=_own_name(loop),
        member_version=own.version if own else 0,
        member_accepted=loop.is_announced(),
        index=nr.index if nr else None,
        range_v4=document.range if document else "",
        range_v6=addressing.ula_range(loop.network),
        subnet_v4=nr.subnet_v4 if nr else None,
        subnet_v6=nr.subnet_v6 if nr else None,
        gateway_v4=addressing.address_of(nr.gateway_v4) if nr else None,
        gateway_v6=addressing.address_of(nr.gateway_v6) if nr else None,
        netns=loop.netns,
        netns_path=pin_path(loop.netns),
        listen_port=loop.listen_port,
        mtu_bytes=nr.mtu_bytes if nr else None,
        public_key=wireguard.format_key(loop.device_key.public_key),
        policy=_policy(nr),
        peers=read_peers(loop, device, traffic, now=now),
        attachments=tuple(map(attachment_status, loop.workloads(nr))) if nr else (),
        refusals=network_refusals(loop, now=now),
        last_pass_at=loop.record.outcome.at if loop.record.outcome else None,
        last_change_at=loop.record.last_change_at,
        relays=network_relays(loop),
        way_out=_way_out(loop),
        names=names_status(node.answering.answers.get(loop.network)),
        key=read_key(node.rotating, loop),
    )


async def _read_device(
    loop: ResourceLoop,
) -> tuple[WgDevice | None, Mapping[WgPublicKey, PeerTraffic]]:
    """What WireGuard tells; nothing when it does not answer, which the next pass reports."""
    try:
        async with asyncio.timeout(DEVICE_PATIENCE_S):
            return await loop.read_device()
    except (TimeoutError, Unavailable):
        return None, {}


def _way_out(loop: ResourceLoop) -> WayOutStatus | None:
    if not has_exits(loop.goals.selection):
        return None
    names, now = member_names(loop), loop.schedule.now
    election = loop.leaving.election
    return WayOutStatus(
        exit=names.get(election.elected) if election.elected is not None else None,
        since_s=max(0, int(now - election.since)),
        reason=election.reason,
        failed=tuple(sorted(names.get(node, node) for node in election.failed_at)),
        draining=names.get(election.draining) if election.draining is not None else None,
        is_here=loop.is_exit,
    )


def _state(loop: ResourceLoop) -> tuple[NetworkState, str, str]:
    """State, one sentence, and what a person can do."""
    if not loop.is_ours:
        return "removing", "the network is deleted, or this node is no longer in it", ""
    if not loop.gate.open:
        return "waiting", loop.gate.message, loop.gate.remedy
    outcome = loop.record.outcome
    if outcome is not None and outcome.error is not None:
        error = outcome.error
        return "converging", str(error.message), error.remedy or "zos tries again by itself"
    if not loop.passes.is_settled:
        return "converging", "", ""
    refusal = None if loop.is_announced() else loop.announcement_error()
    if refusal is not None:
        return "joining", refusal.message, refusal.remedy or "zos tries again by itself"
    return "up", "", ""


def _own_name(loop: ResourceLoop) -> str:
    own = loop.goals.selection.own_member
    if own is not None:
        return own.name
    document = loop.document
    members = document.members if document else ()
    return next((m.name for m in members if m.node == loop.node), "")


def _policy(nr: NetworkResource | None) -> tuple[RuleStatus, ...] | None:
    return None if nr is None or nr.policy is None else tuple(map(_rule, nr.policy))


def _rule(rule: AllowRule) -> RuleStatus:
    ports = tuple(str(a) if a == b else f"{a}-{b}" for a, b in rule.ports)
    return RuleStatus(rule.source, rule.to, rule.protocol, ports)


def attachment_status(attachment: Attachment) -> AttachmentStatus:
    return msgspec.convert(msgspec.to_builtins(attachment), AttachmentStatus)


def refused_network(id_: str, document: Network, error: Refused) -> NetworkStatus:
    return NetworkStatus(
        id=id_,
        name=document.name,
        state="refused",
        message=error.message,
        remedy=error.remedy or "",
        owners=document.owners.keys,
        version=document.version,
        joined_by="name",
        member_name="",
        member_version=0,
        member_accepted=False,
        index=None,
        range_v4=document.range,
        range_v6="",
        subnet_v4=None,
        subnet_v6=None,
        gateway_v4=None,
        gateway_v6=None,
        netns="",
        netns_path="",
        listen_port=None,
        mtu_bytes=None,
        public_key=None,
        policy=None,
        peers=(),
        attachments=(),
        refusals=(),
        last_pass_at=None,
        last_change_at=None,
    )
