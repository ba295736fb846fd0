"""From verified documents to the peers of one network resource (specs DOC-050 .. DOC-059).

A change of one member costs the same in a network of ten and of ten thousand, and what comes out
is what all documents together would give, in whatever order they came: refusals included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

from overlay import addressing
from overlay.documents import relays, trust
from overlay.documents.relays import Relay
from overlay.documents.schema import AccessDevice, Member, Network
from overlay.documents.trust import Roster
from overlay.errors import Refused
from overlay.keys import wireguard
from overlay.model import (
    AllowRule,
    NetworkId,
    NetworkResource,
    NodeId,
    Prefix,
    WgPeer,
    WgPublicKey,
)
from overlay.peers.policy import resolve_policy

K = TypeVar("K")

MAX_MEMBERS = 65_536  # as many as the largest range has indexes


class PeerDelta(msgspec.Struct, frozen=True):
    """What changes on the device. `drop` comes first, and no key is in both."""

    put: tuple[WgPeer, ...] = ()
    drop: tuple[WgPublicKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.put or self.drop)


_NOTHING = PeerDelta()


class RefusedPeer(msgspec.Struct, frozen=True, gc=False):
    """Who is no peer, although a verified document speaks of it, and why."""

    key: str  # "member/net1.../node1...", "access/laptop"
    reason: str
    field: str | None = None
    remedy: str | None = None


class Coming(msgspec.Struct, frozen=True, gc=False):
    """Which key of a member a key to come replaces, and when by the member's word (Unix time)."""

    former: WgPublicKey
    at: int


class Selection:
    """The peers of one network on one node, kept as documents come and go.

    Peers have neither endpoint nor keepalive here: which path leads to a peer is `paths`' matter.
    A member that replaces its key is two peers; the key to come has no allowed IPs (DOC-071).
    """

    __slots__ = (
        "_access",
        "_by_index",
        "_by_key",
        "_coming",
        "_members",
        "_own",
        "_own_key",
        "_peers",
        "_policies",
        "_ranges",
        "_refusals",
        "_relay_keys",
        "_resources",
        "_roster",
        "coming",
        "members",
        "peers",
    )

    def __init__(self, own: NodeId, *, own_key: WgPublicKey) -> None:
        self._own = own
        self._own_key = own_key
        self._roster: Roster | None = None
        self._ranges: tuple[Prefix, Prefix] | None = None
        self._relay_keys: frozenset[WgPublicKey] = frozenset()
        self._access: Mapping[WgPublicKey, AccessDevice] = {}
        # By own index, of this version: resolving a large policy takes a second, and many ask.
        self._policies: dict[int, tuple[AllowRule, ...] | None] = {}
        self._members: dict[str, Member] = {}
        # Claimants are admitted members; nearly always there is one, so no sets (48 bytes a peer).
        self._by_index: dict[int, tuple[str, ...]] = {}
        self._by_key: dict[WgPublicKey, tuple[str, ...]] = {}
        self._peers: dict[WgPublicKey, WgPeer] = {}
        self._coming: dict[WgPublicKey, Coming] = {}
        self._refusals: dict[str, RefusedPeer] = {}
        self.peers: Final[Mapping[WgPublicKey, WgPeer]] = MappingProxyType(self._peers)
        # Of these peers, the keys to come of members that are peers with another key.
        self.coming: Final[Mapping[WgPublicKey, Coming]] = MappingProxyType(self._coming)
        # Every member document held, admitted or not, by node id; our own among them.
        self.members: Final[Mapping[str, Member]] = MappingProxyType(self._members)
        # By listen port and MTU: other members come and go without changing our own part.
        self._resources: dict[tuple[int, int], NetworkResource | None] = {}

    def successor_of(self, key: WgPublicKey) -> WgPublicKey | None:
        """The key to come of the member whose peer this is."""
        member = self.member_at(key) if self._coming else None
        if member is None or member.next_device is None:
            return None
        successor = wireguard.wireguard_public_key(member.next_device.device)
        found = self._coming.get(successor)
        return successor if found is not None and found.former == key else None

    def put_own_key(self, own_key: WgPublicKey) -> PeerDelta:
        """From now on this is ours, and nobody else's."""
        self._own_key = own_key
        return PeerDelta() if self._roster is None else self.put_network(self._roster.network)

    @property
    def own(self) -> NodeId:
        return self._own

    @property
    def refusals(self) -> Mapping[str, RefusedPeer]:
        """By node id, or by "access/<name>"."""
        return MappingProxyType(self._refusals)

    @property
    def roster(self) -> Roster | None:
        return self._roster

    @property
    def relays(self) -> tuple[Relay, ...]:
        """By way of whom members may be reached, in the tenant's order."""
        return () if self._roster is None else self._roster.relays

    def outside(self) -> tuple[Prefix, ...]:
        """Where nobody of the network is."""
        return () if self._ranges is None else addressing.outside(*self._ranges)

    @property
    def own_member(self) -> Member | None:
        return self._members.get(self._own)

    @property
    def own_index(self) -> int | None:
        """Our place in the network; None when we have none (not named, not invited, deleted)."""
        if self._roster is None:
            return None
        if (named := self._roster.named(self._own)) is not None:
            return named.index
        own = self._members.get(self._own)
        return own.index if own is not None and self._admission(own) is None else None

    def peer_of(self, node: str) -> WgPeer | None:
        member = self._members.get(node)
        if member is None or node in self._refusals:
            return None
        return self._peers.get(wireguard.wireguard_public_key(member.device))

    def member_at(self, key: WgPublicKey) -> Member | None:
        """Whose peer this is, by its key in use or to come; None for an access device."""
        if key == self._own_key or key in self._relay_keys:
            return None
        claimants = self._by_key.get(key, ())
        if len(claimants) > 1:
            claimants = tuple(sorted(claimants, key=lambda node: self._claim_rank(node, key)))
        for node in claimants:
            if node not in self._refusals:
                return None if node == self._own else self._members[node]
        return None

    def access_at(self, key: WgPublicKey) -> AccessDevice | None:
        return self._access.get(key) if key in self._peers else None

    def put_network(self, network: Network) -> PeerDelta:
        """Act on another version of the network document: everything is decided anew."""
        before = self._peers.copy()
        self._resources = {}
        self._roster = Roster(network)
        self._ranges = (Prefix(network.range), addressing.ula_range(self._roster.id))
        self._relay_keys = frozenset(map(relays.key_of, self._roster.relays))
        self._access = (
            {}
            if network.deleted
            else {
                wireguard.parse_public_key(device.public_key): device
                for device in self._roster.access_via(self._own)
            }
        )
        self._policies = {}
        self._by_index, self._by_key, self._refusals = {}, {}, {}
        self._peers.clear()
        self._coming.clear()
        for member in self._members.values():
            self._claim(member)
        for node in self._members:
            self._judge(node)
        for key in (*self._by_key, *self._access):
            self._resolve(key)
        return diff_peers(desired=self._peers, actual=before)

    def put_member(self, member: Member) -> PeerDelta:
        """A member joined or changed. Raises Refused when the network is full."""
        if member.node not in self._members and len(self._members) >= MAX_MEMBERS:
            raise Refused(f"more than {MAX_MEMBERS} member documents", field="node")
        return self._replace(member.node, member)

    def drop_member(self, node: str) -> PeerDelta:
        """A member's document is no longer held. Nothing changes when it was not."""
        return self._replace(node, None)

    def network_resource(self, *, listen_port: int, mtu_bytes: int) -> NetworkResource | None:
        """Our part of the network; None while we have no index in it."""
        asked = (listen_port, mtu_bytes)
        if asked not in self._resources:
            self._resources = {asked: self._network_resource(*asked)}
        return self._resources[asked]

    def _network_resource(self, listen_port: int, mtu_bytes: int) -> NetworkResource | None:
        index = self.own_index
        if index is None or self._roster is None or self._ranges is None:
            return None
        range_v4, range_v6 = self._ranges
        subnet_v4 = addressing.subnet_v4(range_v4, index)
        subnet_v6 = addressing.subnet_v6(range_v6, index)
        network = NetworkId(self._roster.id)
        return NetworkResource(
            network=network,
            name=self._roster.network.name,
            netns=addressing.netns_name(network),
            index=index,
            range_v4=range_v4,
            range_v6=range_v6,
            subnet_v4=subnet_v4,
            subnet_v6=subnet_v6,
            gateway_v4=addressing.host_address(subnet_v4, addressing.GATEWAY_HOST),
            gateway_v6=addressing.host_address(subnet_v6, addressing.GATEWAY_HOST),
            bridge_mac=addressing.bridge_mac(network, self._own),
            listen_port=listen_port,
            mtu_bytes=mtu_bytes,
            policy=self._policy(index),
        )

    def access_subnets(self) -> tuple[Prefix, ...]:
        """Subnets of the access devices that hang on us."""
        return tuple(
            sorted(
                prefix for device in self._access.values() for prefix in self._subnets(device.index)
            )
        )

    def _replace(self, node: str, member: Member | None) -> PeerDelta:
        if node == self._own:
            self._resources = {}
        nodes, keys = {node}, set[WgPublicKey]()
        before = self._members.get(node)
        if before is not None:
            keys.update(_keys_of(before))
            nodes.update(self._by_index.get(before.index, ()))
        if member is not None:
            keys.update(_keys_of(member))
            nodes.update(self._by_index.get(member.index, ()))
        for key in keys:
            nodes.update(self._by_key.get(key, ()))
        if before is not None:
            self._unclaim(before)
        if member is None:
            self._members.pop(node, None)
        else:
            self._members[node] = member
            self._claim(member)
        for touched_node in nodes:
            self._judge(touched_node)
            if touched_node != node and (other := self._members.get(touched_node)) is not None:
                keys.update(_keys_of(other))
        had = {key: self._peers[key] for key in keys if key in self._peers}
        for key in keys:
            self._resolve(key)
        has = {key: self._peers[key] for key in keys if key in self._peers}
        return diff_peers(desired=has, actual=had)

    def _claim(self, member: Member) -> None:
        if self._roster is None or self._admission(member) is not None:
            return
        self._by_index[member.index] = (*self._by_index.get(member.index, ()), member.node)
        for key in _keys_of(member):
            self._by_key[key] = (*self._by_key.get(key, ()), member.node)

    def _unclaim(self, member: Member) -> None:
        _remove(self._by_index, member.index, member.node)
        for key in _keys_of(member):
            _remove(self._by_key, key, member.node)

    def _judge(self, node: str) -> None:
        """Note why `node` is no peer, or that nothing speaks against it."""
        self._refusals.pop(node, None)
        member = self._members.get(node)
        if member is None or self._roster is None:
            return
        # Who was admitted has claimed its index.
        is_admitted = node in self._by_index.get(member.index, ())
        refusal = self._lost_claim(member) if is_admitted else self._admission(member)
        if refusal is not None:
            self._refusals[node] = refusal

    def _admission(self, member: Member) -> RefusedPeer | None:
        if self._roster is None:
            return None
        try:
            self._roster.admit(member)
        except Refused as exc:
            return RefusedPeer(trust.document_key(member), exc.message, exc.field, exc.remedy)
        return None

    def _lost_claim(self, member: Member) -> RefusedPeer | None:
        key = wireguard.wireguard_public_key(member.device)
        holder = self._first(self._by_index[member.index])
        if member.node != self._own and member.index == self.own_index:
            holder = self._own
        if holder != member.node:
            return RefusedPeer(
                trust.document_key(member),
                f"index {member.index} is held by {holder}",
                "index",
                "the node joins again and takes another index",
            )
        if key in self._relay_keys:
            return RefusedPeer(
                trust.document_key(member), "its WireGuard key is the key of a relay", "device"
            )
        holder = self._first_of(key)
        if member.node != self._own and key == self._own_key:
            holder = self._own
        if holder != member.node:
            return RefusedPeer(
                trust.document_key(member), f"its WireGuard key is the key of {holder}", "device"
            )
        return None

    def _first(self, claimants: tuple[str, ...]) -> str:
        return claimants[0] if len(claimants) == 1 else min(claimants, key=self._rank)

    def _first_of(self, key: WgPublicKey) -> str:
        claimants = self._by_key[key]
        if len(claimants) == 1:
            return claimants[0]
        return min(claimants, key=lambda node: self._claim_rank(node, key))

    def _rank(self, node: str) -> bytes:
        if self._roster is None:
            return b""
        return trust.claim_rank(self._roster.id, node)

    def _claim_rank(self, node: str, key: WgPublicKey) -> tuple[bool, bytes]:
        """Whoever uses a key holds it, before anybody who says that it will."""
        is_to_come = wireguard.wireguard_public_key(self._members[node].device) != key
        return is_to_come, self._rank(node)

    def _resolve(self, key: WgPublicKey) -> None:
        """Set or remove the one peer that may have this key."""
        self._coming.pop(key, None)
        peer = self._access_peer(key) or self._member_peer(key)
        if peer is None:
            self._peers.pop(key, None)
        else:
            self._peers[key] = peer

    def _member_peer(self, key: WgPublicKey) -> WgPeer | None:
        member = self.member_at(key)
        if member is None:
            return None
        former, coming = wireguard.wireguard_public_key(member.device), member.next_device
        if former == key or coming is None:
            return WgPeer(key, self._allowed_ips(member))
        self._coming[key] = Coming(former, coming.at)
        return WgPeer(key, ())

    def _allowed_ips(self, member: Member) -> tuple[Prefix, ...]:
        """Exactly the member's subnets and those of the access devices that hang on it."""
        if self._roster is None:
            return ()
        own, devices = self._subnets(member.index), self._roster.access_via(member.node)
        if not devices:
            return own
        return tuple(sorted((*own, *(p for each in devices for p in self._subnets(each.index)))))

    def _access_peer(self, key: WgPublicKey) -> WgPeer | None:
        device = self._access.get(key)
        if device is None:
            return None
        label = f"access/{device.name}"
        self._refusals.pop(label, None)
        # A member has proven that the key is its own; for a device only the tenant says so.
        if key in self._by_key or key == self._own_key:
            self._refusals[label] = RefusedPeer(
                label, f"the key of {device.name} is a member's", "public_key"
            )
            return None
        return WgPeer(key, self._subnets(device.index))

    def _subnets(self, index: int) -> tuple[Prefix, ...]:
        if self._ranges is None:
            raise AssertionError("no network document")
        return addressing.subnets(*self._ranges, index)

    def _policy(self, index: int) -> tuple[AllowRule, ...] | None:
        if self._roster is None or self._ranges is None:
            return None
        if index not in self._policies:
            own = {index, *(device.index for device in self._access.values())}
            rules = resolve_policy(self._roster.network, ranges=self._ranges, own=own)
            self._policies = {index: rules}
        return self._policies[index]


def _keys_of(member: Member) -> tuple[WgPublicKey, ...]:
    """The WireGuard key in use, and the one to come."""
    key, coming = wireguard.wireguard_public_key(member.device), member.next_device
    return (key,) if coming is None else (key, wireguard.wireguard_public_key(coming.device))


def diff_peers(
    *, desired: Mapping[WgPublicKey, WgPeer], actual: Mapping[WgPublicKey, WgPeer]
) -> PeerDelta:
    """What makes `desired` out of `actual`, in the order of the keys."""
    put = [(key, peer) for key, peer in desired.items() if actual.get(key) != peer]
    drop = [key for key in actual if key not in desired]
    if not put and not drop:
        return _NOTHING
    put.sort()
    drop.sort()
    return PeerDelta(tuple([peer for _, peer in put]), tuple(drop))


def select_all(
    own: NodeId, *, own_key: WgPublicKey, network: Network, members: Iterable[Member]
) -> Selection:
    """The selection that all documents give: the full form of what the deltas lead to."""
    selection = Selection(own, own_key=own_key)
    for member in members:
        selection.put_member(member)
    selection.put_network(network)
    return selection


def _remove(claims: dict[K, tuple[str, ...]], key: K, node: str) -> None:
    left = tuple(other for other in claims.get(key, ()) if other != node)
    if left:
        claims[key] = left
    else:
        claims.pop(key, None)
