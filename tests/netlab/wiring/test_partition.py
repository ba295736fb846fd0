"""Partitions as rules: who is in which part, what is refused, and that a second one replaces."""

from __future__ import annotations

import pytest

from netlab.nat import NATS
from netlab.topology import Lan, Link, Node, Router, Topology
from netlab.wiring.partition import PARTS_MAX, heal, partition, parts_of
from netlab.wiring.wirer import wire
from overlay.errors import Rejected

TOPOLOGY = Topology(
    nodes=(
        Node("alice", (Link(to="home"),)),
        Node("anna", (Link(to="home"),)),
        Node("bob"),
        Node("carol", (Link(), Link(to="cellar", name="eth1"))),
    ),
    routers=(Router("home", nat=NATS["port-restricted"]),),
    lans=(Lan("cellar"),),
)
WIRING = wire(TOPOLOGY)


def test_places_stand_for_the_nodes_behind_them() -> None:  # LAB-250
    assert parts_of(TOPOLOGY, [["home"], ["cellar", "bob"]]) == {
        "alice": 1,
        "anna": 1,
        "bob": 2,
        "carol": 2,
    }


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([["alice"]], "1 parts"),
        ([["alice"], []], "without a node"),
        ([["alice"], ["bobb"]], "'bobb'.*did you mean 'bob'"),
        ([["alice"], ["home"]], "alice is in two parts"),
        ([[f"n{n}"] for n in range(PARTS_MAX + 1)], "64 parts"),
    ],
)
def test_what_makes_no_partition_is_refused(parts: list[list[str]], words: str) -> None:  # LAB-250
    with pytest.raises(Rejected, match=words):
        partition(WIRING, parts)


def test_as_many_parts_as_dscp_has_values() -> None:  # LAB-250
    many = Topology(nodes=tuple(Node(f"n{n}") for n in range(PARTS_MAX)))
    found = parts_of(many, [[node.name] for node in many.nodes])
    assert sorted(found.values()) == list(range(1, PARTS_MAX + 1))


def test_every_hub_of_nodes_gets_rules_that_replace_earlier_ones() -> None:  # LAB-250
    rulesets = partition(WIRING, [["alice"], ["bob"]])

    assert set(rulesets) == set(heal(WIRING)) == {cable.far.netns for cable in WIRING.cables}
    for netns, ruleset in rulesets.items():
        assert ruleset.startswith(heal(WIRING)[netns])
    # anna and carol are in no part: what they send is 0, and nothing is kept from them.
    assert "chain from-0" in rulesets["home"]
    assert "chain to-0" not in rulesets["home"]
    assert 'hook egress devices = { "p4010" }' in rulesets["home"]
    assert "dscp != { 0, 1 } drop" in rulesets["home"]
