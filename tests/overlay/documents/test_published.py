"""Ports of exits that lead to workloads, in farm, network and member documents (PUB-001 ..)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.documents import schema
from overlay.documents.exits import Exit, ExitService, Uplink
from overlay.documents.published import (
    MAX_PUBLISH_RANGES,
    MAX_PUBLISHED,
    REASONS,
    PortSpan,
    Published,
    PublishedState,
    State,
    parse_ports,
)
from overlay.documents.schema import Member, NamedMember, Network, Owners, parse_document
from overlay.errors import Rejected
from overlay.keys.identity import Kind
from tests.overlay.documents.test_exits import NET, NODE, WG, farm, id_of, offer, parse

EXIT, AT, STRANGER = (id_of(Kind.NODE, n) for n in range(3))
WEB = Published(EXIT, "tcp", 8080, AT, "web", 80)


def network(*published: Published) -> Network:
    members = (NamedMember("e1", EXIT, 1), NamedMember("n1", AT, 2))
    owners = Owners(1, (id_of(Kind.TENANT),))
    return Network(
        "home", 1, owners, "10.1.0.0/16", members, exits=(Exit(EXIT),), published=published
    )


def web(**changes: Any) -> Published:
    return msgspec.structs.replace(WEB, **changes)


def ranges(count: int) -> tuple[str, ...]:
    return tuple(f"tcp/{8000 + 2 * n}" for n in range(count))


def member(*states: PublishedState, **changes: Any) -> Member:
    service = ExitService(
        ("198.51.100.1",), (4,), addresses=("192.0.2.2", "2001:db8::2"), published=states
    )
    service = msgspec.structs.replace(service, **changes)
    return Member(NET, NODE, 1, "a", 0, WG, 0, exit=service)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("tcp/8080", PortSpan("tcp", 8080, 8080)),
        ("udp/1-65535", PortSpan("udp", 1, 65_535)),
    ],
)
def test_ports_read_as_they_are_written(text: str, span: PortSpan) -> None:  # PUB-001
    assert parse_ports(text) == span
    assert span.has(span.protocol, span.first)
    assert span.has(span.protocol, span.last)
    assert not span.has("tcp" if span.protocol == "udp" else "udp", span.first)


@pytest.mark.parametrize(
    "text",
    [
        *"tcp tcp/ 8080 /8080 icmp/1 sctp/80 TCP/80 tcp/0 tcp/65536 tcp/80-79 tcp/80-80".split(),
        *("tcp/080", "tcp/80,81", "tcp//80", "tcp/+80", "tcp/٨٠", "tcp/80\n", " tcp/80", "tcp/ 80"),
    ],
)
def test_what_are_no_ports_is_refused_with_how_to_write_them(text: str) -> None:  # PUB-001
    with pytest.raises(Rejected) as caught:
        parse_ports(text, field="there")
    assert caught.value.field == "there"
    assert "tcp/" in (caught.value.remedy or "")


def test_an_offer_has_so_many_ranges_at_most(  # PUB-001
) -> None:
    assert parse(farm(offer(publish=ranges(MAX_PUBLISH_RANGES))))
    with pytest.raises(Rejected) as caught:
        parse(farm(offer(publish=ranges(MAX_PUBLISH_RANGES + 1))))
    assert caught.value.field == "exits[0].publish"


@pytest.mark.parametrize(
    ("publish", "field"),
    [
        (("tcp/8000", "tcp/80-"), "exits[0].publish[1]"),
        (("tcp/8000", "tcp/8000"), "exits[0].publish"),
        (("tcp/9000", "tcp/8000-9000"), "exits[0].publish"),
        (("tcp/8000-8001", "tcp/1-9000"), "exits[0].publish"),
    ],
)
def test_ranges_of_an_offer_are_apart(publish: tuple[str, ...], field: str) -> None:  # PUB-001
    with pytest.raises(Rejected) as caught:
        parse(farm(offer(publish=publish)))
    assert caught.value.field == field
    assert parse(farm(offer(publish=("tcp/8000-8001", "tcp/8002", "udp/8000"))))


@pytest.mark.parametrize(
    "uplink",
    [Uplink("interface", "eth0"), Uplink("macvlan", "eth0", ipv4="dhcp", ipv6="slaac")],
    ids=["of the node", "learnt"],
)
def test_who_has_no_address_that_is_written_down_offers_none(uplink: Uplink) -> None:  # PUB-001
    assert parse(farm(offer(uplink)))
    with pytest.raises(Rejected) as caught:
        parse(farm(offer(uplink, publish=("tcp/8000",))))
    assert caught.value.field == "exits[0].publish"


def test_a_network_publishes_so_many_ports_at_most() -> None:  # PUB-002
    many = tuple(web(port=8000 + n) for n in range(MAX_PUBLISHED + 1))
    assert parse(network(*many[:-1])) == network(*many[:-1])
    with pytest.raises(Rejected) as caught:
        parse(network(*many))
    assert caught.value.field == "published"


@pytest.mark.parametrize(
    ("published", "field"),
    [
        ((web(exit=AT),), "published[0].exit"),  # a member that is no exit
        ((web(exit=STRANGER),), "published[0].exit"),
        ((WEB, web(port=1, exit=id_of(Kind.FARM))), "published[1].exit"),
        ((web(node=STRANGER),), "published[0].node"),
        ((web(node=id_of(Kind.TENANT)),), "published[0].node"),
        ((WEB, web(workload="db", target=81)), "published"),
        ((web(port=0),), "published[0].port"),
        ((web(port=65_536),), "published[0].port"),
        ((web(target=0),), "published[0].target"),
        ((web(target=65_536),), "published[0].target"),
        ((web(protocol="icmp"),), "published[0].protocol"),
        ((web(workload="Web"),), "published[0].workload"),
        ((web(workload="../web"),), "published[0].workload"),
        ((web(workload="web\n"),), "published[0].workload"),
        ((web(workload="a" * 64),), "published[0].workload"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(
    published: tuple[Published, ...], field: str
) -> None:  # PUB-002
    with pytest.raises(Rejected) as caught:
        parse(network(*published))
    assert caught.value.field == field


def test_one_port_may_be_published_by_each_protocol_and_at_the_bounds() -> None:  # PUB-002
    assert parse(network(WEB, web(protocol="udp"), web(port=1, target=65_535)))
    assert parse(network(web(workload="a" * 63, node=EXIT)))


def test_an_unknown_field_is_refused() -> None:  # PUB-002
    payload = schema.encode(network(WEB)).replace(b'"target":80', b'"target":80,"host":2')
    with pytest.raises(Rejected):
        parse_document(payload, schema.payload_type("network"))


@given(st.binary(max_size=200))
def test_any_bytes_in_its_place_are_read_or_refused(noise: bytes) -> None:  # DOC-039
    payload = schema.encode(network(WEB)).replace(b'"tcp"', noise)
    try:
        parse_document(payload, schema.payload_type("network"))
    except Rejected:
        return


def test_an_exit_says_what_became_of_each() -> None:  # PUB-003
    states = tuple(
        PublishedState("tcp", 8000 + n, list(REASONS)[n % len(REASONS)])
        for n in range(MAX_PUBLISHED + 1)
    )
    assert parse(member(*states[:-1], publish=ranges(MAX_PUBLISH_RANGES)))
    for wrong, field in (
        (member(*states), "exit.published"),
        (member(states[0], states[0]), "exit.published"),
        (member(PublishedState("tcp", 0, "open")), "exit.published[0].port"),
        (member(addresses=("127.0.0.1",)), "exit.addresses[0]"),
        (member(addresses=("192.0.2.2",) * 2), "exit.addresses"),
        (member(publish=("tcp/1", "tcp/1")), "exit.publish"),
    ):
        with pytest.raises(Rejected) as caught:
            parse(wrong)
        assert caught.value.field == field


def test_every_state_but_open_has_a_reason() -> None:  # PUB-003
    states: tuple[State, ...] = State.__args__  # type: ignore[attr-defined]
    assert set(REASONS) == set(states)
    assert [state for state, reason in REASONS.items() if not reason] == ["open"]
