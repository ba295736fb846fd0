"""Who gets a port of an exit (PUB-010 .. PUB-013)."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from overlay.documents.exits import ExitOffer, Uplink
from overlay.documents.published import PortSpan, Published
from overlay.exitnode.publishing import (
    EVERY_PORT,
    Claim,
    Decision,
    Port,
    decide,
    reserved_ports,
)
from overlay.model import Address, Endpoint, NetworkId, Publication

A, B, C = (NetworkId(f"net1{letter}") for letter in "abc")
OFFER = ExitOffer(
    "node1",
    Uplink("macvlan", "eth0", ("192.0.2.2/24", "2001:db8::2/64")),
    ("198.51.100.1",),
    publish=("tcp/8000-8099", "udp/9000"),
)
HTTP: Port = ("tcp", 8080)


def claim(network: NetworkId, *, port: Port = HTTP, is_there: bool = True) -> Claim:
    published = Published("node1", *port, "node2", "web", 80)
    there = Publication(*port, Address("10.1.2.2"), Address("fd00::2"), 80)
    return Claim(network, published, there if is_there else None)


def states(decision: Decision) -> list[tuple[NetworkId, int, str]]:
    return [(d.claim.network, d.claim.published.port, d.state) for d in decision.decided]


def test_what_is_offered_and_free_is_open() -> None:  # PUB-010
    found = decide(OFFER, [claim(A), claim(B, port=("udp", 9000))], holders={})
    assert states(found) == [(A, 8080, "open"), (B, 9000, "open")]
    assert found.holders == {HTTP: A, ("udp", 9000): B}
    assert [(p.network, p.protocol, p.port) for p in found.open_ports] == [
        (A, "tcp", 8080),
        (B, "udp", 9000),
    ]
    assert found.publications(A) == (claim(A).to,)


@pytest.mark.parametrize(
    ("port", "state"),
    [
        (("tcp", 7999), "not-offered"),
        (("tcp", 8000), "open"),
        (("tcp", 8099), "open"),
        (("tcp", 8100), "not-offered"),
        (("udp", 8080), "not-offered"),
    ],
)
def test_ports_are_offered_from_the_first_to_the_last(port: Port, state: str) -> None:  # PUB-010
    found = decide(OFFER, [claim(A, port=port)], holders={})
    assert states(found) == [(A, port[1], state)]
    assert dict(found.holders) == ({port: A} if state == "open" else {})


def test_where_nothing_is_offered_nothing_is_open() -> None:  # PUB-001
    nothing = msgspec.structs.replace(OFFER, publish=())
    found = decide(nothing, [claim(A)], holders={HTTP: A})
    assert states(found) == [(A, 8080, "not-offered")]
    assert (found.open_ports, found.publications(A), dict(found.holders)) == ((), (), {})


def test_who_holds_a_port_keeps_it_whoever_else_wants_it() -> None:  # PUB-011
    for order in itertools.permutations([claim(A), claim(B), claim(C)]):
        found = decide(OFFER, order, holders={HTTP: B})
        assert states(found) == [(A, 8080, "taken"), (B, 8080, "open"), (C, 8080, "taken")]
        assert found.holders == {HTTP: B}


def test_of_several_at_once_the_lowest_id_gets_it_in_any_order() -> None:  # PUB-011
    for order in itertools.permutations([claim(A), claim(B), claim(C)]):
        assert decide(OFFER, order, holders={}).holders == {HTTP: A}


def test_a_port_that_is_given_up_goes_to_who_waits_for_it() -> None:  # PUB-011
    first = decide(OFFER, [claim(B)], holders={})
    second = decide(OFFER, [claim(A), claim(B)], holders=first.holders)
    assert states(second) == [(A, 8080, "taken"), (B, 8080, "open")]
    third = decide(OFFER, [claim(A)], holders=second.holders)
    assert states(third) == [(A, 8080, "open")]
    # Who comes back is not the holder any more.
    assert decide(OFFER, [claim(A), claim(B)], holders=third.holders).holders == {HTTP: A}


def test_without_its_workload_a_port_is_held_and_not_open() -> None:  # PUB-013
    found = decide(OFFER, [claim(A, is_there=False), claim(B)], holders={})
    assert states(found) == [(A, 8080, "no-workload"), (B, 8080, "taken")]
    assert found.open_ports == ()
    assert found.holders == {HTTP: A}


def test_what_the_exit_needs_nobody_gets() -> None:  # PUB-012
    needed = [PortSpan("tcp", 8080, 8080)]
    found = decide(OFFER, [claim(A), claim(A, port=("tcp", 8081))], holders={}, reserved=needed)
    assert states(found) == [(A, 8080, "reserved"), (A, 8081, "open")]
    assert found.holders == {("tcp", 8081): A}


def reserved(**changes: Any) -> tuple[PortSpan, ...]:
    whole: dict[str, Any] = {"own": (), "wireguard": (), "wireguard_ports": 1_000, "relays": ()}
    return reserved_ports(OFFER, **{**whole, **changes})


def test_an_address_of_its_own_is_the_nodes_with_all_ports() -> None:  # PUB-012
    assert reserved(own=[Address("192.0.2.10")]) == ()
    assert reserved(own=[Address("192.0.2.2")]) == EVERY_PORT
    assert reserved(own=[Address("2001:db8::2")]) == EVERY_PORT


def test_ports_of_wireguard_and_of_the_relay_are_the_nodes() -> None:  # PUB-012
    there, elsewhere = Address("2001:db8::2"), Address("198.51.100.9")
    assert reserved(wireguard=[Endpoint(elsewhere, 51_820)]) == ()
    assert reserved(wireguard=[Endpoint(there, 51_820)]) == (PortSpan("udp", 51_820, 52_819),)
    assert reserved(wireguard=[Endpoint(there, 65_000)]) == (PortSpan("udp", 65_000, 65_535),)
    assert reserved(relays=[Endpoint(there, 51_819), Endpoint(elsewhere, 51_819)]) == (
        PortSpan("udp", 51_819, 51_819),
    )
