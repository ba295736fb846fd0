"""Which networks a relay takes, and what it says of where it hears members (NODE-060 .. 065)."""

from __future__ import annotations

import pytest

from overlay.documents.relays import MAX_SEEN, Relay, Seen
from overlay.documents.schema import Member, Network, Owners
from overlay.documents.trust import network_id
from overlay.errors import Refused
from overlay.keys import wireguard
from overlay.keys.identity import Kind
from overlay.model import NetworkId, NodeId, WgPublicKey
from overlay.reconcile import relayed as subject
from overlay.reconcile.relayed import Relayed
from overlay.reconcile.sightings import SEEN_PER_S, SIGHTING_EVERY_S, Sightings, see
from overlay.relay.limits import Place
from tests.node_world import OWN, device, identity, seed

KEY = device("relay").public_key
RELAY = Relay("r", OWN.id, wireguard.format_key(KEY), ("192.0.2.1:51819",))


def network(name: str, *, tenant: str = "alice", version: int = 1) -> Network:
    owners = Owners(1, (identity(Kind.TENANT, tenant).id,))
    return Network(name, version, owners, "10.0.0.0/8", relays=(RELAY,))


def id_of(of: Network) -> NetworkId:
    return network_id(of.owners, of.name)


def relayed() -> Relayed:
    return Relayed(NodeId(OWN.id), own_key=KEY)


def test_networks_are_bounded() -> None:  # NODE-064
    held = relayed()
    for n in range(subject.MAX_RELAYED_NETWORKS):
        held.put_network(network("home", tenant=str(n)))
    with pytest.raises(Refused, match="networks already"):
        held.put_network(network("home", tenant="one more"))
    held.put_network(network("home", tenant="0", version=2))
    held.drop(id_of(network("home", tenant="1")))
    held.put_network(network("home", tenant="one more"))


def test_networks_of_one_tenant_are_bounded() -> None:  # NODE-064
    held = relayed()
    for n in range(subject.MAX_RELAYED_NETWORKS_PER_TENANT):
        held.put_network(network(f"n{n}"))
    with pytest.raises(Refused, match="already"):
        held.put_network(network("one-more"))
    held.put_network(network("home", tenant="bob"))


def test_members_of_all_networks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:  # NODE-064
    monkeypatch.setattr(subject, "MAX_RELAYED_MEMBERS", 3)
    held, homes = relayed(), (network("home"), network("office"))

    def member(n: int, *, version: int = 1) -> Member:
        name, home = f"m{n}", id_of(homes[n % 2])
        node = identity(Kind.NODE, name).id
        return Member(home, node, version, name, n, device(name).id, 1)

    for home in homes:
        held.put_network(home)
    for n in range(3):
        held.put_member(member(n))
    with pytest.raises(Refused, match="3 members already"):
        held.put_member(member(3))
    held.put_member(member(2, version=2))
    held.drop(id_of(homes[0]))
    held.put_member(member(3))


def places(*ports: int) -> tuple[Seen, ...]:
    return tuple(Seen(wireguard.format_key(seed(str(p))), f"192.0.2.7:{p}") for p in ports)


HOME = id_of(network("home"))
OFFICE = id_of(network("office"))


def test_what_did_not_change_is_not_said() -> None:  # NODE-065
    sightings = Sightings(NodeId(OWN.id))
    assert sightings.due({HOME: ()}, now=0.0) == ()
    (said,) = sightings.due({HOME: places(1)}, now=0.0)
    assert (said.network, said.node, said.seen) == (HOME, OWN.id, places(1))
    assert sightings.due({HOME: places(1)}, now=100.0) == ()
    assert sightings.wait_s(now=100.0) is None


def test_what_changes_often_is_said_once_a_second() -> None:  # NODE-065
    sightings = Sightings(NodeId(OWN.id))
    sightings.due({HOME: places(1)}, now=0.0)
    early = SIGHTING_EVERY_S - 0.01
    assert sightings.due({HOME: places(2)}, now=early) == ()
    assert sightings.wait_s(now=early) == pytest.approx(0.01)
    # What was too early and is over again was never said.
    assert sightings.due({HOME: places(1)}, now=early) == ()
    assert sightings.wait_s(now=early) is None
    (said,) = sightings.due({HOME: places(3), OFFICE: ()}, now=SIGHTING_EVERY_S)
    assert said.seen == places(3)


def test_networks_do_not_wait_for_each_other() -> None:  # NODE-065
    sightings = Sightings(NodeId(OWN.id))
    sightings.due({HOME: places(1)}, now=0.0)
    (said,) = sightings.due({HOME: places(2), OFFICE: places(3)}, now=0.1)
    assert said.network == OFFICE


def test_a_longer_sighting_has_a_longer_wait() -> None:  # NODE-065
    sightings = Sightings(NodeId(OWN.id))
    many = places(*range(1, 4 * SEEN_PER_S + 1))
    sightings.due({HOME: many}, now=0.0)
    assert sightings.due({HOME: many[1:]}, now=3.9) == ()
    assert sightings.due({HOME: many[1:]}, now=4.0) != ()


def test_who_was_seen_in_an_earlier_life_and_is_not_any_more_is_taken_back() -> None:  # NODE-065
    sightings = Sightings(NodeId(OWN.id))
    (before,) = Sightings(NodeId(OWN.id)).due({HOME: places(1)}, now=0.0)
    sightings.put_said(before)
    (said,) = sightings.due({HOME: ()}, now=0.0)
    assert said.seen == ()


def test_who_is_forgotten_is_spoken_of_anew() -> None:
    sightings = Sightings(NodeId(OWN.id))
    sightings.due({HOME: places(1)}, now=0.0)
    sightings.forget(HOME)
    assert len(sightings.due({HOME: places(1)}, now=0.1)) == 1


def test_places_that_mean_nothing_to_others_are_not_told() -> None:  # NODE-065, REL-055
    heard: dict[WgPublicKey, Place] = {
        device("v4").public_key: ("203.0.113.5", 4444),
        device("v6").public_key: ("2001:db8::5", 5555, 0, 0),
        device("loop").public_key: ("127.0.0.1", 1),
        device("link").public_key: ("fe80::1%eth0", 1, 0, 2),
        device("stream").public_key: ("203.0.113.6", 4444, 7),
    }
    keys = [*heard, device("silent").public_key]
    seen = see(keys, heard.get)
    assert {each.endpoint for each in seen} == {"203.0.113.5:4444", "[2001:db8::5]:5555"}
    assert list(seen) == sorted(seen, key=lambda each: each.public_key)


def test_a_sighting_is_never_longer_than_a_document_may_be() -> None:
    keys = [WgPublicKey(seed(str(n))) for n in range(MAX_SEEN + 1)]
    assert len(see(keys, lambda _: ("192.0.2.7", 1))) == MAX_SEEN
