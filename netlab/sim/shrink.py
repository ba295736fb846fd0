"""From a scenario that breaks a promise to a small one that does (delta debugging, bounded).

Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input" (2002): leave out parts
while it still fails, ever smaller ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from netlab.sim.scenario import Exit, Network, Scenario, Split, Transitions

MAX_RUNS = 300

T = TypeVar("T")


class Tries:
    """Whether a scenario fails, as long as there are runs left."""

    def __init__(self, fails: Callable[[Scenario], bool], *, most: int) -> None:
        self._fails = fails
        self.left = most

    def __call__(self, scenario: Scenario) -> bool:
        if self.left <= 0:
            return False
        self.left -= 1
        return self._fails(scenario)


def shrink(
    scenario: Scenario, fails: Callable[[Scenario], bool], *, most_runs: int = MAX_RUNS
) -> Scenario:
    """A scenario that fails, as `scenario` does, with as little in it as could be found."""
    tries = Tries(fails, most=most_runs)
    networks = _least(scenario.networks, lambda kept: tries(_with_networks(scenario, kept)))
    found = _with_networks(scenario, networks)
    transitions = _least(
        found.transitions,
        lambda kept: tries(msgspec.structs.replace(found, transitions=tuple(kept))),
    )
    found = msgspec.structs.replace(found, transitions=tuple(transitions))
    exits = [(network.number, each) for network in found.networks for each in network.exits]
    found = _with_exits(found, _least(exits, lambda kept: tries(_with_exits(found, kept))))
    for smaller in (_without_idle_nodes(found), _without_idle_sites(_without_idle_nodes(found))):
        if tries(smaller):
            found = smaller
    return found


def _least(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """The items without which it does not fail any more, or as far as there were tries."""
    parts = 2
    while len(items) >= 1:
        for kept in _complements(items, parts):
            if fails(kept):
                items, parts = kept, max(2, parts - 1)
                break
        else:
            if parts >= len(items):
                return items
            parts = min(len(items), 2 * parts)
    return items


def _complements(items: Sequence[T], parts: int) -> Iterator[Sequence[T]]:
    """The items without one of so many equal parts."""
    size = -(-len(items) // parts)
    for start in range(0, len(items), size):
        yield [*items[:start], *items[start + size :]]


def _with_networks(scenario: Scenario, kept: Sequence[Network]) -> Scenario:
    """Only these networks, and what happens to them or to no network at all."""
    numbers = {None, *(network.number for network in kept)}
    return msgspec.structs.replace(
        scenario,
        networks=tuple(kept),
        transitions=tuple(
            t for t in scenario.transitions if getattr(t, "network", None) in numbers
        ),
    )


def _with_exits(scenario: Scenario, kept: Sequence[tuple[int, Exit]]) -> Scenario:
    """Networks name only these in the beginning; who is none stays a member."""
    return msgspec.structs.replace(
        scenario,
        networks=tuple(
            msgspec.structs.replace(
                network, exits=tuple(e for e in network.exits if (network.number, e) in kept)
            )
            for network in scenario.networks
        ),
    )


def _without_idle_nodes(scenario: Scenario) -> Scenario:
    """Only nodes that are, or come to be, in a network."""
    used = {node for network in scenario.networks for node in network.members}
    for transition in scenario.transitions:
        if hasattr(transition, "network"):
            used.update(_numbers(transition, "node", "source", "target"))
    return msgspec.structs.replace(
        scenario,
        nodes=tuple(node for node in scenario.nodes if node.number in used),
        transitions=tuple(t for t in scenario.transitions if _numbers(t, "node") <= used),
    )


def _without_idle_sites(scenario: Scenario) -> Scenario:
    """Only sites where somebody is at some time."""
    used = {node.site for node in scenario.nodes}
    for transition in scenario.transitions:
        if hasattr(transition, "node"):
            used |= _numbers(transition, "site")
    kept: list[Transitions] = []
    for transition in scenario.transitions:
        if isinstance(transition, Split):
            sites = tuple(site for site in transition.sites if site in used)
            kept.append(msgspec.structs.replace(transition, sites=sites))
        elif _numbers(transition, "site") <= used:
            kept.append(transition)
    return msgspec.structs.replace(
        scenario,
        sites=tuple(site for site in scenario.sites if site.number in used),
        transitions=tuple(kept),
    )


def _numbers(transition: Transitions, *fields: str) -> set[int]:
    return {getattr(transition, field) for field in fields if hasattr(transition, field)}
