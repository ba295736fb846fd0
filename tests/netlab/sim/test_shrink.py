"""Making small keeps what fails, leaves out what does not matter, and ends (LAB-110)."""

from __future__ import annotations

import pytest

from netlab.sim import scenario as says
from netlab.sim.run import scenario_of
from netlab.sim.scenario import Scenario, check
from netlab.sim.shrink import MAX_RUNS, shrink


class Counted:
    """Fails while all of the wanted transitions are there."""

    def __init__(self, *wanted: says.Transition) -> None:
        self._wanted = set(wanted)
        self.runs = 0

    def __call__(self, scenario: Scenario) -> bool:
        self.runs += 1
        check(scenario)
        return self._wanted <= set(scenario.transitions)


@pytest.mark.parametrize("picked", [(0,), (3, 40), (10, 11, 12, 60)])
def test_only_what_it_fails_by_is_left(picked: tuple[int, ...]) -> None:
    whole = scenario_of(1, nodes=200)
    wanted = [whole.transitions[n] for n in picked]
    fails = Counted(*wanted)
    small = shrink(whole, fails)
    assert small.transitions == tuple(wanted)
    assert len(small.networks) <= len(wanted)
    assert fails.runs <= MAX_RUNS


def test_it_ends_after_so_many_runs() -> None:
    whole = scenario_of(1, nodes=200)
    fails = Counted(*whole.transitions[::2])
    small = shrink(whole, fails, most_runs=10)
    assert fails.runs == 10
    assert set(whole.transitions[::2]) <= set(small.transitions)


def test_what_fails_by_nothing_becomes_nothing() -> None:
    small = shrink(scenario_of(1, nodes=20), lambda _: True)
    assert (small.networks, small.nodes, small.transitions) == ((), (), ())


def test_what_is_left_keeps_its_numbers() -> None:
    whole = scenario_of(2, nodes=400)
    leave = next(t for t in whole.transitions if isinstance(t, says.Leave))
    small = shrink(whole, Counted(leave))
    assert leave.node in {node.number for node in small.nodes}
    assert set(small.nodes) <= set(whole.nodes)
    assert set(small.sites) <= set(whole.sites)
