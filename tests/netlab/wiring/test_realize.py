from __future__ import annotations

import marshal
from dataclasses import astuple

from netlab.nat import NATS
from netlab.topology import Lan, Link, Node, Router, Topology
from netlab.wiring.realize import realize
from netlab.wiring.wiring import wire

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
        ("n1", 2), ("internet", 10), ("a", 2), ("home", 10), ("home", 3), ("d", 2), ("lan", 10),
        ("lan", 3), ("home", 2), ("internet", 11),
    }  # fmt: skip
    wiring = wire(HOME)
    for cable in wiring.cables:
        for interface in (cable.ipv6, cable.link_local):
            assert interface is not None
            place = (cable.near.netns, cable.near.ifindex, interface.packed)
            assert place in build.addresses


def test_realize_gives_plain_values_that_travel():
    namespaces = tuple(astuple(each) for each in realize(wire(HOME)).namespaces)
    assert marshal.loads(marshal.dumps(namespaces)) == namespaces
