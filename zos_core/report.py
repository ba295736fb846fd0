"""The node's state as the types of `status`: what people and commands are told."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from overlay import addressing
from overlay.documents import schema
from overlay.documents.schema import Network
from overlay.errors import Refused, Unavailable
from overlay.keys import wireguard
from overlay.model import AllowRule, NetworkResource, PeerTraffic, WgDevice, WgPeer, WgPublicKey
from overlay.netns.changes import Change
from overlay.netns.namespaces import pin_path
from overlay.netns.state import Attachment
from overlay.peers.paths import HANDSHAKE_FRESH_S
from overlay.peers.selection import RefusedPeer
from overlay.reconcile import journal, membership
from overlay.reconcile.node import NodeLoop
from overlay.reconcile.resource import ResourceLoop
from zos_core.status import (
    SCHEMA,
    AttachmentStatus,
    FarmState,
    HealthItem,
    MemberStatus,
    NetworkState,
    NetworkStatus,
    NodeStatus,
    PathKind,
    PeerState,
    PeerStatus,
    PlannedChange,
    Refusal,
    RegistryStatus,
    Repair,
    RuleStatus,
    Status,
    WhyInputs,
)

STALE_REGISTRY_S = 120
DEVICE_PATIENCE_S = 2.0  # a person waits; a device of any size answers sooner


class Facts(msgspec.Struct, frozen=True):
    """What does not change while a node runs."""

    started_at: datetime
    backend_reason: str
    backend_remedy: str | None
    state_directory: str
    registry: str | None


async def read_status(node: NodeLoop, facts: Facts) -> Status:
    """Everything, with the peers as the devices have them now."""
    now = node.clock.now()
    networks = [await read_network(loop, now=now) for loop in tuple(node.loops.values())]
    networks += [
        _refused_network(id_, document, error) for id_, (document, error) in node.refused.items()
    ]
    networks.sort(key=lambda network: (network.name, network.id))
    registry = _registry(node, facts)
    return Status(
        schema=SCHEMA,
        generation=node.generation,
        at=now,
        node=_node(node, facts),
        registry=registry,
        networks=tuple(networks),
        repairs=tuple(Repair(r.at, r.network, r.what, r.by) for r in node.journal.repairs),
        refusals=tuple(
            _refusal(refusal)
            for refusal in node.journal.refusals
            if _network_of(refusal.key) not in node.loops
        ),
        health=tuple(_health(node, facts, registry, networks)),
    )


async def read_network(loop: ResourceLoop, *, now: datetime) -> NetworkStatus:
    """One network resource."""
    try:
        device, traffic = await loop.read_device()
    except Unavailable:
        device, traffic = None, {}  # the network's own state says so; others are shown all the same
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
        peers=_peers(loop, device, traffic, now=now),
        attachments=tuple(map(attachment_status, loop.workloads(nr))) if nr else (),
        refusals=_refusals(loop, now=now),
        last_pass_at=loop.outcome.at if loop.outcome else None,
        last_change_at=loop.last_change_at,
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


async def read_why(node: NodeLoop, loop: ResourceLoop, facts: Facts) -> WhyInputs:
    """What `zos why` walks. Raises Unavailable when the kernel cannot be asked."""
    status = await read_status(node, facts)
    network = await read_network(loop, now=node.clock.now())
    drift = await loop.plan()
    document = loop.document
    return WhyInputs(
        schema=SCHEMA,
        node=node.id,
        document=msgspec.to_builtins(document) if document else {},
        network=network,
        members=tuple(_members(loop, document)) if document else (),
        drift=planned(loop.network, drift, reason="drift"),
        firewall_loaded=not any(type(change).__name__ == "LoadFirewall" for change in drift),
        health=tuple(h for h in status.health if h.network in (None, loop.network)),
    )


def planned(network: str, changes: Iterable[Change], *, reason: str) -> tuple[PlannedChange, ...]:
    return tuple(PlannedChange(network, change.describe(), reason) for change in changes)


def _node(node: NodeLoop, facts: Facts) -> NodeStatus:
    settings, here = node.settings, node.surroundings
    return NodeStatus(
        id=node.id,
        name=settings.name,
        software=settings.software,
        pid=os.getpid(),
        started_at=facts.started_at,
        backend=node.backend,
        backend_reason=facts.backend_reason,
        farm=settings.farm,
        farm_state=_farm_state(node),
        underlay_mtu_bytes=here.mtu_bytes,
        endpoints=tuple(map(str, settings.endpoints)),
        addresses=tuple(map(addressing.address_of, here.addresses)),
        state_directory=facts.state_directory,
    )


def _farm_state(node: NodeLoop) -> FarmState:
    if node.settings.farm is None:
        return "none"
    return "listed" if node.farm is not None and node.id in node.farm.nodes else "waiting"


def _registry(node: NodeLoop, facts: Facts) -> RegistryStatus:
    connection = node.feed.connection
    return RegistryStatus(
        reference=str(node.client.ref) if node.client else facts.registry,
        state=connection.state if node.client else "none",
        since=connection.since,
        verified_at=connection.verified_at,
        revision=node.revision or 0,
        error=connection.error,
    )


def _state(loop: ResourceLoop) -> tuple[NetworkState, str, str]:
    """State, one sentence, and what a person can do."""
    if not loop.is_ours:
        return "removing", "the network is deleted, or this node is no longer in it", ""
    if not loop.gate.open:
        return "waiting", loop.gate.message, loop.gate.remedy
    outcome = loop.outcome
    if outcome is not None and outcome.error is not None:
        error = outcome.error
        return "converging", str(error.message), error.remedy or "zos tries again by itself"
    if not loop.is_settled:
        return "converging", "", ""
    refusal = None if loop.is_announced() else loop.announcement_error()
    if refusal is not None:
        return "joining", refusal.message, refusal.remedy or "zos tries again by itself"
    return "up", "", ""


def _refused_network(id_: str, document: Network, error: Refused) -> NetworkStatus:
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


def _own_name(loop: ResourceLoop) -> str:
    own = loop.goals.selection.own_member
    if own is not None:
        return own.name
    document = loop.document
    members = document.members if document else ()
    return next((m.name for m in members if m.node == loop.node), "")


def _peers(
    loop: ResourceLoop,
    device: WgDevice | None,
    traffic: Mapping[WgPublicKey, PeerTraffic],
    *,
    now: datetime,
) -> tuple[PeerStatus, ...]:
    seen = device.peers if device is not None else {}
    names = member_names(loop)
    peers = (
        _peer(loop, peer, seen.get(key), traffic.get(key), names, now=now)
        for key, peer in loop.goals.peers.items()
    )
    return tuple(sorted(peers, key=lambda peer: peer.index))


def _peer(
    loop: ResourceLoop,
    peer: WgPeer,
    seen: WgPeer | None,
    traffic: PeerTraffic | None,
    names: Mapping[str, str],
    *,
    now: datetime,
) -> PeerStatus:
    key = peer.public_key
    selection, path = loop.goals.selection, loop.goals.path(key)
    member, access = selection.member_at(key), selection.access_at(key)
    index = member.index if member else access.index if access else 0
    gateway_v4, gateway_v6 = _gateways(loop, index)
    endpoint = seen.endpoint if seen else None
    latest = seen.latest_handshake if seen else 0
    kind = path.kind_of(endpoint) if path else "roamed" if endpoint else "none"
    return PeerStatus(
        name=names.get(member.node, member.name) if member else access.name if access else "",
        kind="node" if member else "access",
        node=member.node if member else None,
        index=index,
        public_key=base64.b64encode(key).decode(),
        allowed_ips=peer.allowed_ips,
        gateway_v4=gateway_v4,
        gateway_v6=gateway_v6,
        state=_peer_state(latest, traffic, now=now),
        path=_path_kind(kind),
        endpoint=str(endpoint) if endpoint else None,
        candidates=tuple(f"{c.kind} {c.endpoint}" for c in path.candidates) if path else (),
        latest_handshake=datetime.fromtimestamp(latest, UTC) if latest else None,
        handshake_age_s=max(0, int(now.timestamp()) - latest) if latest else None,
        rx_bytes=traffic.rx_bytes if traffic else 0,
        tx_bytes=traffic.tx_bytes if traffic else 0,
        keepalive_s=peer.keepalive_s,
    )


def _path_kind(kind: str) -> PathKind:
    kinds: dict[str, PathKind] = {
        "declared": "declared",
        "local": "local",
        "observed": "observed",
        "roamed": "roamed",
    }
    return kinds.get(kind, "none")


def _peer_state(latest: int, traffic: PeerTraffic | None, *, now: datetime) -> PeerState:
    """Active with a session; silent when it had one; connecting when only we have sent."""
    if latest and now.timestamp() - latest < HANDSHAKE_FRESH_S:
        return "active"
    if traffic is not None and traffic.tx_bytes and not latest:
        return "connecting"
    return "silent" if latest else "idle"


def member_names(loop: ResourceLoop) -> dict[str, str]:
    """What members are called: by the tenant, or else by themselves as far as that is unique."""
    document = loop.document
    if document is None:
        return {}
    names = {member.node: member.name for member in document.members}
    taken = set(schema.names(document))
    for node, member in sorted(loop.goals.selection.members.items()):
        if node in names:
            continue
        # "~" is in no label: nobody can take a name that the tenant gave, or one made here.
        unique = member.name if member.name not in taken else f"{member.name}~{member.index}"
        names[node] = unique
        taken.add(unique)
    return names


def _gateways(loop: ResourceLoop, index: int) -> tuple[str, str]:
    document = loop.document
    if document is None:
        return "", ""
    nr = loop.network_resource
    range_v4 = nr.range_v4 if nr else None
    if range_v4 is None or nr is None:
        return "", ""
    subnets = (
        addressing.subnet_v4(range_v4, index),
        addressing.subnet_v6(nr.range_v6, index),
    )
    v4, v6 = (
        addressing.address_of(addressing.host_address(subnet, addressing.GATEWAY_HOST))
        for subnet in subnets
    )
    return v4, v6


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


def _policy(nr: NetworkResource | None) -> tuple[RuleStatus, ...] | None:
    return None if nr is None or nr.policy is None else tuple(map(_rule, nr.policy))


def _rule(rule: AllowRule) -> RuleStatus:
    ports = tuple(str(a) if a == b else f"{a}-{b}" for a, b in rule.ports)
    return RuleStatus(rule.source, rule.to, rule.protocol, ports)


def attachment_status(attachment: Attachment) -> AttachmentStatus:
    return msgspec.convert(msgspec.to_builtins(attachment), AttachmentStatus)


def _refusals(loop: ResourceLoop, *, now: datetime) -> tuple[Refusal, ...]:
    """Of documents that did not get in, and of members that are in no right to be peers."""
    outside = [_refusal(r) for r in loop.journal.refusals if _network_of(r.key) == loop.network]
    inside = [
        _peer_refusal(refused, now=now)
        for node, refused in sorted(loop.goals.selection.refusals.items())
        if node not in loop.departed
    ]
    return tuple((*outside, *inside)[: journal.MAX_REFUSALS])


def _refusal(refusal: journal.Refusal) -> Refusal:
    return Refusal(
        refusal.key, refusal.reason, refusal.field, refusal.remedy, refusal.at, refusal.count
    )


def _peer_refusal(refused: RefusedPeer, *, now: datetime) -> Refusal:
    return Refusal(refused.key, refused.reason, refused.field, refused.remedy, now)


def _network_of(key: str) -> str | None:
    kind, _, rest = key.partition("/")
    return rest.partition("/")[0] if kind in ("network", "member", "result") else None


def _health(
    node: NodeLoop, facts: Facts, registry: RegistryStatus, networks: list[NetworkStatus]
) -> Iterable[HealthItem]:
    yield from _registry_health(node, registry)
    yield from _farm_health(node)
    if facts.backend_remedy is not None:
        yield HealthItem(
            "wireguard-slow",
            "WireGuard could be faster",
            "info",
            facts.backend_reason,
            facts.backend_remedy,
        )
    for network in networks:
        yield from _network_health(network)
    for loop in node.loops.values():
        yield from _workload_health(loop)
    for refusal in node.journal.refusals:
        if refusal.key.startswith("task/"):
            yield HealthItem(
                "fault", "A fault in zos", "error", refusal.reason, "report it with the log"
            )


def _registry_health(node: NodeLoop, registry: RegistryStatus) -> Iterable[HealthItem]:
    match registry.state:
        case "none":
            yield HealthItem(
                "registry-none",
                "No registry",
                "info" if node.loops else "warning",
                "this node knows no registry, so it hears of no network",
                "set registry in /etc/zos/node.toml, or run: zos join TOKEN",
                since=registry.since,
            )
        case "unreachable":
            yield HealthItem(
                "registry-unreachable",
                "The registry does not answer",
                "warning",
                f"{registry.error}; networks keep running as they are",
                f"check that {registry.reference} runs and can be reached",
                since=registry.since,
            )
        case _:
            pass


def _farm_health(node: NodeLoop) -> Iterable[HealthItem]:
    """A farm is pinned and does not list this node: until it does, tenants cannot use it."""
    if node.settings.farm is not None and _farm_state(node) == "waiting":
        gate = membership.select_gate(
            node.id, farm=node.settings.farm, listed=node.farm, joined=False
        )
        yield HealthItem(
            "farm-waiting", "Not in the farm yet", "warning", gate.message, gate.remedy
        )


def _workload_health(loop: ResourceLoop) -> Iterable[HealthItem]:
    nr = loop.network_resource
    if nr is None:
        return
    for it in loop.workloads(nr):
        if it.port in loop.unreachable:
            yield HealthItem(
                "workload-unreachable",
                f"{it.name} is not attached",
                "warning",
                f"{it.name} is not attached: {it.netns} is gone, or has another link {it.link}",
                f"zos detach {nr.name} {it.name}",
                network=loop.network,
            )


def _network_health(network: NetworkStatus) -> Iterable[HealthItem]:
    if network.state in ("waiting", "refused", "joining") or (
        network.state == "converging" and network.message
    ):
        yield HealthItem(
            f"network-{network.state}",
            f"{network.name} is {network.state}",
            "warning" if network.state == "waiting" else "error",
            network.message,
            network.remedy,
            network=network.id,
        )
    if network.refusals:
        first = network.refusals[0]
        yield HealthItem(
            "documents-refused",
            f"{len(network.refusals)} documents of {network.name} were refused",
            "warning",
            f"{first.key}: {first.reason}",
            first.remedy or f"zos status {network.name} lists them",
            network=network.id,
        )
