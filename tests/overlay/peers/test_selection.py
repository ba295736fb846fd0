"""Peers from documents, example by example; the laws are in tests/property (DOC-050 .. DOC-059)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from overlay.documents import trust
from overlay.documents.devices import NextDevice
from overlay.documents.relays import Relay
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


def replacing(name: str, index: int, coming: str, **changes: Any) -> Member:
    return member(name, index, next_device=NextDevice(device(coming).id, 900), **changes)


def test_a_key_to_come_is_a_second_peer_without_allowed_ips() -> None:
    # DOC-071
    selection = chosen("n1", network(), *ALL)
    delta = selection.put_member(replacing("n3", 3, "next"))
    assert [(p.public_key, p.allowed_ips) for p in delta.put] == [(device("next").public_key, ())]
    assert delta.drop == ()
    assert v4(selection, "n3") == ["10.1.3.0/24"]
    coming = selection.coming[device("next").public_key]
    assert (coming.former, coming.at) == (device("n3").public_key, 900)
    assert selection.successor_of(device("n3").public_key) == device("next").public_key
    assert selection.member_at(device("next").public_key).node == node("n3")


def test_a_key_that_came_has_all_and_the_former_is_gone() -> None:
    # DOC-071
    selection = chosen("n1", network(), replacing("n3", 3, "next"))
    delta = selection.put_member(member("n3", 3, device=device("next").id, version=2))
    assert [p.public_key for p in delta.put] == [device("next").public_key]
    assert delta.drop == (device("n3").public_key,)
    assert v4(selection, "n3") == ["10.1.3.0/24"]
    assert selection.coming == {}


def test_a_key_that_does_not_come_after_all_is_no_peer() -> None:
    selection = chosen("n1", network(), replacing("n3", 3, "next"))
    delta = selection.put_member(member("n3", 3, version=2))
    assert (delta.put, delta.drop) == ((), (device("next").public_key,))
    selection = chosen("n1", network(), replacing("n3", 3, "next"))
    assert set(selection.put_network(network(members=(), version=2)).drop) == {
        device("n3").public_key,
        device("next").public_key,
    }


@pytest.mark.parametrize("order", [1, -1])
def test_who_uses_a_key_holds_it_before_all_who_say_that_they_will(order: int) -> None:
    # DOC-072: whatever their ranks, and in any order of arrival
    claims = {
        "n2": (member("n2", 2, device=device("shared").id), replacing("n3", 3, "shared")),
        "n3": (replacing("n2", 2, "shared"), member("n3", 3, device=device("shared").id)),
    }
    for holder, members in claims.items():
        selection = chosen("n1", network(), *members[::order])
        assert selection.member_at(device("shared").public_key).node == node(holder)
        assert v4(selection, "n2")[:1] == ["10.1.2.0/24"]
        assert v4(selection, "n3") == ["10.1.3.0/24"]
        assert selection.coming == {}
        assert selection.refusals == {}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_that_announce_one_key_all_nodes_believe_the_same_one(order: int) -> None:
    # DOC-072
    members = (replacing("n2", 2, "shared"), replacing("n3", 3, "shared"))
    selection = chosen("n1", network(), *members[::order])
    winner = min(members, key=lambda each: trust.claim_rank(HOME, each.node))
    assert selection.member_at(device("shared").public_key) == winner
    assert len(selection.peers) == 3
    selection.drop_member(winner.node)
    assert selection.member_at(device("shared").public_key) is not None


def test_a_key_to_come_is_neither_ours_nor_a_relays_nor_a_devices() -> None:
    # DOC-072
    for own in ("n1", "n2"):
        selection = chosen(own, network(), *ALL[:2], replacing("n3", 3, own))
        assert device(own).public_key not in selection.peers
        assert v4(selection, "n3") == ["10.1.3.0/24"]
    relay = Relay(
        "r", node("r"), wireguard.format_key(device("relay").public_key), ("192.0.2.1:51819",)
    )
    selection = chosen("n1", network(relays=(relay,)), replacing("n3", 3, "relay"))
    assert (selection.coming, len(selection.peers)) == ({}, 1)
    key = wireguard.format_key(device("next").public_key)
    laptop = AccessDevice("laptop", key, 9, node("n1"))
    selection = chosen("n1", network(access=(laptop,)), replacing("n3", 3, "next"))
    assert selection.peers[device("next").public_key].allowed_ips == ()
    assert "access/laptop" in selection.refusals


def test_our_own_key_may_be_replaced() -> None:
    selection = chosen("n1", network(), replacing("n1", 1, "next"), *ALL[1:])
    assert set(selection.peers) == {device("n2").public_key, device("n3").public_key}
    assert selection.put_own_key(device("next").public_key) == PeerDelta()
    assert selection.own_index == 1
    thief = member("n3", 3, device=device("next").id, version=2)
    assert selection.put_member(thief).drop == (device("n3").public_key,)
