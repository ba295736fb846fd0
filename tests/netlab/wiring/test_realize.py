from __future__ import annotations

import marshal

from netlab.nat import NATS
from netlab.topology import Lan, Link, Node, Router, Topology
from netlab.wiring.facts import Route, program
from netlab.wiring.realize import realize
from netlab.wiring.wirer import wire

HOME = Topology(
    nodes=(Node("n1"), Node("a", (Link(to="home"),)), Node("d", (Link(to="lan"),))),
    routers=(Router("home", nat=NATS["port-restricted"]),),
    lans=(Lan("lan"),),
)


def test_realize_works_from_the_nodes_inwards():
    build = realize(wire(HOME))
    assert [each.name for each in build.namespaces] == ["n1", "a", "d", "home", "lan", "internet"]


def test_realize_makes_machines_of_nodes_and_routers_of_routers():
    build = {each.name: each for each in realize(wire(HOME)).namespaces}
    assert dict(build["n1"].files or ())["/etc/hostname"] == "n1\n"
    assert [name for name, each in build.items() if each.sysctls] == ["home", "internet"]
    assert [name for name, each in build.items() if each.ruleset] == ["home"]
    assert [name for name, each in build.items() if each.files] == ["n1", "a", "d"]


def test_realize_names_every_link_and_address_that_must_be_ready():  # LAB-005
    build = realize(wire(HOME))
    assert set(build.links) == {
        ("n1", 2), ("internet", 10), ("a", 2), ("home", 4000), ("d", 2), ("lan", 4010),
        ("lan", 4000), ("home", 2), ("internet", 300),
    }  # fmt: skip
    for stations in wire(HOME).stations.values():
        for station in stations:
            for address in (station.ipv6, station.link_local):
                assert address is not None
                place = (station.end.netns, station.end.ifindex, address.packed)
                assert place in build.addresses


def test_realize_gives_plain_values_that_travel():
    for each in realize(wire(HOME)).namespaces:
        travelling = (each.name, program(each.facts), each.sysctls, each.ruleset, each.files)
        assert marshal.loads(marshal.dumps(travelling)) == travelling


def test_realize_knows_no_more_of_a_crowd_than_the_way_out():  # LAB-206
    """Nothing grows with the square of a LAN."""

    def facts(count: int) -> int:
        crowd = tuple(Node(f"n{n}", (Link(to="home"),)) for n in range(count))
        build = realize(wire(Topology(nodes=crowd, routers=(Router("home"),))))
        return sum(len(each.facts) for each in build.namespaces)

    assert facts(200) - facts(100) == facts(100) - facts(0)


def test_realize_gives_a_chain_few_routes_each():  # LAB-206
    count = 512
    nodes = tuple(
        Node(f"n{n}", (Link(to=f"l{n - 1}" if n else "internet"), Link(to=f"l{n}", name="eth1")))
        for n in range(count)
    )
    lans = tuple(Lan(f"l{n}", gateway=f"n{n}") for n in range(count))
    for each in realize(wire(Topology(nodes=nodes, lans=lans))).namespaces:
        assert sum(isinstance(fact, Route) for fact in each.facts) <= 2 * 2 * count.bit_length()
