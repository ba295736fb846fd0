from __future__ import annotations

import dataclasses
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.faults import INTERNET_LINKS_MAX, LAN_LINKS_MAX, LANS_MAX, NODES_MAX, ROUTERS_MAX
from netlab.impairment import Both, Impairment
from netlab.topology import Lan, Latency, Link, Node, Region, Router, Topology
from netlab.wiring.places import LINKS_PER_CORE
from netlab.wiring.wirer import wire
from overlay.errors import Rejected
from tests.netlab.wiring.topologies import IMPAIRED, topologies

SLOW = Both(up=Impairment(delay_s=0.02), down=Impairment(delay_s=0.03, rate_bit_s=1000))


@given(topologies())
def test_wiring_gives_every_end_a_place_of_its_own(topology):  # LAB-004
    wiring = wire(topology)
    ends = set(chain.from_iterable((cable.near, cable.far) for cable in wiring.cables))
    ends |= {subnet.end for subnet in wiring.subnets.values() if subnet.end is not None}
    assert len({(end.netns, end.name) for end in ends}) == len(ends)
    assert len({(end.netns, end.ifindex) for end in ends}) == len(ends)
    assert len({end.mac for end in ends}) == len(ends)
    assert all(end.mac[0] & 0b11 == 0b10 for end in ends)  # local, unicast
    # The kernel would be a second late with its carrier.
    assert all(cable.near.ifindex != cable.far.ifindex for cable in wiring.cables)


@given(topologies())
def test_wiring_gives_every_address_once(topology):  # LAB-004
    wiring = wire(topology)
    hubs = [*wiring.cores, *(each for each in wiring.subnets.values() if each.router is not None)]
    used = [each.ipv4 for each in hubs] + [each.ipv6 for each in hubs]
    for stations in wiring.stations.values():
        used += [address for each in stations for address in (each.ipv4, each.ipv6) if address]
    assert len(set(used)) == len(used)


@given(topologies())
def test_wiring_follows_the_declared_families(topology):
    wiring = wire(topology)
    for node in topology.nodes:
        for link, station in zip(node.links, wiring.stations[node.name], strict=True):
            assert (station.ipv4 is not None) == link.ipv4
            assert (station.ipv6 is not None) == link.ipv6
            assert (station.link_local is not None) == link.ipv6


@given(topologies(), st.integers(0, 3))
def test_wiring_moves_nothing_when_a_node_is_appended(topology, place):  # LAB-004
    places = [*(each.name for each in topology.regions), *(each.name for each in topology.routers)]
    last = Node("last", (Link(to=places[place % len(places)]),))
    more = dataclasses.replace(topology, nodes=(*topology.nodes, last))
    after = wire(more).stations
    for name, stations in wire(topology).stations.items():
        assert [facts(station) for station in stations] == [facts(each) for each in after[name]]


def facts(station):
    return (station.end, station.ipv4, station.ipv6, station.link_local)


@given(topologies(), topologies())
def test_wiring_keeps_what_stays_when_much_changes(topology, other):  # LAB-213
    before = wire(topology)
    after = wire(other, before=before.places)
    for name, stations in after.stations.items():
        known = {
            each.link.name: each
            for each in before.stations.get(name, ())
            if (each.link.ipv4, each.link.ipv6) == (True, True)
        }
        for station in stations:
            kept = known.get(station.end.name)
            if kept and kept.link.to == station.link.to:
                assert kept.end == station.end
                pools = (before.places.subnets, after.places.subnets)
                if pools[0].get(kept.link.to) == pools[1].get(kept.link.to) and station.ipv4:
                    assert kept.ipv4 == station.ipv4


@given(topologies(), topologies())
def test_wiring_gives_no_place_twice_however_it_came_about(topology, other):  # LAB-213
    wiring = wire(other, before=wire(topology).places)
    ends = set(chain.from_iterable((cable.near, cable.far) for cable in wiring.cables))
    assert len({end.mac for end in ends}) == len({(end.netns, end.ifindex) for end in ends})
    assert len({(end.netns, end.ifindex) for end in ends}) == len(ends)


def test_wiring_spreads_a_large_region_over_hidden_cores():  # LAB-201
    crowd = tuple(Node(f"n{n}") for n in range(2 * LINKS_PER_CORE["node"] + 1))
    wiring = wire(Topology(nodes=crowd))
    assert [core.netns for core in wiring.cores] == ["internet", "internet.1", "internet.2"]
    assert str(wiring.stations["n0"][0].ipv4) == "198.18.1.1"
    assert str(wiring.stations["n200"][0].ipv4) == "198.18.2.1"
    assert str(wiring.stations["n400"][0].ipv6) == "2001:db8::1:301"


def test_wiring_fits_the_largest_topologies():  # LAB-003
    regions = tuple(Region(f"r{n}") for n in range(32))
    pair = tuple(
        Node(f"n{n}", (Link(to=f"r{n % 32}"), Link(to="r0", name="eth1"))[: 1 + (n < 1000)])
        for n in range(NODES_MAX)
    )
    routers = tuple(Router(f"h{n}", Link(to=f"r{n % 32}")) for n in range(ROUTERS_MAX))
    assert sum(len(node.links) for node in pair) == INTERNET_LINKS_MAX
    with pytest.raises(Rejected, match="links, 10000 is the most"):
        Topology(nodes=pair, routers=routers, regions=regions)
    last = Node(f"n{NODES_MAX - 1}", ())
    few = (*(Node(f"n{n}", (Link(to="r0"),)) for n in range(NODES_MAX - ROUTERS_MAX)), last)
    wiring = wire(Topology(nodes=few, routers=routers, regions=regions))
    assert str(wiring.stations["n6999"][0].ipv4) == "198.18.35.200"
    assert str(wiring.subnets["h1999"].ipv4) == "172.30.209.1"
    lans = wire(Topology(nodes=(), lans=tuple(Lan(f"l{n}") for n in range(LANS_MAX)))).subnets
    assert str(lans["l8999"].ipv4) == "100.123.40.1"
    family = tuple(Node(f"m{n}", (Link(to="home"),)) for n in range(LAN_LINKS_MAX))
    (last_one,) = wire(Topology(nodes=family, routers=(Router("home"),))).stations["m244"]
    assert (str(last_one.ipv4), str(last_one.ipv6)) == ("192.168.1.254", "2001:db8:1:1::fe")


def test_wiring_gives_carriers_and_homes_the_usual_addresses():  # LAB-203
    routers = (Router("isp"), Router("home", Link(to="isp")))
    wiring = wire(Topology(nodes=(), routers=routers, lans=(Lan("lan"),)))
    assert str(wiring.subnets["isp"].ipv4) == "100.64.1.1"
    assert str(wiring.subnets["home"].ipv4) == "192.168.1.1"
    assert str(wiring.stations["home"][0].ipv4) == "100.64.1.254"
    assert str(wiring.subnets["lan"].ipv4) == "172.16.1.1"


def test_wiring_joins_two_without_a_bridge():  # LAB-204
    two = (Node("a", (Link(to="lan", impaired=SLOW),)), Node("b", (Link(to="lan", impaired=SLOW),)))
    (cable,) = wire(Topology(nodes=two, lans=(Lan("lan"),))).cables
    assert (cable.near.netns, cable.far.netns) == ("a", "b")
    assert cable.impaired.up == Impairment(delay_s=0.05, rate_bit_s=1000)
    wiring = wire(Topology(nodes=(*two, Node("c", (Link(to="lan"),))), lans=(Lan("lan"),)))
    assert [each.far.netns for each in wiring.cables] == ["lan"] * 3
    (cable, uplink) = wire(
        Topology(nodes=(Node("a", (Link(to="home"),)),), routers=(Router("home"),))
    ).cables
    assert (cable.far.netns, cable.far.name) == ("home", "lan")
    assert uplink.far.netns == "internet"


NAMED = Topology(
    nodes=(
        Node("alice", (Link(to="home"), Link(name="eth1", to="home"), Link(to="eu", name="eth2"))),
        Node("bob", (Link(to="pair"),)),
        Node("carol", (Link(to="pair"),)),
        Node("a-b", (Link(to="c"),)),
        Node("a", (Link(to="b-c"),)),
    ),
    routers=(Router("home", Link(to="us")),),
    lans=(Lan("pair"), Lan("c"), Lan("b-c")),
    regions=(Region("eu"), Region("us")),
    latencies=(Latency(("us", "eu"), IMPAIRED),),
)


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("alice-home", "alice:eth0"),
        ("home-alice", "alice:eth0"),
        ("alice:eth1", "alice:eth1"),
        ("alice-eu", "alice:eth2"),
        ("home-us", "home:wan"),
        ("home:wan", "home:wan"),
        ("bob-pair", "bob:eth0"),
        ("carol-bob", "bob:eth0"),
        ("carol:eth0", "bob:eth0"),
        ("a:eth0", "a:eth0"),
    ],
)
def test_cable_is_found_by_each_of_its_names(name, ends):  # LAB-205
    found = wire(NAMED).cable(name).near
    assert f"{found.netns}:{found.name}" == ends


def test_cable_between_regions_has_their_distance_and_names():  # LAB-200, LAB-205
    wiring = wire(NAMED)
    assert wiring.cable("us-eu") is wiring.cable("eu-us")
    assert wiring.cable("eu-us").near.netns == "eu"
    assert wiring.cable("eu-us").impaired == Both(up=IMPAIRED.down, down=IMPAIRED.up)


def test_cable_that_is_not_there_or_not_one_is_refused():  # LAB-205
    with pytest.raises(Rejected, match=r"did you mean 'alice-home'"):
        wire(NAMED).cable("alise-home")
    with pytest.raises(Rejected, match=r"2 links .*say 'a-b:eth0' or 'a:eth0'"):
        wire(NAMED).cable("a-b-c")
