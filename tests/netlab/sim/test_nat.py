"""A simulated router does what RFC 4787 calls its behaviours (LAB-101)."""

from __future__ import annotations

import pytest

from netlab.nat import Behaviour, Nat
from netlab.sim.nat import FLOW_TIMEOUT_S, FlowTable, NatTable
from overlay.model import Address, Endpoint

INNER = (Address("192.168.0.2"), 51_820)
OTHER = (Address("192.168.0.3"), 51_820)


def far(host: int, port: int = 1) -> Endpoint:
    return Endpoint(Address(f"198.51.100.{host}"), port)


@pytest.mark.parametrize(
    ("mapping", "same_host", "other_host"),
    [
        ("endpoint-independent", True, True),
        ("address-dependent", True, False),
        ("address-and-port-dependent", False, False),
    ],
)
def test_mapping_shares_a_port_as_its_name_says(
    mapping: Behaviour, same_host: bool, other_host: bool
) -> None:
    table = NatTable(Nat(mapping=mapping))
    port = table.outbound(INNER, far(1), now=0.0)
    assert (table.outbound(INNER, far(1, 2), now=0.0) == port) is same_host
    assert (table.outbound(INNER, far(2), now=0.0) == port) is other_host


@pytest.mark.parametrize(
    ("filtering", "other_port", "other_host"),
    [
        ("endpoint-independent", True, True),
        ("address-dependent", True, False),
        ("address-and-port-dependent", False, False),
    ],
)
def test_filtering_lets_in_whom_its_name_says(
    filtering: Behaviour, other_port: bool, other_host: bool
) -> None:
    table = NatTable(Nat(filtering=filtering))
    port = table.outbound(INNER, far(1), now=0.0)
    assert table.inbound(port, far(1), now=1.0) == INNER
    assert (table.inbound(port, far(1, 2), now=1.0) == INNER) is other_port
    assert (table.inbound(port, far(2), now=1.0) == INNER) is other_host


def test_a_mapping_lasts_as_long_as_it_is_used_from_inside() -> None:
    table = NatTable(Nat(filtering="endpoint-independent", udp_timeout_s=30))
    port = table.outbound(INNER, far(1), now=0.0)
    table.outbound(INNER, far(1), now=20.0)
    assert table.inbound(port, far(2), now=50.0) == INNER
    assert table.inbound(port, far(2), now=50.1) is None


def test_what_comes_in_keeps_no_mapping() -> None:
    table = NatTable(Nat(udp_timeout_s=30))
    port = table.outbound(INNER, far(1), now=0.0)
    assert table.inbound(port, far(1), now=29.0) == INNER
    assert table.inbound(port, far(1), now=31.0) is None


def test_a_port_is_preserved_where_it_is_free() -> None:
    table = NatTable(Nat())
    assert table.outbound(INNER, far(1), now=0.0) == INNER[1]
    taken = table.outbound(OTHER, far(1), now=0.0)
    assert taken != INNER[1]
    assert table.inbound(taken, far(1), now=0.0) == OTHER


def test_a_port_that_went_to_another_is_not_taken_from_it() -> None:
    table = NatTable(Nat(udp_timeout_s=30))
    port = table.outbound(INNER, far(1), now=0.0)
    assert table.outbound(OTHER, far(1), now=40.0) == port
    assert table.outbound(INNER, far(1), now=41.0) != port
    assert table.inbound(port, far(1), now=42.0) == OTHER


def test_a_reboot_forgets_all_but_what_is_configured() -> None:
    table = NatTable(Nat(filtering="endpoint-independent"))
    table.forward(4_000, OTHER)
    port = table.outbound(INNER, far(1), now=0.0)
    table.reboot()
    assert table.inbound(port, far(1), now=0.0) is None
    assert table.inbound(4_000, far(9), now=0.0) == OTHER
    assert table.outbound(OTHER, far(1), now=0.0) == 4_000


def test_a_stateful_firewall_lets_answers_in_for_a_while() -> None:
    table = FlowTable()
    table.note(far(1), far(2), now=0.0)
    assert table.admits(far(2), far(1), now=FLOW_TIMEOUT_S)
    assert not table.admits(far(2), far(1), now=FLOW_TIMEOUT_S + 0.1)
    assert not table.admits(far(3), far(1), now=0.0)
    table.reboot()
    assert not table.admits(far(2), far(1), now=0.0)
