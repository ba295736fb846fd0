"""The peers of a network resource: who they are by the documents, how they are by the device."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

from overlay import addressing
from overlay.documents import schema
from overlay.model import (
    Endpoint,
    NetworkResource,
    PeerTraffic,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.peers.paths import HANDSHAKE_FRESH_S, Path
from overlay.reconcile.resource import ResourceLoop
from zos_core.status import PathKind, PeerState, PeerStatus


def read_peers(
    loop: ResourceLoop,
    device: WgDevice | None,
    traffic: Mapping[WgPublicKey, PeerTraffic],
    *,
    now: datetime,
) -> tuple[PeerStatus, ...]:
    seen = device.peers if device is not None else {}
    names, nr = member_names(loop), loop.network_resource
    peers = (
        _peer(loop, peer, seen.get(key), traffic.get(key), names, nr, now=now)
        for key, peer in loop.goals.peers.items()
        if key not in loop.goals.relays and not loop.goals.takeovers.is_spare(key)
    )
    return tuple(sorted(peers, key=lambda peer: peer.index))


def _peer(
    loop: ResourceLoop,
    peer: WgPeer,
    seen: WgPeer | None,
    traffic: PeerTraffic | None,
    names: Mapping[str, str],
    nr: NetworkResource | None,
    *,
    now: datetime,
) -> PeerStatus:
    key = peer.public_key
    selection, path = loop.goals.selection, loop.goals.path(key)
    member, access = selection.member_at(key), selection.access_at(key)
    index = member.index if member else access.index if access else 0
    gateway_v4, gateway_v6 = _gateways(nr, index)
    endpoint = seen.endpoint if seen else None
    if path is not None and path.trial is not None and path.trial == endpoint:
        endpoint = path.endpoint  # what is tried for half a second is no path yet
    latest = seen.latest_handshake if seen else 0
    relay = loop.goals.relay_met(endpoint)
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
        path=_path_kind(loop, path, endpoint),
        endpoint=str(endpoint) if endpoint else None,
        candidates=tuple(f"{c.kind} {c.endpoint}" for c in path.candidates) if path else (),
        latest_handshake=datetime.fromtimestamp(latest, UTC) if latest else None,
        handshake_age_s=max(0, int(now.timestamp()) - latest) if latest else None,
        rx_bytes=traffic.rx_bytes if traffic else 0,
        tx_bytes=traffic.tx_bytes if traffic else 0,
        keepalive_s=peer.keepalive_s,
        relay=relay.name if relay is not None else None,
        relayed_because=_reason(loop, key, path) if relay and path else "",
        over_tcp=endpoint in loop.goals.streams.values(),
    )


def _reason(loop: ResourceLoop, key: WgPublicKey, path: Path) -> str:
    now = loop.schedule.now
    if not loop.goals.streams:
        return loop.reach.reason(key, path, now=now)
    again_s = loop.last_resort.next_question_s(now=now)
    return (
        "the last resort: UDP is blocked here, for no relay answers over it;"
        f" they are asked again in {again_s} s"
    )


def _path_kind(loop: ResourceLoop, path: Path | None, endpoint: Endpoint | None) -> PathKind:
    if endpoint is None:
        return "none"
    if loop.goals.relay_at(endpoint) is not None:
        return "relay"
    if loop.goals.is_neighbour(endpoint):
        return "lan"
    return "punched" if path is not None and path.has_relay else "direct"


def _peer_state(latest: int, traffic: PeerTraffic | None, *, now: datetime) -> PeerState:
    """Active with a session; silent when it had one; connecting when only we have sent."""
    if latest and now.timestamp() - latest < HANDSHAKE_FRESH_S:
        return "active"
    if traffic is not None and traffic.tx_bytes and not latest:
        return "connecting"
    return "silent" if latest else "idle"


def _gateways(nr: NetworkResource | None, index: int) -> tuple[str, str]:
    """The addresses of the member with this index, as its own node has them."""
    if nr is None:
        return "", ""
    return addressing.host_addresses(
        nr.range_v4, nr.range_v6, index=index, host=addressing.GATEWAY_HOST
    )


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
