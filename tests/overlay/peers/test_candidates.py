"""What a node offers, and the MTU that follows from its links (NODE-030, NODE-031)."""

from __future__ import annotations

import pytest

from overlay.addressing import MTU_MIN_BYTES, parse_endpoint
from overlay.documents.schema import MAX_CANDIDATES
from overlay.model import InterfaceAddress
from overlay.peers.candidates import (
    Surroundings,
    overlay_mtu_bytes,
    own_candidates,
    underlay_of,
)

BOTH = Surroundings((InterfaceAddress("192.0.2.1/24"), InterfaceAddress("2001:db8::1/64")))


def offered(declared: tuple[str, ...], port: int, here: Surroundings = BOTH) -> list[str]:
    endpoints = tuple(map(parse_endpoint, declared))
    found = own_candidates(here, declared=endpoints, listen_port=port, first_port=51_820)
    return [f"{candidate.kind} {candidate.endpoint}" for candidate in found]


def test_declared_endpoints_come_first_and_own_addresses_follow() -> None:
    # NODE-030
    assert offered(("203.0.113.9:4000",), 51_820) == [
        "declared 203.0.113.9:4000",
        "local 192.0.2.1:51820",
        "local [2001:db8::1]:51820",
    ]


def test_a_declared_port_is_the_first_of_a_range() -> None:
    # NODE-030
    assert offered(("203.0.113.9:4000",), 51_823)[0] == "declared 203.0.113.9:4003"
    assert offered(("203.0.113.9:65535",), 51_821)[0].startswith("local")


def test_an_address_is_offered_once() -> None:
    assert offered(("192.0.2.1:51820",), 51_820) == [
        "declared 192.0.2.1:51820",
        "local [2001:db8::1]:51820",
    ]


def test_candidates_are_bounded() -> None:
    many = Surroundings(tuple(InterfaceAddress(f"192.0.2.{n}/24") for n in range(1, 100)))
    assert len(offered((), 51_820, many)) == MAX_CANDIDATES


@pytest.mark.parametrize(
    ("addresses", "mtu_bytes", "overlay_bytes"),
    [
        (("192.0.2.1/24",), 1_500, 1_440),
        (("2001:db8::1/64",), 1_500, 1_420),
        (("192.0.2.1/24", "2001:db8::1/64"), 1_500, 1_420),
        (("192.0.2.1/24",), 9_000, 8_940),
        (("192.0.2.1/24",), 1_300, MTU_MIN_BYTES),
    ],
)
def test_a_full_packet_fits_the_underlay(
    addresses: tuple[str, ...], mtu_bytes: int, overlay_bytes: int
) -> None:
    here = Surroundings(tuple(map(InterfaceAddress, addresses)), mtu_bytes)
    assert overlay_mtu_bytes(here) == overlay_bytes


def test_what_paths_are_chosen_by() -> None:
    underlay = underlay_of(BOTH, declared=())
    assert (underlay.families, underlay.declared) == ({4, 6}, False)
    assert underlay.prefixes == ("192.0.2.0/24", "2001:db8::/64")
    assert underlay_of(Surroundings(), declared=(parse_endpoint("192.0.2.1:1"),)).families == {4}
