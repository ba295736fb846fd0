"""Scenarios as values and as JSON: whole, checked, and the same again when read (LAB-102)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.sim import scenario as says
from netlab.sim.run import scenario_of
from netlab.sim.scenario import MAX_NODES, MAX_SITES, Scenario, encode, parse
from overlay.documents.exits import MAX_EXITS, MAX_ORDER
from overlay.errors import Rejected

SITE, NODE = says.Site(0, (4, 6)), says.Node(7, 0)
SMALL = Scenario(1, (SITE,), (NODE,), (says.Network(0, (7,)),), (says.Leave(3.0, 0, 7),))


@pytest.mark.parametrize("seed", range(5))
def test_a_scenario_is_the_same_after_writing_and_reading(seed: int) -> None:
    drawn = scenario_of(seed, nodes=60)
    assert parse(encode(drawn)) == drawn


def test_a_seed_always_draws_the_same() -> None:
    assert scenario_of(3, nodes=60) == scenario_of(3, nodes=60)
    assert scenario_of(3, nodes=60) != scenario_of(4, nodes=60)


def test_every_transition_is_drawn_sooner_or_later() -> None:
    drawn = {type(t) for seed in range(40) for t in scenario_of(seed, nodes=60).transitions}
    assert drawn == set(says.Transition.__subclasses__())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"format": 2}, "format"),
        ({"sites": (SITE, SITE)}, "sites"),
        ({"sites": (msgspec.structs.replace(SITE, number=MAX_SITES),)}, "sites"),
        ({"nodes": (NODE, NODE)}, "nodes"),
        ({"nodes": (says.Node(MAX_NODES, 0),)}, "nodes"),
        ({"nodes": (says.Node(-1, 0),)}, "nodes"),
        ({"nodes": (says.Node(7, 1),)}, "nodes[0].site"),
        ({"networks": (says.Network(0, (8,)),)}, "networks[0].members"),
        ({"transitions": (says.Leave(1.0, 1, 7),)}, "transitions[0].network"),
        ({"transitions": (says.Flow(1.0, 0, 7, 8, 1.0),)}, "transitions[0].target"),
        ({"transitions": (says.Split(1.0, (0, 1), 1),)}, "transitions[0].sites"),
        ({"networks": (says.Network(0, (7,), (says.Exit(8),)),)}, "networks[0].exits[0].node"),
        (
            {"networks": (says.Network(0, (7,), (says.Exit(7, 256),)),)},
            "networks[0].exits[0].order",
        ),
        ({"networks": (says.Network(0, (7,), (says.Exit(7), says.Exit(7))),)}, "networks[0].exits"),
        ({"transitions": (says.Name(1.0, 0, 7, -1),)}, "transitions[0].order"),
        ({"transitions": (says.Surf(1.0, 1, 7, 1.0),)}, "transitions[0].network"),
        ({"transitions": (says.Cut(1.0, 8, 1.0),)}, "transitions[0].node"),
        (
            {"transitions": (says.Leave(2.0, 0, 7), says.Leave(1.0, 0, 7))},
            "transitions",
        ),
    ],
)
def test_a_number_that_names_nothing_is_refused(changes: dict[str, Any], field: str) -> None:
    parse(encode(SMALL))
    with pytest.raises(Rejected) as caught:
        parse(encode(msgspec.structs.replace(SMALL, **changes)))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'{"seed": "x"}', encode(SMALL).replace(b"leave", b"dance")]
)
def test_what_is_no_scenario_is_refused(raw: bytes) -> None:
    with pytest.raises(Rejected):
        parse(raw)


def test_as_many_exits_are_taken_as_a_network_may_name() -> None:
    def named(count: int) -> Scenario:
        nodes = tuple(says.Node(number, 0) for number in range(count))
        exits = tuple(says.Exit(number, MAX_ORDER) for number in range(count))
        return Scenario(1, (SITE,), nodes, (says.Network(0, tuple(range(count)), exits),))

    parse(encode(named(MAX_EXITS)))
    with pytest.raises(Rejected, match=f"more than {MAX_EXITS} exits"):
        parse(encode(named(MAX_EXITS + 1)))


def test_the_largest_numbers_are_taken() -> None:
    site = msgspec.structs.replace(SITE, number=MAX_SITES - 1)
    node = says.Node(MAX_NODES - 1, MAX_SITES - 1)
    parse(encode(Scenario(1, (site,), (node,), (says.Network(0, (MAX_NODES - 1,)),))))
