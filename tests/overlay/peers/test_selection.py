"""Peers from documents, example by example; the laws are in tests/property (DOC-050 .. DOC-059)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from overlay.documents import trust
from overlay.documents.schema import (
    AccessDevice,
    Invitation,
    Member,
    NamedMember,
    Network,
    Owners,
    Rule,
)
from overlay.errors import Refused
from overlay.keys import wireguard
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import DeviceKey, WireGuardKey
from overlay.model import AllowRule, NodeId
from overlay.peers import selection as selecting
from overlay.peers.selection import PeerDelta, Selection, select_all


def seed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def node(name: str) -> NodeId:
    return NodeId(Identity.from_seed(Kind.NODE, seed(name)).id)


def device(name: str) -> DeviceKey:
    return DeviceKey.from_seed(seed(f"device {name}"))


INVITE = Identity.from_seed(Kind.INVITE, seed("invite")).id
OWNERS = Owners(1, (Identity.from_seed(Kind.TENANT, seed("alice")).id,))
HOME = trust.network_id(OWNERS, "home")
LAPTOP = WireGuardKey(seed("laptop"))


def network(**changes: Any) -> Network:
    whole = Network(
        name="home",
        version=1,
        owners=OWNERS,
        range="10.1.0.0/16",
        members=tuple(NamedMember(f"n{n}", node(f"n{n}"), n) for n in (1, 2, 3)),
        invitations=(Invitation("guests", INVITE, 16, 16, 1_000),),
        access=(AccessDevice("laptop", wireguard.format_key(LAPTOP.public_key), 9, node("n2")),),
    )
    return msgspec.structs.replace(whole, **changes)


def member(name: str, index: int, **changes: Any) -> Member:
    whole = Member(HOME, node(name), 1, name, index, device(name).id, 500)
    return msgspec.structs.replace(whole, **changes)


def chosen(own: str, net: Network, *members: Member) -> Selection:
    return select_all(node(own), own_key=device(own).public_key, network=net, members=members)


ALL = (member("n1", 1), member("n2", 2), member("n3", 3))


def v4(selection: Selection, name: str) -> list[str]:
    peer = selection.peer_of(node(name))
    return [p for p in peer.allowed_ips if "." in p] if peer else []


def test_a_peer_is_allowed_its_two_subnets() -> None:
    # DOC-055
    peer = chosen("n1", network(), *ALL).peer_of(node("n3"))
    assert peer is not None
    assert peer.public_key == device("n3").public_key
    assert peer.allowed_ips[0] == "10.1.3.0/24"
    assert peer.allowed_ips[1].endswith(":3::/64")
    assert len(peer.allowed_ips) == 2
    assert (peer.endpoint, peer.keepalive_s) == (None, 0)


def test_an_access_device_is_a_peer_of_the_node_it_hangs_on() -> None:
    # DOC-056
    here = chosen("n2", network(), *ALL)
    peer = here.peers[LAPTOP.public_key]
    assert peer.allowed_ips[0] == "10.1.9.0/24"
    assert here.access_at(LAPTOP.public_key) is not None
    assert here.member_at(LAPTOP.public_key) is None
    assert [p for p in here.access_subnets() if "." in p] == ["10.1.9.0/24"]


def test_others_reach_an_access_device_by_its_node() -> None:
    # DOC-055
    there = chosen("n1", network(), *ALL)
    assert v4(there, "n2") == ["10.1.2.0/24", "10.1.9.0/24"]
    assert LAPTOP.public_key not in there.peers
    assert there.access_subnets() == ()


def test_an_access_device_that_moves_takes_its_subnets_along() -> None:
    selection = chosen("n1", network(), *ALL)
    moved = msgspec.structs.replace(network().access[0], via=node("n3"))
    delta = selection.put_network(network(access=(moved,), version=2))
    assert {p.public_key for p in delta.put} == {device("n2").public_key, device("n3").public_key}
    assert delta.drop == ()
    assert v4(selection, "n3") == ["10.1.3.0/24", "10.1.9.0/24"]


def test_an_access_device_cannot_have_the_key_of_a_member() -> None:
    # DOC-056
    for victim in ("n3", "n2"):
        key = wireguard.format_key(device(victim).public_key)
        net = network(access=(AccessDevice("laptop", key, 9, node("n2")),))
        here = chosen("n2", net, *ALL)
        assert "access/laptop" in here.refusals
        assert v4(here, "n3") == ["10.1.3.0/24"]


def test_of_two_that_claim_an_index_all_nodes_believe_the_same_one() -> None:
    # DOC-053
    guests = [member(f"g{n}", 16, invitation=INVITE, device=device(f"g{n}").id) for n in range(5)]
    winner = min(guests, key=lambda each: trust.claim_rank(HOME, each.node))
    for own in ("n1", "n2"):
        for order in (guests, guests[::-1]):
            selection = chosen(own, network(), *ALL, *order)
            holders = [g for g in guests if selection.peer_of(g.node) is not None]
            assert holders == [winner]
            assert len(selection.refusals) == 4


def test_the_next_claimant_follows_when_the_holder_goes() -> None:
    # DOC-053
    guests = sorted(
        (member(f"g{n}", 16, invitation=INVITE, device=device(f"g{n}").id) for n in range(2)),
        key=lambda each: trust.claim_rank(HOME, each.node),
    )
    selection = chosen("n1", network(), *ALL, *guests)
    delta = selection.drop_member(guests[0].node)
    assert delta.drop == (wireguard.wireguard_public_key(guests[0].device),)
    assert [peer.allowed_ips[0] for peer in delta.put] == ["10.1.16.0/24"]


def test_whoever_claims_our_index_is_no_peer() -> None:
    # DOC-054
    own = member("own", 16, invitation=INVITE)
    thief = member("thief", 16, invitation=INVITE)
    selection = chosen("own", network(), *ALL, own, thief)
    assert selection.own_index == 16
    assert selection.peer_of(node("thief")) is None


def test_a_change_of_one_member_is_a_delta_of_one_peer() -> None:
    # DOC-059
    selection = chosen("n1", network(), *ALL[:2])
    delta = selection.put_member(ALL[2])
    assert [peer.public_key for peer in delta.put] == [device("n3").public_key]
    assert not selection.put_member(member("n3", 3, version=2))
    assert selection.drop_member(node("n3")) == PeerDelta(drop=(device("n3").public_key,))
    assert not selection.drop_member(node("n3"))


def test_a_new_device_key_replaces_the_old_peer() -> None:
    selection = chosen("n1", network(), *ALL)
    delta = selection.put_member(member("n3", 3, version=2, device=device("other").id))
    assert delta.drop == (device("n3").public_key,)
    assert [peer.public_key for peer in delta.put] == [device("other").public_key]


def test_members_held_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selecting, "MAX_MEMBERS", 3)
    selection = chosen("n1", network(), *ALL)
    selection.put_member(member("n3", 3, version=2))
    with pytest.raises(Refused, match="more than 3"):
        selection.put_member(member("n4", 4))


class TestPolicy:
    def rules(self, own: str, *policy: Rule) -> tuple[AllowRule, ...] | None:
        net = network(policy=policy)
        nr = chosen(own, net, *ALL).network_resource(listen_port=1, mtu_bytes=1420)
        assert nr is not None
        return nr.policy

    def test_no_policy_allows_everything_inside(self) -> None:
        # DOC-057
        assert self.rules("n1") is None

    def test_only_rules_about_our_side_remain(self) -> None:
        # DOC-057
        rules = self.rules(
            "n2",
            Rule(("n1",), ("n2",), "tcp", ("443", "80-90")),
            Rule(("n1",), ("n3",)),
        )
        assert rules is not None
        (rule,) = rules
        assert rule.ports == ((80, 90), (443, 443))
        assert rule.source[0] == "10.1.1.0/24"
        assert rule.to[0] == "10.1.2.0/24"
        assert {":" in prefix for prefix in rule.source} == {True, False}

    def test_a_policy_without_a_rule_about_us_allows_nothing(self) -> None:
        # DOC-057
        assert self.rules("n3", Rule(("n1",), ("n2",))) == ()

    def test_what_hangs_on_us_is_our_side(self) -> None:
        # DOC-057
        rules = self.rules("n2", Rule(("*",), ("laptop",)))
        assert rules is not None
        assert rules[0].to[0] == "10.1.9.0/24"
        assert rules[0].source == tuple(sorted(rules[0].source))
        assert rules[0].source[0] == "10.1.0.0/16"
        assert self.rules("n1", Rule(("*",), ("laptop",))) == ()

    def test_invitations_are_few_prefixes(self) -> None:
        rules = self.rules("n1", Rule(("guests",), ("*",)))
        assert rules is not None
        assert [p for p in rules[0].source if "." in p] == ["10.1.16.0/20"]
