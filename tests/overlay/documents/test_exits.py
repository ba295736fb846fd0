"""Exits in farm and member documents (EXIT-001 .. EXIT-008)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from overlay.documents import exits, fields, schema
from overlay.documents.exits import ExitOffer, ExitService, Uplink
from overlay.documents.schema import (
    Document,
    Farm,
    Member,
    NamedMember,
    Network,
    Owners,
    parse_document,
)
from overlay.errors import Rejected
from overlay.keys import identity
from overlay.keys.identity import Identity, Kind


def id_of(kind: Kind, n: int = 0) -> str:
    return Identity.from_seed(kind, hashlib.sha256(f"{kind} {n}".encode()).digest()).id


NODE, FARM, WG = id_of(Kind.NODE), id_of(Kind.FARM), id_of(Kind.WG)
NET = identity.format_network_id(bytes(20))
V4, V6 = "192.0.2.2/24", "2001:db8::2/64"
LOCAL = ("127.0.0.1", "::1", "224.0.0.1", "0.0.0.0", "169.254.169.254", "::ffff:192.0.2.1")


def uplink(**changes: Any) -> Uplink:
    whole = Uplink("macvlan", "eth0", (V4, V6), ("192.0.2.1", "fe80::1"))
    return msgspec.structs.replace(whole, **changes)


def offer(link: Uplink | None = None, **changes: Any) -> ExitOffer:
    whole = ExitOffer(NODE, link or uplink(), ("198.51.100.1", "2001:db8:1::1"), ("192.0.2.53",))
    return msgspec.structs.replace(whole, **changes)


def farm(*offers: ExitOffer, nodes: tuple[str, ...] = (NODE,)) -> Farm:
    return Farm(FARM, 1, "basement", nodes, exits=offers)


def member(**changes: Any) -> Member:
    service = ExitService(("198.51.100.1",), (4, 6), ("192.0.2.53",), 7)
    service = msgspec.structs.replace(service, **changes)
    return Member(NET, NODE, 1, "a", 0, WG, 0, exit=service)


def addresses(count: int) -> tuple[str, ...]:
    return tuple(f"198.51.100.{n + 1}" for n in range(count))


def prefixes(count: int) -> tuple[str, ...]:
    return tuple(f"198.51.{n}.0/24" for n in range(count))


def parse(document: Document) -> Document:
    kind = schema.kind_of(document)
    return parse_document(schema.encode(document), schema.payload_type(kind))


@pytest.mark.parametrize(
    "document",
    [
        farm(offer()),
        farm(offer(uplink(kind="bridge", link="br.lan"))),
        farm(offer(uplink(kind="vlan", vlan=4_094))),
        farm(offer(Uplink("interface", "eth0"), local=True)),
        farm(offer(uplink(ipv6_prefix="2001:db8::/32"))),
        farm(offer(uplink(ipv6_prefix="2001:db8:7:100::/56"))),
        farm(offer(Uplink("bridge", "br0", ipv4="dhcp", ipv6="slaac"))),
        farm(offer(uplink(addresses=(V4,), gateways=(), ipv6="slaac"))),
        farm(offer(draining_until=7, smtp=True, rate_mbit=fields.MAX_RATE_MBIT)),
        farm(offer(beacons=addresses(exits.MAX_BEACONS))),
        farm(offer(resolvers=addresses(exits.MAX_RESOLVERS))),
        farm(offer(refuse=prefixes(exits.MAX_GUARD_PREFIXES), allow=("2001:db8::/32",))),
        farm(offer(connections=1, connections_per_s=1)),
        member(),
        member(families=(6,)),
    ],
)
def test_a_document_with_exits_reads_back_as_itself(document: Document) -> None:
    assert parse(document) == document


def test_a_farm_offers_as_many_exits_as_it_may_have() -> None:  # EXIT-001
    nodes = tuple(id_of(Kind.NODE, n) for n in range(exits.MAX_EXIT_OFFERS + 1))
    offers = [offer(node=node) for node in nodes]
    assert parse(farm(*offers[:-1], nodes=nodes))
    with pytest.raises(Rejected) as caught:
        parse(farm(*offers, nodes=nodes))
    assert caught.value.field == "exits"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        # EXIT-001
        (farm(offer(node=id_of(Kind.NODE, 1))), "exits[0].node"),
        (farm(offer(node=FARM)), "exits[0].node"),
        (farm(offer(), offer()), "exits"),
        # EXIT-002
        (farm(offer(uplink(kind="vlan"))), "exits[0].uplink.vlan"),
        (farm(offer(uplink(vlan=7))), "exits[0].uplink.vlan"),
        (farm(offer(uplink(kind="vlan", vlan=4_095))), "exits[0].uplink.vlan"),
        (farm(offer(uplink(link="a" * 16))), "exits[0].uplink.link"),
        (farm(offer(uplink(link="../x"))), "exits[0].uplink.link"),
        (farm(offer(uplink(link=".."))), "exits[0].uplink.link"),
        (farm(offer(uplink(link="eth0\n"))), "exits[0].uplink.link"),
        (farm(offer(uplink(kind="ipvlan"))), "exits[0].uplink.kind"),
        (farm(offer(Uplink("interface", "eth0", vlan=7))), "exits[0].uplink.vlan"),
        (farm(offer(uplink(kind="interface"))), "exits[0].uplink.addresses"),
        (
            farm(offer(Uplink("interface", "eth0", gateways=("192.0.2.1",)))),
            "exits[0].uplink.gateways",
        ),
        # EXIT-003
        (farm(offer(Uplink("macvlan", "eth0", ()))), "exits[0].uplink.addresses"),
        (farm(offer(uplink(addresses=("192.0.2.2",)))), "exits[0].uplink.addresses[0]"),
        (farm(offer(uplink(addresses=("192.0.2.2/0",)))), "exits[0].uplink.addresses[0]"),
        (farm(offer(uplink(addresses=("192.0.2.2/33",)))), "exits[0].uplink.addresses[0]"),
        (farm(offer(uplink(addresses=("192.0.2.2/024",)))), "exits[0].uplink.addresses[0]"),
        (farm(offer(uplink(addresses=(V4, V4)))), "exits[0].uplink.addresses"),
        (farm(offer(uplink(gateways=("198.51.100.1",)))), "exits[0].uplink.gateways[0]"),
        (farm(offer(uplink(gateways=("192.0.2.2",)))), "exits[0].uplink.gateways[0]"),
        (farm(offer(uplink(gateways=("192.0.2.1", "192.0.2.3")))), "exits[0].uplink.gateways"),
        *(
            (farm(offer(uplink(addresses=(f"{a}/8",)))), "exits[0].uplink.addresses[0]")
            for a in LOCAL
        ),
        *((farm(offer(uplink(gateways=(a,)))), "exits[0].uplink.gateways[0]") for a in LOCAL),
        # EXIT-047
        (farm(offer(uplink(ipv4="dhcp"))), "exits[0].uplink.addresses"),
        (farm(offer(uplink(ipv4="slaac"))), "exits[0].uplink.ipv4"),
        (farm(offer(Uplink("interface", "eth0", ipv4="dhcp"))), "exits[0].uplink.ipv4"),
        (farm(offer(Uplink("interface", "eth0", ipv6="slaac"))), "exits[0].uplink.ipv6"),
        (
            farm(offer(Uplink("vlan", "eth0", (), ("fe80::1",), 7, ipv6="slaac"))),
            "exits[0].uplink.gateways",
        ),
        # EXIT-070
        (farm(offer(local=True, publish=("tcp/80",))), "exits[0].publish"),
        # EXIT-049
        *(
            (farm(offer(uplink(ipv6_prefix=text))), "exits[0].uplink.ipv6_prefix")
            for text in (
                "2001:db8::/31",
                "2001:db8::/57",
                "2001:db8::1/48",
                "10.0.0.0/8",
                "fd00::/48",
                "fe80::/48",
                "ff00::/48",
            )
        ),
        (
            farm(offer(Uplink("interface", "eth0", ipv6_prefix="2001:db8::/48"))),
            "exits[0].uplink.ipv6_prefix",
        ),
        # EXIT-004
        (farm(offer(beacons=())), "exits[0].beacons"),
        (farm(offer(beacons=addresses(exits.MAX_BEACONS + 1))), "exits[0].beacons"),
        (farm(offer(beacons=("beacon.example",))), "exits[0].beacons[0]"),
        (farm(offer(beacons=addresses(1) * 2)), "exits[0].beacons"),
        (farm(offer(resolvers=addresses(exits.MAX_RESOLVERS + 1))), "exits[0].resolvers"),
        *((farm(offer(beacons=(a,))), "exits[0].beacons[0]") for a in LOCAL),
        *((farm(offer(resolvers=(a,))), "exits[0].resolvers[0]") for a in LOCAL),
        # EXIT-005
        (farm(offer(refuse=prefixes(exits.MAX_GUARD_PREFIXES + 1))), "exits[0].refuse"),
        (farm(offer(allow=prefixes(exits.MAX_GUARD_PREFIXES + 1))), "exits[0].allow"),
        (farm(offer(refuse=("10.0.0.1/8",))), "exits[0].refuse[0]"),
        (farm(offer(allow=("10.0.0.0/8", "10.1.0.0/16"))), "exits[0].allow"),
        (farm(offer(allow=("10.0.0.0/8",), refuse=("10.0.0.0/8",))), "exits[0].allow"),
        # EXIT-006
        (farm(offer(connections=0)), "exits[0].connections"),
        (farm(offer(connections=exits.MAX_CONNECTIONS + 1)), "exits[0].connections"),
        (farm(offer(connections_per_s=0)), "exits[0].connections_per_s"),
        (
            farm(offer(connections_per_s=exits.MAX_CONNECTIONS_PER_S + 1)),
            "exits[0].connections_per_s",
        ),
        (farm(offer(rate_mbit=-1)), "exits[0].rate_mbit"),
        (farm(offer(rate_mbit=fields.MAX_RATE_MBIT + 1)), "exits[0].rate_mbit"),
        # EXIT-008
        (member(beacons=()), "exit.beacons"),
        (member(families=()), "exit.families"),
        (member(families=(6, 4)), "exit.families"),
        (member(families=(4, 4)), "exit.families"),
        (member(resolvers=addresses(exits.MAX_RESOLVERS + 1)), "exit.resolvers"),
        *((member(beacons=(a,)), "exit.beacons[0]") for a in LOCAL),
    ],
)
def test_a_document_that_makes_no_sense_is_refused_by_field(document: Document, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse(document)
    assert caught.value.field == field


def network(*exits_: exits.Exit, count: int = 1) -> Network:
    members = tuple(NamedMember(f"m{n}", id_of(Kind.NODE, n), n) for n in range(count))
    return Network(
        "home", 1, Owners(1, (id_of(Kind.TENANT),)), "10.1.0.0/16", members, exits=exits_
    )


def test_a_network_names_members_as_exits() -> None:  # EXIT-050
    node = id_of(Kind.NODE, 0)
    assert parse(network(exits.Exit(node, exits.MAX_ORDER)))
    with pytest.raises(Rejected, match="exits"):
        parse(network(exits.Exit(node, exits.MAX_ORDER + 1)))
    for wrong in (
        (exits.Exit(id_of(Kind.NODE, 7)),),
        (exits.Exit(node), exits.Exit(node, 1)),
        (exits.Exit(id_of(Kind.FARM)),),
    ):
        with pytest.raises(Rejected) as caught:
            parse(network(*wrong))
        assert (caught.value.field or "").startswith("exits")


def test_a_network_has_so_many_exits_at_most() -> None:  # EXIT-050
    many = tuple(exits.Exit(id_of(Kind.NODE, n)) for n in range(exits.MAX_EXITS + 1))
    assert parse(network(*many[:-1], count=len(many)))
    with pytest.raises(Rejected, match="exits"):
        parse(network(*many, count=len(many)))
