"""Which addresses the exits of a lab have, and as whom others see what leaves by them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netlab.nat import NATS
from netlab.topology import ExitOffer, Lan, Link, Node, Router, Topology
from netlab.wiring.addresses import FIRST_HOST
from netlab.wiring.egress import FIRST_EXIT_HOST, Egress, find_egresses
from netlab.wiring.wirer import wire
from overlay import addressing
from overlay.exitnode.guards import SPECIAL_V4
from zos_core.files.exit_entry import ExitEntry, exit_offer

REGISTRY, SITE = Node("registry", role="registry"), Node("site")


def egresses(*nodes: Node, routers: tuple[Router, ...], **parts) -> dict[str, Egress]:
    return dict(find_egresses(wire(Topology((REGISTRY, SITE, *nodes), routers, **parts))))


def exit_at(place: str, *beacons: str, name: str = "e", **link) -> Node:
    links = (Link(), Link(place, "eth1", **link))
    return Node(name, links, role="node", exit=ExitOffer("eth1", beacons))


def test_an_exit_has_addresses_below_those_of_nodes_and_asks_what_is_beyond():  # LAB-350
    routers = (Router("home"), Router("isp"))
    found = egresses(exit_at("isp"), exit_at("isp", "site", name="f"), routers=routers)
    assert found["e"] == Egress(
        uplink="macvlan:eth1",
        addresses=("192.168.2.2/24", "2001:db8:1:2::2/64"),
        gateways=("192.168.2.1", "fe80::1"),
        beacons=("198.18.0.1", "2001:db8::1"),
        allow=("198.18.0.0/15",),
        refuse=("198.18.1.3/32", "192.168.2.10/32", "198.18.1.1/32"),
        seen_as=frozenset({"192.168.2.2", "2001:db8:1:2::2"}),
    )
    assert found["f"].addresses == ("192.168.2.3/24", "2001:db8:1:2::3/64")
    assert found["f"].beacons == ("198.18.1.2", "2001:db8::1:102")
    assert FIRST_EXIT_HOST + 8 == FIRST_HOST


def test_at_a_region_an_exit_shares_the_interface_of_its_node():  # LAB-350
    e = Node("e", role="node", relay=True, exit=ExitOffer("eth0"))
    relay = Node("r", role="node", relay=True)
    assert egresses(e, relay, routers=())["e"] == Egress(
        uplink="interface:eth0",
        addresses=(),
        gateways=(),
        beacons=("198.18.0.1", "2001:db8::1"),
        allow=("198.18.0.0/15",),
        refuse=("198.18.1.3/32", "198.18.1.1/32", "198.18.1.4/32"),
        seen_as=frozenset({"198.18.1.3", "2001:db8::1:103"}),
    )


@pytest.mark.parametrize(
    ("families", "addresses", "beacons"),
    [
        ({"ipv6": False}, ("192.168.1.2/24",), ("198.18.0.1",)),
        ({"ipv4": False}, ("2001:db8:1:1::2/64",), ("2001:db8::1",)),
    ],
)
def test_an_exit_has_the_families_of_its_uplink(families, addresses, beacons):  # LAB-350
    found = egresses(exit_at("isp", **families), routers=(Router("isp"),))["e"]
    assert (found.addresses, found.beacons) == (addresses, beacons)
    assert len(found.gateways) == len(found.seen_as) == 1


def test_who_is_behind_nat_is_seen_as_the_last_one_that_translates():  # LAB-351
    nat = NATS["symmetric"]
    carrier = Router("carrier", nat=nat)
    plain, inner = Router("plain", Link("carrier")), Router("inner", Link("plain"), nat=nat)
    routers = (carrier, plain, inner)
    seen = egresses(exit_at("inner"), routers=routers)["e"].seen_as
    assert seen == {"198.19.1.1", "2001:db8:1:1::2"}
    inside = egresses(exit_at("plain"), routers=(replace(carrier, nat=None), plain))["e"]
    assert inside.seen_as == {"192.168.1.2", "2001:db8:1:1::2"}


def test_a_lan_with_a_gateway_of_its_own_is_an_uplink_too():  # LAB-350
    gateway = Node("gate", (Link(), Link("office", "eth1")))
    found = egresses(gateway, exit_at("office"), routers=(), lans=(Lan("office", "gate"),))["e"]
    assert found.addresses == ("172.16.1.2/24", "2001:db8:2:1::2/64")
    assert found.gateways == ("172.16.1.10", "fe80::a")


def test_what_is_offered_is_an_offer_that_a_farm_takes_and_opens_a_labs_internet():  # LAB-350
    egress = egresses(exit_at("isp", "site", "internet"), routers=(Router("isp"),))["e"]
    words = ("uplink", "addresses", "gateways", "beacons", "allow", "refuse")
    entry = ExitEntry(**{word: getattr(egress, word) for word in words})
    node = "node17tfxs8caeq0uffuru3v8ud3vxh6xzww4ulp94jqsr07txtpnqp5qw0qmmv"
    offered = exit_offer(entry, node=node, name="e")
    assert offered.beacons == ("198.18.1.2", "2001:db8::1:102", "198.18.0.1", "2001:db8::1")
    assert set(offered.allow) <= set(SPECIAL_V4)
    assert addressing.overlaps((*offered.allow, offered.refuse[0]))
