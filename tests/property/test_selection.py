"""Laws of peer selection: incremental equals full, allowed IPs are disjoint (ARC-010, DOC-055)."""

from __future__ import annotations

import hashlib
from functools import cache
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from overlay import addressing
from overlay.documents import schema, trust
from overlay.documents.devices import NextDevice
from overlay.documents.schema import AccessDevice, Invitation, Member, NamedMember, Network, Owners
from overlay.keys import wireguard
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import DeviceKey, WireGuardKey
from overlay.model import NodeId
from overlay.peers.selection import PeerDelta, Selection, select_all

NODES = 6
SHARED = 8  # and the index after it: of an invitation that all nodes hold
INDEXES = 14


def _seed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@cache
def _id(kind: Kind, n: int) -> str:
    return Identity.from_seed(kind, _seed(f"{kind} {n}")).id


@cache
def _device(n: int) -> DeviceKey:
    return DeviceKey.from_seed(_seed(f"device {n}"))


@cache
def _access_key(n: int) -> str:
    # Keys 0 .. 2 are those of members' devices: a tenant who signs somebody's key in.
    if n < 3:
        return wireguard.format_key(_device(n).public_key)
    return wireguard.format_key(WireGuardKey(_seed(f"laptop {n}")).public_key)


OWN = NodeId(_id(Kind.NODE, 0))
OWNERS = Owners(threshold=1, keys=(_id(Kind.TENANT, 0),))
NETWORK = trust.network_id(OWNERS, "home")


def _network(random: Random) -> Network:
    """Any consistent document over few nodes and few indexes, so that things collide."""
    named = random.sample(range(NODES), random.randint(0, 4))
    shift = random.choice([0, 0, 0, 1])
    free = iter(range(SHARED + 2, INDEXES))
    network = Network(
        name="home",
        version=random.randint(1, 9),
        owners=OWNERS,
        range="10.1.0.0/16",
        members=tuple(NamedMember(f"n{n}", _id(Kind.NODE, n), n + shift) for n in named),
        invitations=(Invitation("i", _id(Kind.INVITE, 0), SHARED, random.choice([1, 2, 2]), 1000),),
        access=tuple(
            AccessDevice(f"a{n}", _access_key(n), next(free), _id(Kind.NODE, random.randrange(3)))
            for n in random.sample(range(6), random.randint(0, 3))
        ),
        revoked=tuple(
            _id(Kind.NODE, n) for n in range(NODES) if n not in named and random.random() < 0.1
        ),
        deleted=random.random() < 0.05,
    )
    schema.check(network)
    return network


def _member(random: Random) -> Member:
    n = random.randrange(NODES)
    device = _device(random.choice([n, n, n, n, 1])).id
    # Now and then one to come: mostly of its own, else one that others use or announce as well.
    coming = _device(random.choice([NODES + n, NODES + n, NODES, n, 1, 2])).id
    invited = random.random() < 0.5
    at = [SHARED, SHARED, SHARED + 1, SHARED + 2] if invited else [n, n, n, n + 1]
    return Member(
        network=NETWORK,
        node=_id(Kind.NODE, n),
        version=1,
        name=f"n{n}",
        index=random.choice(at),
        # Mostly its own key; now and then one that two of its nodes share.
        device=device,
        joined=random.choice([1, 1, 1, 2000]),
        invitation=_id(Kind.INVITE, random.choice([0, 0, 0, 1])) if invited else None,
        next_device=(NextDevice(coming, 9) if random.random() < 0.4 and coming != device else None),
    )


def _steps(random: Random) -> list[Network | Member | int]:
    kinds = [_member] * 6 + [_network, lambda random: random.randrange(NODES)]
    return [random.choice(kinds)(random) for _ in range(random.randint(1, 40))]


# Drawn by a seeded generator: what Hypothesis draws by itself is too tame to collide.
seeds = st.integers(0, 2**32).map(Random)
scenarios = seeds.map(_steps)
crowds = seeds.map(lambda random: (_network(random), [_member(random) for _ in range(20)]))


def _apply(peers: dict[bytes, object], delta: PeerDelta) -> None:
    for key in delta.drop:
        del peers[key]
    for peer in delta.put:
        assert peers.get(peer.public_key) != peer, "a put that changes nothing"
        peers[peer.public_key] = peer


@given(scenarios)
def test_deltas_lead_where_all_documents_lead(steps: list[Network | Member | int]) -> None:
    # ARC-010
    selection = Selection(OWN, own_key=_device(0).public_key)
    device: dict[bytes, object] = {}
    network: Network | None = None
    members: dict[str, Member] = {}
    for step in steps:
        match step:
            case Network():
                network = step
                _apply(device, selection.put_network(step))
            case Member():
                members[step.node] = step
                _apply(device, selection.put_member(step))
            case int(n):
                members.pop(_id(Kind.NODE, n), None)
                _apply(device, selection.drop_member(_id(Kind.NODE, n)))
        assert device == dict(selection.peers)
    if network is None:
        assert device == {}
        return
    full = select_all(
        OWN, own_key=_device(0).public_key, network=network, members=reversed(members.values())
    )
    assert dict(selection.peers) == dict(full.peers)
    assert dict(selection.refusals) == dict(full.refusals)
    assert dict(selection.coming) == dict(full.coming)
    assert selection.own_index == full.own_index


@given(crowds)
def test_allowed_ips_are_disjoint_and_never_ours(crowd: tuple[Network, list[Member]]) -> None:
    # DOC-055
    network, members = crowd
    full = select_all(OWN, own_key=_device(0).public_key, network=network, members=members)
    prefixes = [prefix for peer in full.peers.values() for prefix in peer.allowed_ips]
    resource = full.network_resource(listen_port=51820, mtu_bytes=1420)
    if resource is not None:
        prefixes += [resource.subnet_v4, resource.subnet_v6]
    assert addressing.overlaps(prefixes) is None
    assert _device(0).public_key not in full.peers


@given(crowds)
def test_every_peer_was_admitted_and_every_other_member_has_a_reason(
    crowd: tuple[Network, list[Member]],
) -> None:
    # DOC-052
    network, members = crowd
    full = select_all(OWN, own_key=_device(0).public_key, network=network, members=members)
    roster = trust.Roster(network)
    for node, member in full.members.items():
        if node == OWN:
            continue
        is_peer = full.peer_of(node) is not None
        assert is_peer != (node in full.refusals)
        if is_peer:
            roster.admit(member)
