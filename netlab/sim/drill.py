"""Exits of a quiet world fail and are withdrawn: who surfs leaves by the right one, or not at all.

What is promised holds for exits that a member surely reaches; others may be elected as well, when
their order is as good (LAB-115, LAB-116).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from netlab.sim import cast
from netlab.sim.reference import Pair, Reference
from netlab.sim.surfer import Surfer
from netlab.sim.world import World
from overlay.exitnode.named import has_exits, is_exit
from overlay.netns.resource import desired_resource
from overlay.netns.state import EVERYWHERE, WG_LINK

SURFERS_MOST = 4
SURFERS_OF_A_NETWORK = 2
# The first may have to be tried in vain: 1.3 s and two looks, and as much again to come out.
ELECTED_S = 3.5
STAYS_S = 1.5
# For each that is silent: 1.3 s of silence, a look, and a packet to the next.
FAILED_OVER_S = 3.0
BACK_S = 2.0
AGAIN_S = 2.5  # for the next to fail as well
STEP_S = 0.5
WITHDRAWN_S = 4.5  # a document may take 3 s
LATELY_S = 1.5  # both families are sent within 0.8 s
SURFED_S = 60.0


class Leaver:
    """Who surfs, and by which exits that is possible."""

    def __init__(self, world: World, reference: Reference, network: int, node: int) -> None:
        self.network, self.node = network, node
        self._world = world
        self._orders = reference.exits(network)
        self.sure = [exit_ for exit_ in self._orders if reference.surely_calls(node, exit_)]
        self._ids = {cast.node_id(number): number for number in self._orders}
        self.surfer: Surfer | None = None

    def surf(self) -> None:
        self.surfer = self._world.surf(self.network, self.node, seconds=SURFED_S)

    @property
    def elected(self) -> int | None:
        elected = self.surfer.elected if self.surfer is not None else None
        return None if elected is None else self._ids.get(elected)

    def count(self, exits: Iterable[int]) -> int:
        """How many of these it may try."""
        return len(self._orders.keys() & exits)

    def wrong(self, *, without: Iterable[int] = (), ordered: bool = True) -> Iterator[str]:
        """What is wrong about how it leaves now, when these exits let nobody out."""
        gone, elected = set(without), self.elected
        best = min((self._orders[e] for e in self.sure if e not in gone), default=None)
        if best is None:
            return
        if elected is None or elected in gone or (ordered and self._orders[elected] > best):
            yield f"{self} has elected {elected}, and can leave by an exit of order {best}"
        else:
            yield from self._stuck(elected)

    def _stuck(self, elected: int) -> Iterator[str]:
        uplink, surfer = self._world.agents[elected].uplink, self.surfer
        since = self._world.timeline.now - LATELY_S
        for family in uplink.families if uplink is not None else ():
            last = surfer.out_by.get(family) if surfer is not None else None
            if surfer is None or last != cast.node_id(elected) or surfer.out_at[family] < since:
                yield f"{self} does not come out by {elected} with IPv{family}"

    def leaks(self, withdrawn: int) -> Iterator[str]:
        """Whether anything still leaves by who is no exit any more."""
        since, surfer = self._world.timeline.now - LATELY_S, self.surfer
        if self.elected == withdrawn:
            yield f"{self} still has {withdrawn} elected, which was withdrawn"
        if surfer is not None and any(
            by == cast.node_id(withdrawn) and surfer.out_at[family] > since
            for family, by in surfer.out_by.items()
        ):
            yield f"{self} still comes out by {withdrawn}, which was withdrawn"

    def has_other_ways(self) -> Iterator[str]:
        """All that leaves goes to WireGuard, which has one peer for it or drops it (EXIT-051)."""
        resource = self._world.resource(self.network, self.node)
        nr = resource.network_resource if resource is not None else None
        if resource is None or nr is None:
            return
        selection = resource.goals.selection
        routes = desired_resource(
            nr,
            device_key=resource.key.public_key,
            peers={},
            has_exits=has_exits(selection) and not is_exit(selection),
        ).routes
        if {route.link for route in routes} != {WG_LINK} or not set(EVERYWHERE) <= {
            route.prefix for route in routes
        }:
            yield f"{self} has another way out than WireGuard"

    def __str__(self) -> str:
        return f"node {self.node} in network {self.network}"


def choose(world: World, reference: Reference) -> list[Leaver]:
    """Some members of networks with exits, of whom the registry can tell everything."""
    found: list[Leaver] = []
    for network in world.tenants:
        exits = reference.exits(network)
        able = [node for node in reference.informed(network) if node not in exits] if exits else []
        found += [Leaver(world, reference, network, n) for n in able[:SURFERS_OF_A_NETWORK]]
    return found[:SURFERS_MOST]


def pairs(leavers: Iterable[Leaver]) -> list[Pair]:
    """Who has to reach whom before it begins: an exit that is there answers at once."""
    return [(leaver.network, leaver.node, exit_) for leaver in leavers for exit_ in leaver.sure]


def drill(world: World, leavers: list[Leaver]) -> Iterator[str]:
    """Elect, stay, fail over, fail over again, come back, be withdrawn."""
    if not leavers:
        return
    for leaver in leavers:
        leaver.surf()
    yield from _begin(world, leavers)
    yield from _cut(world, leavers)
    yield from _withdraw(world, leavers)
    for leaver in leavers:
        if leaver.surfer is not None:
            leaver.surfer.until = world.timeline.now


def _begin(world: World, leavers: list[Leaver]) -> Iterator[str]:
    yield from _soon(world, leavers, ELECTED_S, lambda leaver: leaver.wrong())
    elected = [leaver.elected for leaver in leavers]
    for leaver in leavers:
        yield from leaver.has_other_ways()
    world.timeline.run(world.timeline.now + STAYS_S)
    for leaver, before in zip(leavers, elected, strict=True):
        if leaver.sure and leaver.elected != before:
            yield f"{leaver} goes from {before} to {leaver.elected}, and nothing had happened"


def _cut(world: World, leavers: list[Leaver]) -> Iterator[str]:
    """Their beacons fall silent, and they are still there themselves."""
    first = set(_first_elected(leavers).values())
    for exit_ in first:
        world.set_cut(exit_, is_cut=True)
    tried = max((leaver.count(first) for leaver in leavers), default=0)
    yield from _soon(
        world, leavers, FAILED_OVER_S * tried, lambda leaver: leaver.wrong(without=first)
    )
    second = set(_first_elected(leavers).values())
    for exit_ in second:
        world.set_cut(exit_, is_cut=True)
    world.timeline.run(world.timeline.now + AGAIN_S)
    for exit_ in first | second:
        world.set_cut(exit_, is_cut=False)
    yield from _soon(world, leavers, BACK_S, lambda leaver: leaver.wrong(ordered=False))


def _withdraw(world: World, leavers: list[Leaver]) -> Iterator[str]:
    withdrawn = _first_elected(leavers)
    for network, exit_ in withdrawn.items():
        world.unname(network, exit_)

    def wrong(leaver: Leaver) -> Iterator[str]:
        if (gone := withdrawn.get(leaver.network)) is not None:
            yield from leaver.leaks(gone)
            yield from leaver.wrong(without=(gone,), ordered=False)

    yield from _soon(world, leavers, WITHDRAWN_S, wrong)


def _soon(
    world: World,
    leavers: list[Leaver],
    within_s: float,
    wrong: Callable[[Leaver], Iterator[str]],
) -> Iterator[str]:
    """What is still wrong when it should not be any more; no longer than it takes."""
    timeline, until = world.timeline, world.timeline.now + within_s
    while timeline.now < until:
        timeline.run(min(timeline.now + STEP_S, until))
        if not any(True for leaver in leavers for _ in wrong(leaver)):
            return
    for leaver in leavers:
        yield from wrong(leaver)


def _first_elected(leavers: Iterable[Leaver]) -> dict[int, int]:
    """One exit that is in use in each network."""
    found: dict[int, int] = {}
    for leaver in leavers:
        if leaver.elected is not None:
            found.setdefault(leaver.network, leaver.elected)
    return found
