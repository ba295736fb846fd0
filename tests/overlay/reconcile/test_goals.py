"""What is written to a device while documents and handshakes come in any order (NODE-045)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from overlay.documents import trust
from overlay.documents.schema import (
    AccessDevice,
    EndpointCandidate,
    Member,
    NamedMember,
    Network,
    Owners,
)
from overlay.keys import wireguard
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import DeviceKey, WireGuardKey
from overlay.model import (
    Address,
    CandidateKind,
    Endpoint,
    NodeId,
    PeerTraffic,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.peers.paths import Underlay
from overlay.reconcile.goals import PeerGoals

WALL, NOW = 1_000_000.0, 50.0


def seed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def node(name: str) -> NodeId:
    return NodeId(Identity.from_seed(Kind.NODE, seed(name)).id)


OWN, OTHER = (DeviceKey.from_seed(seed(f"device {name}")) for name in ("own", "other"))
OWNERS = Owners(1, (Identity.from_seed(Kind.TENANT, seed("alice")).id,))
HOME = trust.network_id(OWNERS, "home")
LAPTOP = AccessDevice(
    "laptop", wireguard.format_key(WireGuardKey(seed("laptop")).public_key), 9, node("other")
)
UNDERLAY = Underlay(families=frozenset({4}), prefixes=(), declared=False)
ROAMED = Endpoint(Address("203.0.113.5"), 9999)


def network(version: int, *, index: int = 2, access: tuple[AccessDevice, ...] = ()) -> Network:
    return Network(
        name="home",
        version=version,
        owners=OWNERS,
        range="10.1.0.0/16",
        members=(NamedMember("own", node("own"), 1), NamedMember("other", node("other"), index)),
        access=access,
    )


def other(version: int, *endpoints: str, index: int = 2) -> Member:
    return Member(
        network=HOME,
        node=node("other"),
        version=version,
        name="other",
        index=index,
        device=OTHER.id,
        joined=1,
        endpoints=tuple(EndpointCandidate(CandidateKind.LOCAL, text) for text in endpoints),
    )


def written(goals: PeerGoals) -> dict[WgPublicKey, WgPeer]:
    return {peer.public_key: peer for peer in goals.take_unwritten().put}


def heard_from(endpoint: Endpoint) -> PeerGoals:
    """Goals with one peer, whose handshake a look has shown to be fresh."""
    goals = PeerGoals(node("own"), own_key=OWN.public_key, underlay=UNDERLAY)
    goals.put_network(network(1), now=0.0)
    goals.put_member(other(1, "192.0.2.7:51820"), now=0.0)
    assert written(goals)[OTHER.public_key].endpoint == Endpoint(Address("192.0.2.7"), 51820)
    look(goals, endpoint=endpoint, latest_handshake=int(WALL) - 10)
    return goals


def look(goals: PeerGoals, **seen: Any) -> None:
    peer = msgspec.structs.replace(goals.peers[OTHER.public_key], **seen)
    device = WgDevice(OWN.public_key, 51820, {peer.public_key: peer})
    goals.look(device, lambda key: PeerTraffic(rx_bytes=0, tx_bytes=0), wall=WALL, now=NOW)


def test_a_proven_endpoint_is_not_written_over() -> None:
    goals = heard_from(ROAMED)
    goals.put_member(other(2, "192.0.2.8:51820"), now=NOW)
    assert all(peer.endpoint is None for peer in written(goals).values())


def test_a_proven_endpoint_outlives_several_documents_before_one_write() -> None:
    goals = heard_from(Endpoint(Address("192.0.2.7"), 51820))
    goals.put_network(network(2, access=(LAPTOP,)), now=NOW)
    goals.put_member(other(2, "192.0.2.8:51820"), now=NOW)
    goals.put_member(other(3, "192.0.2.9:51820"), now=NOW)
    peer = written(goals)[OTHER.public_key]
    assert "10.1.9.0/24" in peer.allowed_ips
    assert peer.endpoint is None


def test_a_peer_that_was_dropped_and_is_back_has_its_endpoint_written() -> None:
    goals = heard_from(ROAMED)
    goals.put_network(network(2, index=3), now=NOW)
    goals.put_member(other(2, "192.0.2.8:51820", index=3), now=NOW)
    assert written(goals)[OTHER.public_key].endpoint == Endpoint(Address("192.0.2.8"), 51820)
