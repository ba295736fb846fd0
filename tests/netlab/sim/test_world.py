"""Worlds keep their promises, and the same seed is the same world (LAB-100, LAB-103 .. LAB-108)."""

from __future__ import annotations

import gc
from random import Random

import pytest

from netlab.sim import scenario as says
from netlab.sim.agent import Agent
from netlab.sim.corpus import read_all
from netlab.sim.directory import seal
from netlab.sim.internet import Host
from netlab.sim.promises import Verdict
from netlab.sim.resource import Resource
from netlab.sim.run import live, run, scenario_of
from netlab.sim.scenario import Scenario
from netlab.sim.surfer import Surfer
from netlab.sim.tunnel import Tunnel
from netlab.sim.wireguard import Device
from netlab.sim.world import World

OPEN = says.Site(0, (4, 6))
BEHIND = {"nat": says.Nat(udp_timeout_s=60), "firewall": True}
HOMES = tuple(says.Site(number, (4, 6), **BEHIND) for number in (1, 2))
LATER, SEEDS = 2_000_000, 20  # seeds that no other run lives


def kept(verdict: Verdict) -> Verdict:
    assert verdict.faults == [], f"seed {verdict.seed}"
    return verdict


def world(*at: int, declared: tuple[int, ...] = (), happens: tuple = ()) -> Scenario:
    """One network with a node at each of the sites."""
    nodes = tuple(says.Node(n, site, n in declared) for n, site in enumerate(at))
    network = says.Network(0, tuple(range(len(at))))
    return Scenario(1, (OPEN, *HOMES), nodes, (network,), happens)


def test_nothing_of_a_world_waits_for_the_garbage_collector() -> None:  # LAB-112
    gc.collect()  # what other tests left
    gc.disable()
    try:
        live(scenario_of(7, nodes=60))
        left = {type(thing) for thing in gc.get_objects()}
    finally:
        gc.enable()
    assert left.isdisjoint((World, Agent, Resource, Device, Tunnel, Host, Surfer))


def test_the_same_seed_is_the_same_world() -> None:
    first, again = (live(scenario_of(5, nodes=60)) for _ in range(2))
    assert first == again
    assert first.packets > 1_000


@pytest.mark.parametrize(
    ("sites", "pairs"),
    [
        ((0, 0), 1),  # both open
        ((0, 1), 1),  # one hidden
        ((1, 1), 1),  # hidden behind one router
        ((1, 2), 0),  # hidden from each other: not promised yet
        ((0, 1, 2), 2),
    ],
)
def test_who_should_reach_each_other_does(sites: tuple[int, ...], pairs: int) -> None:
    assert kept(live(world(*sites))).pairs == pairs


def test_a_member_that_left_is_nobodys_peer_and_none_of_its_prefixes_is_lost() -> None:
    happens = (
        says.Grant(20.0, 0, 1),
        says.Leave(30.0, 0, 1),
        says.Join(60.0, 0, 1),
        says.Grant(70.0, 0, 2),
    )
    assert kept(live(world(0, 1, 1, declared=(0,), happens=happens))).pairs == 3


def test_a_member_that_roams_is_found_again() -> None:
    happens = (says.Roam(30.0, 1, 2), says.Roam(60.0, 0, 2), says.Roam(90.0, 0, 0))
    verdict = kept(live(world(0, 1, happens=happens)))
    assert verdict.pairs == 1


def test_trouble_of_every_kind_passes() -> None:
    happens = (
        says.Flow(10.0, 0, 0, 1, 60.0),
        says.Outage(20.0, 30.0),
        says.Restart(25.0, 0, reboot=True, seconds=10.0),
        says.Split(30.0, (1,), 1),
        says.Sleep(40.0, 2, 50.0),
        says.Forget(50.0, 1),
        says.Renumber(55.0, 1),
        says.Split(70.0, (1,), 0),
        says.Replay(80.0, 0, 1),
        says.Restart(90.0, 1, reboot=False, seconds=10.0),
        says.Withdraw(100.0, 0, 1),
    )
    kept(live(world(0, 1, 1, 2, declared=(0,), happens=happens)))


def test_seeds_keep_their_promises() -> None:
    summary = run(range(LATER, LATER + SEEDS), nodes=60, jobs=1, on_verdict=kept)
    assert summary.seeds == SEEDS
    assert summary.pairs > 10 * SEEDS


EXITS = (says.Exit(0, 1), says.Exit(1, 0))


def surfing(*happens: says.Transition) -> World:
    """Two exits at the open site and a member behind a router that surfs for a minute from 20 s."""
    nodes = (*(says.Node(n, 0, declared=True) for n in (0, 1)), says.Node(2, 1))
    transitions = (says.Surf(20.0, 0, 2, 60.0), *happens)
    scenario = Scenario(1, (OPEN, *HOMES), nodes, (says.Network(0, (0, 1, 2), EXITS),), transitions)
    return World(scenario, chance_of=Random)


def outs(world: World, *times: float) -> list[tuple[int | None, int | None]]:
    """At these times: who was elected, and by whom a packet came out within the last second."""
    numbers = {agent.id: agent.number for agent in world.agents.values()}
    found = []
    for time in times:
        world.timeline.run(time)
        surfer = world.surfers[0, 2]
        lately = {numbers[surfer.out_by[f]] for f, at in surfer.out_at.items() if at > time - 1.0}
        elected = surfer.elected
        found.append(
            (None if elected is None else numbers[elected], min(lately) if lately else None)
        )
    assert world.shared.faults == []
    return found


def test_who_surfs_leaves_by_the_exit_of_lowest_order_and_by_none_afterwards() -> None:  # LAB-115
    world = surfing()
    assert outs(world, 22.0, 79.0, 83.0) == [(1, 1), (1, 1), (None, None)]


def test_an_exit_that_is_cut_off_is_left_and_not_taken_again_when_it_is_back() -> None:  # LAB-116
    world = surfing(says.Cut(30.0, 1, 5.0))
    assert outs(world, 29.0, 33.0, 60.0) == [(1, 1), (0, 0), (0, 0)]


@pytest.mark.parametrize(
    "leaves",
    [
        says.Unname(30.0, 0, 1),
        says.Drain(30.0, 1, 60.0),
        says.Sleep(30.0, 1, 60.0),
        says.Restart(30.0, 1, reboot=True, seconds=60.0),
        says.Leave(30.0, 0, 1),
    ],
)
def test_an_exit_that_is_none_any_more_is_left(leaves: says.Transition) -> None:
    assert outs(surfing(leaves), 35.0) == [(0, 0)]


def test_without_an_exit_nothing_leaves() -> None:  # LAB-114
    world = surfing(says.Unname(30.0, 0, 1), says.Unname(30.0, 0, 0))
    assert outs(world, 29.0, 35.0, 70.0) == [(1, 1), (None, None), (None, None)]


def test_what_a_member_does_not_know_an_exit_knows() -> None:
    """The member is cut off from the registry and still believes."""
    world = surfing(says.Split(25.0, (0, 1), 1))
    world.timeline.run(26.0)
    exit_ = world.agents[1]
    tenant = world.tenants[0]
    tenant.unname(1)
    exit_.take([seal(tenant.document())])
    assert outs(world, 29.0)[0] == (0, 0)


CORPUS = dict(read_all())


def test_there_is_a_corpus() -> None:
    assert CORPUS
    assert all(scenario.transitions for scenario in CORPUS.values())


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_what_once_broke_a_promise_keeps_it(name: str) -> None:
    assert kept(live(CORPUS[name])).pairs
