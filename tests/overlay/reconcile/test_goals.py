"""What is written to a device while documents and handshakes come in any order (NODE-045)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from overlay import addressing
from overlay.documents import relays, trust
from overlay.documents.relays import Relay, Seen, Sighting
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
    Prefix,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.peers.paths import KEEPALIVE_S, PATH_TRY_S, Underlay
from overlay.reconcile import draining
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


def test_a_peer_whose_session_may_lead_nowhere_is_doubtful_until_it_is_heard() -> None:  # NODE-049
    goals = PeerGoals(node("own"), own_key=OWN.public_key, underlay=UNDERLAY)
    goals.put_network(network(1), now=0.0)
    goals.put_member(other(1, "192.0.2.7:51820", "192.0.2.8:51820"), now=0.0)
    looks = (  # at, handshake before NOW, sent, heard
        (PATH_TRY_S, None, 148, 0),  # the first endpoint gives way
        (PATH_TRY_S + 0.5, PATH_TRY_S - 0.4, 240, 92),  # and had worked after all
        (PATH_TRY_S + 1.0, PATH_TRY_S - 0.4, 304, 92),
        (PATH_TRY_S + 1.5, PATH_TRY_S - 0.4, 368, 124),
    )
    doubtful = []
    for at, handshake, sent, heard in looks:
        at_s = int(WALL + handshake) if handshake is not None else 0
        peer = msgspec.structs.replace(goals.peers[OTHER.public_key], latest_handshake=at_s)
        counted = PeerTraffic(rx_bytes=heard, tx_bytes=sent)
        device = WgDevice(OWN.public_key, 51820, {peer.public_key: peer})
        goals.look(device, lambda _, counted=counted: counted, wall=WALL + at, now=at)
        doubtful.append(goals.doubtful)
    assert doubtful == [(), (OTHER.public_key,), (OTHER.public_key,), ()]
    assert endpoint_of(goals, OTHER.public_key) == Endpoint(Address("192.0.2.8"), 51820)


def test_a_peer_that_was_dropped_and_is_back_has_its_endpoint_written() -> None:
    goals = heard_from(ROAMED)
    goals.put_network(network(2, index=3), now=NOW)
    goals.put_member(other(2, "192.0.2.8:51820", index=3), now=NOW)
    assert written(goals)[OTHER.public_key].endpoint == Endpoint(Address("192.0.2.8"), 51820)


RELAYS = tuple(
    Relay(
        name,
        node(name),
        wireguard.format_key(WireGuardKey(seed(name)).public_key),
        (f"192.0.2.{n}:51819",),
    )
    for n, name in enumerate(("r1", "r2"), 1)
)
OTHER_KEY = wireguard.format_key(OTHER.public_key)


def relayed(*named: Relay, version: int = 1) -> Network:
    return msgspec.structs.replace(network(version), relays=named)


def sighting(name: str, version: int, **places: str) -> Sighting:
    keys = {"other": OTHER_KEY, "own": wireguard.format_key(OWN.public_key)}
    seen = tuple(Seen(keys[who], endpoint) for who, endpoint in places.items())
    return Sighting(HOME, node(name), version, seen)


def with_relays(*named: Relay) -> PeerGoals:
    goals = PeerGoals(node("own"), own_key=OWN.public_key, underlay=UNDERLAY)
    goals.put_network(relayed(*named), now=0.0)
    goals.put_member(other(1), now=0.0)
    return goals


def candidates(goals: PeerGoals) -> list[tuple[str, str]]:
    path = goals.path(OTHER.public_key)
    assert path is not None
    return [
        (c.kind.value, str(c.endpoint))
        for c in path.candidates
        if c.kind is not CandidateKind.RELAY
    ]


def test_relays_are_those_of_the_latest_version() -> None:  # DOC-062
    goals = with_relays(*RELAYS)
    assert goals.selection.relays == RELAYS
    goals.put_network(relayed(RELAYS[1], version=2), now=NOW)
    assert goals.selection.relays == RELAYS[1:]
    deleted = msgspec.structs.replace(relayed(*RELAYS, version=3), deleted=True)
    goals.put_network(deleted, now=NOW)
    assert goals.selection.relays == ()


def test_where_a_relay_hears_a_peer_is_a_candidate() -> None:  # DOC-065
    goals = with_relays(*RELAYS)
    goals.put_sighting(sighting("r1", 1, other="203.0.113.9:4444"), now=NOW)
    assert candidates(goals) == [("observed", "203.0.113.9:4444")]
    goals.put_sighting(sighting("r1", 2, other="203.0.113.9:5555"), now=NOW)
    assert candidates(goals) == [("observed", "203.0.113.9:5555")]
    goals.put_sighting(sighting("r1", 3), now=NOW)
    assert candidates(goals) == []


def test_relays_that_hear_the_same_give_one_candidate() -> None:
    goals = with_relays(*RELAYS)
    for name in ("r2", "r1"):
        goals.put_sighting(sighting(name, 1, other="203.0.113.9:4444"), now=NOW)
    goals.put_member(other(2, "203.0.113.9:4444"), now=NOW)
    assert candidates(goals) == [("local", "203.0.113.9:4444")]
    goals.put_member(other(3), now=NOW)
    assert candidates(goals) == [("observed", "203.0.113.9:4444")]


def test_a_sighting_of_who_is_no_relay_is_nothing() -> None:  # DOC-064
    goals = with_relays(RELAYS[0])
    goals.put_sighting(sighting("r2", 1, other="203.0.113.9:4444"), now=NOW)
    goals.put_sighting(sighting("other", 1, other="203.0.113.9:4444"), now=NOW)
    assert candidates(goals) == []
    # What it said then does not count when it is named later.
    goals.put_network(relayed(*RELAYS, version=2), now=NOW)
    assert candidates(goals) == []


def test_a_relay_that_is_none_any_more_is_not_believed_any_more() -> None:  # DOC-064
    goals = with_relays(*RELAYS)
    goals.put_sighting(sighting("r1", 1, other="203.0.113.9:4444"), now=NOW)
    goals.put_network(relayed(RELAYS[1], version=2), now=NOW)
    assert candidates(goals) == []
    goals.put_network(relayed(*RELAYS, version=3), now=NOW)
    assert candidates(goals) == []


def test_a_lie_in_a_sighting_does_not_move_a_proven_peer() -> None:  # DOC-065
    goals = with_relays(*RELAYS)
    goals.put_member(other(2, "192.0.2.7:51820"), now=0.0)
    written(goals)
    look(goals, endpoint=Endpoint(Address("192.0.2.7"), 51820), latest_handshake=int(WALL) - 10)
    goals.put_sighting(sighting("r1", 1, other="203.0.113.66:1"), now=NOW)
    assert all(peer.endpoint is None for peer in written(goals).values())


def test_one_s_own_place_is_known_by_relay() -> None:
    goals = with_relays(*RELAYS)
    goals.put_sighting(sighting("r2", 1, own="203.0.113.5:1"), now=NOW)
    goals.put_sighting(sighting("r1", 1, own="203.0.113.5:2"), now=NOW)
    seen = goals.observed(OWN.public_key)
    assert [(name, e.port) for name, e in seen.items()] == [(node("r1"), 2), (node("r2"), 1)]


def test_a_member_with_a_relay_s_key_is_no_peer() -> None:  # DOC-066
    relay = msgspec.structs.replace(RELAYS[0], public_key=OTHER_KEY)
    goals = with_relays(relay)
    assert OTHER.public_key not in goals.selection.peers
    assert goals.peers[OTHER.public_key].allowed_ips == ()
    refused = goals.selection.refusals[node("other")]
    assert refused.field == "device"
    goals.put_network(relayed(version=2), now=NOW)
    assert goals.peers[OTHER.public_key].allowed_ips
    goals.put_network(relayed(relay, version=3), now=NOW)
    assert goals.peers[OTHER.public_key].allowed_ips == ()
    assert written(goals)[OTHER.public_key].keepalive_s == KEEPALIVE_S


def test_one_peer_takes_what_leaves_the_network_and_the_one_before_does_not() -> None:  # EXIT-052
    goals = with_relays()
    inside = goals.peers[OTHER.public_key].allowed_ips
    goals.set_way_out(OTHER.public_key)
    outside = addressing.outside(Prefix("10.1.0.0/16"), addressing.ula_range(HOME))
    assert set(goals.peers[OTHER.public_key].allowed_ips) == {*inside, *outside}
    # An exit does not speak for members that are not there.
    assert (
        addressing.overlaps((*outside, Prefix("10.1.0.0/16"), addressing.ula_range(HOME))) is None
    )
    assert written(goals)[OTHER.public_key] == goals.peers[OTHER.public_key]
    goals.put_member(other(2, "192.0.2.7:51820"), now=NOW)
    assert set(outside) <= set(goals.peers[OTHER.public_key].allowed_ips)
    goals.set_way_out(None)
    assert goals.peers[OTHER.public_key].allowed_ips == inside
    assert written(goals)[OTHER.public_key].allowed_ips == inside


def test_the_peer_that_drains_keeps_what_leaves_the_network_on_a_device_of_its_own() -> None:
    # EXIT-060
    goals = with_relays()
    key = OTHER.public_key
    inside = goals.peers[key].allowed_ips
    assert (draining.select_drain(goals), draining.mark_of(goals, None)) == (None, 0)
    goals.set_way_out(None, draining=key)
    drain = draining.select_drain(goals)
    assert drain is not None
    assert (drain.peer, drain.subnets) == (goals.peers[key], inside)
    assert set(drain.peer.allowed_ips) > set(inside)
    assert drain.mark == draining.mark_of(goals, key) != 0
    assert key in goals.peers
    assert key not in draining.shared_peers(goals)
    assert goals.goes_first(key)  # a device that is new has no session that the peer knows of
    assert written(goals)[key] == drain.peer
    goals.set_way_out(None)
    assert draining.select_drain(goals) is None
    assert draining.shared_peers(goals)[key].allowed_ips == inside
    assert written(goals)[key].allowed_ips == inside


STREAM, LATER = (Endpoint(Address("127.0.0.1"), port) for port in (40_001, 40_002))
R1, R2 = (relays.key_of(relay) for relay in RELAYS)
AT_R1 = Endpoint(Address("192.0.2.1"), 51_819)
SPARE = tuple(
    Relay(name, node(name), wireguard.format_key(WireGuardKey(seed(name)).public_key), (at,), port)
    for name, at, port in (("r3", "192.0.2.3:51819", None), ("r4", "192.0.2.4:51819", 443))
)


def endpoint_of(goals: PeerGoals, key: WgPublicKey) -> Endpoint | None:
    return goals.peers[key].endpoint


def test_relays_that_are_reached_by_streams_are_where_peers_are_met() -> None:
    # NODE-081, NODE-082
    goals = with_relays(*RELAYS)
    written(goals)
    assert goals.put_streams({R1: STREAM}, now=NOW) == [R1]
    assert endpoint_of(goals, R1) == endpoint_of(goals, OTHER.public_key) == STREAM
    assert goals.relay_at(STREAM) == R1
    # The other relay is not where anybody is met: over UDP it does not answer.
    path = goals.path(OTHER.public_key)
    assert path is not None
    met = [c.endpoint for c in path.candidates if c.kind is CandidateKind.RELAY]
    assert met == [STREAM]
    assert written(goals)[OTHER.public_key].endpoint == STREAM


def test_streams_that_end_lead_back_to_udp_also_for_peers_with_a_session() -> None:
    # NODE-083
    goals = with_relays(*RELAYS)
    goals.put_streams({R1: STREAM}, now=NOW)
    look(goals, endpoint=STREAM, latest_handshake=int(WALL))
    written(goals)
    assert goals.put_streams({}, now=NOW) == [R1]
    assert written(goals)[OTHER.public_key].endpoint == AT_R1
    assert goals.streams == {}


def test_what_has_not_changed_moves_nobody() -> None:
    goals = with_relays(*RELAYS)
    goals.put_streams({R1: STREAM}, now=NOW)
    assert goals.put_streams({R1: STREAM}, now=NOW) == []
    assert goals.put_streams({R1: STREAM, R2: LATER}, now=NOW) == [R2]
    assert endpoint_of(goals, OTHER.public_key) == STREAM


def test_a_relay_over_tcp_is_not_asked_to_hear_us() -> None:
    # NODE-077, REL-055
    goals = with_relays(*RELAYS)
    goals.put_sighting(sighting("r1", 1, other="203.0.113.9:1"), now=NOW)
    assert goals.is_unheard(R1)
    goals.put_streams({R1: STREAM}, now=NOW)
    assert not goals.is_unheard(R1)


def test_over_tcp_nothing_better_is_tried_but_on_our_lan() -> None:
    # NODE-082
    near, far = "198.51.100.7:1", "203.0.113.9:1"
    here = Underlay(families=frozenset({4}), prefixes=(Prefix("198.51.100.0/24"),), declared=False)
    goals = PeerGoals(node("own"), own_key=OWN.public_key, underlay=here)
    goals.put_network(relayed(*RELAYS), now=0.0)
    goals.put_member(other(1), now=0.0)
    goals.put_sighting(sighting("r1", 1, other=near), now=0.0)
    goals.put_sighting(sighting("r2", 1, other=far), now=0.0)
    path = goals.path(OTHER.public_key)
    assert path is not None
    assert {str(e) for e in goals.better_than_relay(path)} == {near, far}
    goals.put_streams({R1: STREAM}, now=NOW)
    path = goals.path(OTHER.public_key)
    assert path is not None
    assert [str(e) for e in goals.better_than_relay(path)] == [near]


def test_who_is_at_a_port_of_ours_that_is_closed_is_put_anew_and_not_remembered() -> None:
    # NODE-084, NODE-048
    goals = with_relays(*RELAYS)
    look(goals, endpoint=STREAM, latest_handshake=int(WALL))
    assert goals.take_stranded() == [OTHER.public_key]
    assert goals.take_stranded() == []
    assert goals.heard() == {}
    goals.put_streams({R1: STREAM}, now=NOW)
    look(goals, endpoint=STREAM, latest_handshake=int(WALL))
    assert goals.take_stranded() == []


def test_a_relay_that_is_named_no_more_is_no_stream_any_more() -> None:
    goals = with_relays(*RELAYS)
    goals.put_streams({R1: STREAM, R2: LATER}, now=NOW)
    goals.put_network(relayed(RELAYS[1], version=2), now=NOW)
    assert goals.streams == {R2: LATER}


def test_of_relays_without_tls_the_second_gives_way_to_one_that_has_it() -> None:
    # NODE-085
    def names(*named: Relay) -> list[str]:
        return [relay.name for relay in relays.select_relays(named)]

    assert names(*RELAYS) == ["r1", "r2"]
    assert names(*RELAYS, SPARE[0]) == ["r1", "r2"]
    assert names(*RELAYS, *SPARE) == ["r1", "r4"]
    assert names(RELAYS[0], SPARE[1], SPARE[0]) == ["r1", "r4"]
    assert names(SPARE[1], *RELAYS) == ["r4", "r1"]
    assert names(RELAYS[0]) == ["r1"]
    assert names() == []


def test_a_peer_drains_where_it_says_to_be() -> None:  # EXIT-061
    goals = heard_from(Endpoint(Address("192.0.2.7"), 51820))
    assert draining.can_drain(goals, OTHER.public_key)
    look(goals, endpoint=ROAMED, latest_handshake=int(WALL))
    assert not draining.can_drain(goals, OTHER.public_key)  # through a NAT, it seems
    assert not draining.can_drain(goals, OWN.public_key)


def public(*named: Relay, declared: bool) -> PeerGoals:
    """We, declared or not, and a peer that can be reached."""
    here = msgspec.structs.replace(UNDERLAY, declared=declared)
    goals = PeerGoals(node("own"), own_key=OWN.public_key, underlay=here)
    goals.put_network(relayed(*named), now=0.0)
    goals.put_member(declared_other(), now=0.0)
    return goals


def declared_other() -> Member:
    offered = EndpointCandidate(CandidateKind.DECLARED, "192.0.2.8:51820")
    return msgspec.structs.replace(other(1), endpoints=(offered,))


AT_OTHER = Endpoint(Address("192.0.2.8"), 51_820)


def test_a_public_node_registers_where_others_come_by_tcp_and_meets_nobody_there_itself() -> None:
    # NODE-070, NODE-086
    goals = public(*RELAYS, SPARE[1], declared=True)
    key = relays.key_of(SPARE[1])
    assert list(goals.relays) == [key]
    assert goals.peers[key].keepalive_s == KEEPALIVE_S
    assert not goals.is_relayed
    goals.put_member(other(2, "10.0.0.8:51820"), now=0.0)
    path = goals.path(OTHER.public_key)
    assert path is not None
    assert not path.has_relay
    assert public(*RELAYS, declared=True).relays == {}


def test_over_tcp_public_peers_are_met_at_relays_too_and_straight_again_afterwards() -> None:
    # NODE-086
    goals = public(*RELAYS, declared=False)
    assert endpoint_of(goals, OTHER.public_key) == AT_OTHER
    goals.put_streams({R1: STREAM}, now=NOW)
    assert written(goals)[OTHER.public_key].endpoint == STREAM
    goals.put_streams({}, now=NOW)
    assert written(goals)[OTHER.public_key].endpoint == AT_OTHER


def test_a_public_peer_that_is_heard_stays_where_it_is_until_it_is_silent() -> None:
    # NODE-086
    goals = public(*RELAYS, declared=False)
    look(goals, endpoint=AT_OTHER, latest_handshake=int(WALL))
    written(goals)
    goals.put_streams({R1: STREAM}, now=NOW)
    assert endpoint_of(goals, OTHER.public_key) == AT_OTHER
    assert [key for key, _ in goals.relayed()] == [OTHER.public_key]
