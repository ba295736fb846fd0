"""Legs of an exit, what it guards, and the plan for its netns (EXIT-020, EXIT-026, EXIT-031)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from overlay.addressing import contains, prefix_of
from overlay.documents.exits import ExitOffer, Uplink
from overlay.errors import Refused
from overlay.exitnode import sets
from overlay.exitnode.egress import (
    MAX_LEGS,
    NEXT_UPLINK,
    UPLINK_LINK,
    UPLINK_PORT,
    Egress,
    OpenPort,
    select_legs,
)
from overlay.exitnode.firewall import ruleset
from overlay.exitnode.guards import guarded
from overlay.exitnode.plan import (
    Actual,
    CreateUplink,
    DeleteUplinkPort,
    PlugUplink,
    TakeUplink,
    plan,
)
from overlay.model import Address, NetworkId, Prefix
from overlay.netns.changes import Change, DeleteLink
from overlay.netns.codec import KernelLink, Snapshot
from overlay.netns.state import Firewall

RULES = Firewall("listing", "ruleset")


def networks(count: int) -> list[NetworkId]:
    return [NetworkId(f"net1{n}") for n in range(count)]


def test_legs_are_as_many_as_an_exit_takes_and_share_nothing() -> None:  # EXIT-026
    legs = select_legs(networks(MAX_LEGS))
    for values in (
        {leg.link for leg in legs},
        {prefix_of(leg.inside_v4) for leg in legs},
        {prefix_of(leg.inside_v6) for leg in legs},
    ):
        assert len(values) == MAX_LEGS
    for leg in legs:
        assert prefix_of(leg.inside_v4) == prefix_of(leg.outside_v4)
        assert prefix_of(leg.inside_v6) == prefix_of(leg.outside_v6)
        assert not contains(prefix_of(leg.inside_v4), Address("169.254.169.254"))
        assert len(leg.link) <= 15
    with pytest.raises(Refused):
        select_legs(networks(MAX_LEGS + 1))


def test_a_leg_does_not_depend_on_the_order_of_networks() -> None:  # EXIT-026
    few = networks(9)
    assert select_legs(few) == select_legs(reversed(few)) == select_legs([*few, few[0]])


@pytest.mark.parametrize(
    "address",
    "0.1.2.3 10.1.2.3 100.64.9.9 127.0.0.1 169.254.169.254 172.31.9.9 192.168.1.1 224.0.0.1 "
    "255.255.255.255 :: ::1 fe80::1 fd00:ec2::254 ff02::1 64:ff9b::7f00:1 2002:7f00:1::1 "
    "2001:0:7f00:1::1 ::ffff:10.1.2.3 203.0.113.5 2001:db8:5::5".split(),
)
def test_what_is_no_place_in_the_internet_is_guarded(address: str) -> None:  # EXIT-020
    near = (Prefix("203.0.113.0/24"), Prefix("2001:db8:5::/64"))
    assert any(contains(prefix, Address(address)) for prefix in guarded(near))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "100.63.255.255", "223.255.255.255", "2606:4700::1", "2001:db8::1"]
)
def test_the_internet_is_not_guarded(address: str) -> None:  # EXIT-020
    assert not any(contains(prefix, Address(address)) for prefix in guarded(()))


def uplink(kind: Any, **changes: Any) -> Uplink:
    return msgspec.structs.replace(
        Uplink(kind, "eth0", ("192.0.2.2/24",), ("192.0.2.1",)), **changes
    )


def changes(wanted: Uplink, *, inside: KernelLink | None, underlay: tuple[KernelLink, ...]) -> Any:
    desired = Egress(ExitOffer("node1", wanted, ("198.51.100.1",)), ())
    there = Snapshot((inside,) if inside else (), (), ())
    actual = Actual(
        Snapshot(underlay, (), ()),
        there,
        sysctls=desired.sysctls(),
        firewall=RULES,
        pinned=True,
    )
    return plan(desired=desired, firewall=RULES, actual=actual)


def link(index: int, name: str, kind: str = "", **more: Any) -> KernelLink:
    whole = KernelLink(index, name, kind, True, 1500, None, None)
    return msgspec.structs.replace(whole, **more)


ETH0 = link(2, "eth0")
PORT = link(5, UPLINK_PORT, "veth", master=2, other_end=9)


@pytest.mark.parametrize(
    ("wanted", "inside", "underlay", "renewed"),
    [
        (uplink("macvlan"), link(9, UPLINK_LINK, "macvlan", other_end=2), (ETH0,), False),
        (uplink("macvlan"), link(9, UPLINK_LINK, "macvlan", other_end=3), (ETH0,), True),
        (uplink("macvlan"), link(9, UPLINK_LINK, "veth", other_end=2), (ETH0,), True),
        (uplink("vlan", vlan=7), link(9, UPLINK_LINK, "vlan", other_end=2, vlan=7), (ETH0,), False),
        (uplink("vlan", vlan=7), link(9, UPLINK_LINK, "vlan", other_end=2, vlan=8), (ETH0,), True),
        (uplink("vlan", vlan=7), link(9, UPLINK_LINK, "vlan", other_end=3, vlan=7), (ETH0,), True),
        (uplink("bridge"), link(9, UPLINK_LINK, "veth", other_end=5), (ETH0, PORT), False),
        (uplink("bridge"), link(9, UPLINK_LINK, "veth", other_end=6), (ETH0, PORT), True),
        (uplink("bridge"), link(9, UPLINK_LINK, "veth", other_end=5), (ETH0,), True),
    ],
)
def test_an_uplink_of_another_kind_or_place_is_made_anew(
    wanted: Uplink, inside: KernelLink, underlay: tuple[KernelLink, ...], renewed: bool
) -> None:  # EXIT-031
    made = changes(wanted, inside=inside, underlay=underlay)
    create = CreateUplink(wanted.kind, wanted.link, wanted.vlan, NEXT_UPLINK)
    gone = DeleteLink(UPLINK_LINK)
    assert (gone in made) is (create in made) is (TakeUplink() in made) is renewed
    if renewed:  # EXIT-063
        assert made.index(create) < made.index(gone) < made.index(TakeUplink())


def test_the_port_of_an_uplink_moves_to_another_bridge() -> None:  # EXIT-063
    there = link(9, UPLINK_LINK, "veth", other_end=5)
    other = (link(3, "eth1"), msgspec.structs.replace(PORT, master=3))
    made = changes(uplink("bridge"), inside=there, underlay=(ETH0, *other))
    assert PlugUplink("eth0", before="eth1") in made
    assert DeleteLink(UPLINK_LINK) not in made


def test_what_a_pass_left_that_died_goes_first() -> None:  # EXIT-063
    left = link(8, NEXT_UPLINK, "macvlan", other_end=2)
    made = changes(uplink("macvlan"), inside=left, underlay=(ETH0,))
    assert made.index(DeleteLink(NEXT_UPLINK)) < made.index(CreateUplink("macvlan", "eth0"))


def test_a_change_of_the_number_of_a_vlan_reads_as_a_sentence() -> None:
    made: tuple[Change, ...] = changes(uplink("vlan", vlan=7), inside=None, underlay=(ETH0, PORT))
    assert made.index(DeleteUplinkPort()) < made.index(CreateUplink("vlan", "eth0", 7))
    assert "+ uplink ext0: vlan on eth0" in [change.describe() for change in made]


def test_nothing_is_left_to_do_for_an_exit_that_never_was() -> None:
    assert plan(desired=None, firewall=None, actual=Actual(Snapshot((ETH0,), (), ()))) == ()


def open_ports(count: int, *, network: int = 0) -> tuple[OpenPort, ...]:
    return tuple(OpenPort(networks(2)[network], "tcp", 8000 + n) for n in range(count))


def egress(*ports: OpenPort) -> Egress:
    offer = ExitOffer("node1", uplink("macvlan"), ("198.51.100.1",))
    return Egress(offer, select_legs(networks(2)), open_ports=ports)


def test_rules_do_not_depend_on_the_ports_that_are_open() -> None:  # PUB-026
    assert ruleset(egress(*open_ports(9)), addresses=()) == ruleset(egress(), addresses=())


def test_ports_are_amended_and_flows_forgotten_that_were_led_there() -> None:  # PUB-025
    one, two = (sets.contents(egress(*open_ports(1, network=n))) for n in (0, 1))
    assert sets.amendments(desired=one, actual=one) is None
    assert sets.forgotten(desired=one, actual=one) == ()
    commands = msgspec.json.decode(sets.amendments(desired=two, actual=one) or "")["nftables"]
    # A key of a map has one value, so what it was goes first.
    for name in (sets.leads("tcp", v6=False), sets.leads("tcp", v6=True), sets.marks("tcp")):
        verbs = [
            verb for c in commands for verb, what in c.items() if what["element"]["name"] == name
        ]
        assert verbs == ["delete", "add"]
    assert len(sets.forgotten(desired=two, actual=one)) == 1
    assert sets.forgotten(desired=one, actual=sets.NOTHING) == ()
    assert sets.forgotten(desired=sets.NOTHING, actual=one) == sets.forgotten(
        desired=two, actual=one
    )
