"""Who sits where: every number from which an address, a MAC or an interface index is made.

Numbers are given in order of declaration, the lowest free one first. What had a place before keeps
it, so that a lab that changes while it runs moves nothing that stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from netlab.topology import WAN, Draft

Kind = Literal["node", "router"]
Pool = Literal["lan", "home", "carrier"]
LinkId: TypeAlias = tuple[str, str]  # of a node or a router, and the link's name there
BlockId: TypeAlias = tuple[str, Kind, int]  # region, kind, shard

K = TypeVar("K")

# What one core router carries. A namespace slows down beyond 256 to 512 links: every one is
# looked at by address selection and by notifications.
LINKS_PER_CORE: dict[Kind, int] = {"node": 200, "router": 50}

# Each kind of namespace counts from its own number, so that none moves another.
_FIRST_NUMBER = {"node": 1, "router": 0x8000, "lan": 0xB000, "core": 0xF000}
NUMBERS = {"node": 0x7FFF, "router": 0x3000, "lan": 0x4000, "core": 0x1000}
REGIONS_MAX = 32
NODE_LINKS_MAX = 8


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one link at a region or a LAN; nodes and routers are counted apart."""

    to: str
    kind: Kind
    slot: int

    @property
    def shard(self) -> int:
        """Which of a region's core routers; meaningless at a LAN."""
        return self.slot // LINKS_PER_CORE[self.kind]


@dataclass(frozen=True, slots=True)
class Places:
    """Numbers of namespaces by name, of links within theirs; seats, address blocks, subnets."""

    numbers: Mapping[str, int] = field(default_factory=dict)
    regions: Mapping[str, int] = field(default_factory=dict)
    positions: Mapping[LinkId, int] = field(default_factory=dict)
    seats: Mapping[LinkId, Seat] = field(default_factory=dict)
    blocks: Mapping[BlockId, int] = field(default_factory=dict)
    subnets: Mapping[str, tuple[Pool, int]] = field(default_factory=dict)


def place(topology: Draft, *, before: Places | None = None) -> Places:
    """Everything has a place, and what had one in `before` still has the same."""
    before = before or Places()
    regions = {region.name for region in topology.regions}
    seats = _seats(topology, before)
    wanted = [(seat.to, seat.kind, seat.shard) for seat in seats.values() if seat.to in regions]
    return Places(
        numbers=_numbers(topology, before),
        regions=_number([region.name for region in topology.regions], before.regions, first=0),
        positions=_number(seats, before.positions, group=lambda link: link[0], first=0),
        seats=seats,
        blocks=_number(wanted, before.blocks, group=lambda block: block[1], first=1),
        subnets=_subnets(topology, before),
    )


def core_number(region: int, shard: int) -> int:
    """Apart for every core of the lab, and the same however many there are."""
    return shard * REGIONS_MAX + region


def core_netns_number(region: int, shard: int) -> int:
    return _FIRST_NUMBER["core"] + core_number(region, shard)


def links_of(topology: Draft) -> Iterator[tuple[LinkId, Kind, str]]:
    """Every link that is declared, and where it leads: those of nodes first."""
    for node in topology.nodes:
        for link in node.links:
            yield (node.name, link.name), "node", link.to
    for router in topology.routers:
        yield (router.name, WAN), "router", router.uplink.to


def _numbers(topology: Draft, before: Places) -> dict[str, int]:
    named = {
        "node": [node.name for node in topology.nodes],
        "router": [router.name for router in topology.routers],
        "lan": [lan.name for lan in topology.lans],
    }
    numbers: dict[str, int] = {}
    for kind, names in named.items():
        first = _FIRST_NUMBER[kind]
        kept = {
            name: number
            for name, number in before.numbers.items()
            if first <= number < first + NUMBERS[kind]
        }
        numbers |= _number(names, kept, first=first)
    return numbers


def _seats(topology: Draft, before: Places) -> dict[LinkId, Seat]:
    taken = _Taken()
    seats: dict[LinkId, Seat] = {}
    links = list(links_of(topology))
    for link, kind, to in links:
        kept = before.seats.get(link)
        if kept is not None and (kept.to, kept.kind) == (to, kind):
            seats[link] = kept
            taken.keep((to, kind), kept.slot)
    for link, kind, to in links:
        if link not in seats:
            seats[link] = Seat(to, kind, taken.take((to, kind), first=0))
    return {link: seats[link] for link, _, _ in links}


def _subnets(topology: Draft, before: Places) -> dict[str, tuple[Pool, int]]:
    behind = {router.uplink.to for router in topology.routers}
    wanted: dict[str, Pool] = {
        router.name: "carrier" if router.name in behind else "home" for router in topology.routers
    }
    wanted |= {lan.name: "lan" for lan in topology.lans}
    taken = _Taken()
    subnets: dict[str, tuple[Pool, int]] = {}
    for name, pool in wanted.items():
        kept = before.subnets.get(name)
        if kept is not None and (kept[0] == "lan") == (pool == "lan"):
            subnets[name] = kept
            taken.keep(kept[0], kept[1])
    for name, pool in wanted.items():
        if name not in subnets:
            subnets[name] = (pool, taken.take(pool, first=1))
    return {name: subnets[name] for name in wanted}


def _number(
    keys: Iterable[K],
    kept: Mapping[K, int],
    *,
    first: int,
    group: Callable[[K], object] = lambda _: None,
) -> dict[K, int]:
    """A number for each key, apart within its group."""
    keys = dict.fromkeys(keys)
    taken = _Taken()
    for key in keys:
        if key in kept:
            taken.keep(group(key), kept[key])
    return {key: kept[key] if key in kept else taken.take(group(key), first=first) for key in keys}


class _Taken:
    """Numbers in use, by group."""

    def __init__(self) -> None:
        self._taken: defaultdict[object, set[int]] = defaultdict(set)
        self._next: dict[object, int] = {}

    def keep(self, group: object, number: int) -> None:
        self._taken[group].add(number)

    def take(self, group: object, *, first: int) -> int:
        """The lowest free one, which is taken from now on."""
        number = self._next.get(group, first)
        while number in self._taken[group]:
            number += 1
        self._taken[group].add(number)
        self._next[group] = number + 1
        return number
