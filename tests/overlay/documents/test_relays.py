"""Relays in farm, node and network documents, and sightings (DOC-060 .. DOC-066)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from overlay.documents import fields, relays, schema
from overlay.documents.fields import MAX_RATE_MBIT
from overlay.documents.relays import Relay, RelayOffer, Seen, Sighting
from overlay.documents.schema import (
    AccessDevice,
    Capacity,
    Document,
    Farm,
    Network,
    Node,
    Owners,
    parse_document,
)
from overlay.errors import Rejected
from overlay.keys import identity, wireguard
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import WireGuardKey
from overlay.model import Address, Endpoint


def seed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def id_of(kind: Kind, n: int = 0) -> str:
    return Identity.from_seed(kind, seed(f"{kind} {n}")).id


def key(n: int = 0) -> str:
    return wireguard.format_key(WireGuardKey(seed(f"wg {n}")).public_key)


NODE, FARM, TENANT = id_of(Kind.NODE), id_of(Kind.FARM), id_of(Kind.TENANT)
NET = identity.format_network_id(bytes(20))
V4, V6 = "192.0.2.1:51819", "[2001:db8::1]:51819"


def relay(n: int = 0, **changes: Any) -> Relay:
    whole = Relay(f"r{n}", id_of(Kind.NODE, n), key(n), (f"192.0.2.{n + 1}:51819",))
    return msgspec.structs.replace(whole, **changes)


def network(*named: Relay, **changes: Any) -> Network:
    whole = Network("home", 1, Owners(1, (TENANT,)), "10.1.0.0/16", relays=named)
    return msgspec.structs.replace(whole, **changes)


def farm(*offers: RelayOffer, nodes: tuple[str, ...] = (NODE,)) -> Farm:
    return Farm(FARM, 1, "basement", nodes, offers)


def node(**changes: Any) -> Node:
    whole = Node(NODE, 1, "n1", "zos", "kernel", Capacity(1, 1, 1), FARM, key(), (V4, V6))
    return msgspec.structs.replace(whole, **changes)


def sighting(*seen: Seen, **changes: Any) -> Sighting:
    return msgspec.structs.replace(Sighting(NET, NODE, 1, seen), **changes)


def seen(n: int = 0, **changes: Any) -> Seen:
    return msgspec.structs.replace(Seen(key(n), f"192.0.2.7:{40_000 + n}"), **changes)


def parse(document: Document) -> Document:
    kind = schema.kind_of(document)
    return parse_document(schema.encode(document), schema.payload_type(kind))


@pytest.mark.parametrize(
    "document",
    [
        farm(RelayOffer(NODE, (V4, V6), 443)),
        farm(RelayOffer(NODE, (V4, V6), 443, MAX_RATE_MBIT)),
        node(relay_tls_port=443),
        network(relay(0), relay(1, tls_port=8443)),
        sighting(seen()),
    ],
    ids=schema.kind_of,
)
def test_a_document_with_relays_reads_back_as_itself(document: Document) -> None:
    assert parse(document) == document


def test_what_stands_in_documents_becomes_values() -> None:
    there = relay(endpoints=(V4, V6))
    assert wireguard.format_key(relays.key_of(there)) == there.public_key
    v6 = Endpoint(Address("2001:db8::1"), 51819)
    assert relays.endpoints_of(there) == (Endpoint(Address("192.0.2.1"), 51819), v6)
    assert relays.streams_of(there) == ()
    by_tls = relays.streams_of(relay(endpoints=(V4, V6), tls_port=443))
    assert [str(each) for each in by_tls] == ["192.0.2.1:443", "[2001:db8::1]:443"]
    places = relays.places_in(sighting(seen(endpoint=V6)))
    assert places == {relays.key_of(relay()): v6}


LOCAL = ("127.0.0.1:51819", "[::1]:51819", "[fe80::1]:51819", "224.0.0.1:1", "0.0.0.0:1")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        # DOC-060
        (farm(RelayOffer(id_of(Kind.NODE, 1), (V4,))), "relays[0].node"),
        (farm(RelayOffer(NODE, (V4,)), RelayOffer(NODE, (V6,))), "relays"),
        (farm(RelayOffer(NODE, ())), "relays[0].endpoints"),
        (farm(RelayOffer(NODE, (V4, "192.0.2.9:51819"))), "relays[0].endpoints"),
        (farm(RelayOffer(NODE, (V6, "[2001:db8::2]:51819"))), "relays[0].endpoints"),
        (farm(RelayOffer(NODE, (V4, V6, V6))), "relays[0].endpoints"),
        (farm(RelayOffer(NODE, ("relay.example:51819",))), "relays[0].endpoints[0]"),
        *((farm(RelayOffer(NODE, (text,))), "relays[0].endpoints[0]") for text in LOCAL),
        *((farm(RelayOffer(NODE, (V4,), n)), "relays[0].tls_port") for n in (0, 65_536)),
        *(
            (farm(RelayOffer(NODE, (V4,), None, n)), "relays[0].rate_mbit")
            for n in (-1, MAX_RATE_MBIT + 1)
        ),
        # DOC-061
        (node(relay_key=None, relay_endpoints=(), relay_tls_port=443), "relay_tls_port"),
        (node(relay_tls_port=0), "relay_tls_port"),
        (node(relay_key=None), "relay_key"),
        (node(relay_endpoints=()), "relay_key"),
        (node(relay_key="A" * 44), "relay_key"),
        (node(relay_endpoints=(V4, V4)), "relay_endpoints"),
        (node(relay_endpoints=(LOCAL[0],)), "relay_endpoints[0]"),
        # DOC-062
        (network(relay(name="R")), "relays[0].name"),
        (network(relay(tls_port=65_536)), "relays[0].tls_port"),
        (network(relay(node=TENANT)), "relays[0].node"),
        (network(relay(public_key="A" * 44)), "relays[0].public_key"),
        (network(relay(public_key="A" * 43 + "=")), "relays[0].public_key"),
        (network(relay(endpoints=())), "relays[0].endpoints"),
        (network(relay(endpoints=(V4, "192.0.2.9:51819"))), "relays[0].endpoints"),
        *((network(relay(endpoints=(text,))), "relays[0].endpoints[0]") for text in LOCAL),
        (network(relay(0), relay(1, name="r0")), "relays"),
        (network(relay(0), relay(1, node=NODE)), "relays"),
        (network(relay(0), relay(1, public_key=key())), "relays"),
        (network(relay(0), relay(1, endpoints=relay(0).endpoints)), "relays"),
        (network(relay(), access=(AccessDevice("pc", key(), 9, NODE),)), "relays"),
        # DOC-063
        (sighting(network=NODE), "network"),
        (sighting(node=FARM), "node"),
        (sighting(version=0), "version"),
        (sighting(seen(public_key="A" * 44)), "seen[0].public_key"),
        (sighting(seen(public_key="?" * 43 + "=")), "seen[0].public_key"),
        (sighting(seen(), seen(endpoint=V6)), "seen"),
        *((sighting(seen(endpoint=text)), "seen[0].endpoint") for text in LOCAL),
    ],
)
def test_a_document_that_contradicts_itself_names_the_field(document: Document, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse(document)
    assert caught.value.field == field


def _offers(count: int) -> Farm:
    nodes = tuple(id_of(Kind.NODE, n) for n in range(count))
    return farm(*(RelayOffer(each, (V4,)) for each in nodes), nodes=nodes)


@pytest.mark.parametrize(
    ("make", "bound"),
    [
        (_offers, relays.MAX_RELAY_OFFERS),
        (lambda count: network(*map(relay, range(count))), relays.MAX_RELAYS),
        (lambda count: sighting(*map(seen, range(count))), relays.MAX_SEEN),
    ],
)
def test_bounds_hold_at_the_bound(make: Any, bound: int) -> None:
    # DOC-021
    parse(make(bound))
    with pytest.raises(Rejected):
        parse(make(bound + 1))


def test_the_longest_sighting_fits() -> None:
    # DOC-063
    longest = "[2001:db80:1111:2222:3333:4444:5555:6666]:65535"
    keys = (wireguard.format_key(seed(str(n))) for n in range(relays.MAX_SEEN))
    whole = sighting(*(Seen(each, longest) for each in keys), version=fields.MAX_VERSION)
    assert len(schema.encode(whole)) <= schema.MAX_BYTES["sighting"]
    parse(whole)


def test_a_name_of_a_relay_may_be_a_member_s() -> None:
    # DOC-062: nobody speaks of relays in rules
    member = schema.NamedMember("r0", NODE, 1)
    parse(network(relay(), members=(member,)))
