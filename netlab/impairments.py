"""What is in force on the links of a running lab, and how it is changed while packets pass.

One call changes many links at once. Nothing that is under way is lost by a change: what has been
given a time keeps it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from netlab.impairment import Both, Impairment
from netlab.keeper import traffic
from netlab.keeper.cell import LOOPBACK_IFINDEX
from netlab.keeper.control import MESSAGE_BYTES_MAX
from netlab.owner import Owner
from netlab.wiring import impairing
from netlab.wiring.impairing import Direction, Shares
from netlab.wiring.wiring import Cable, End
from overlay.errors import Unavailable

ORDERS_AT_ONCE = 200
_RULES_AT_ONCE = MESSAGE_BYTES_MAX * 3 // 4
_SETTLE_POLL_S = 0.02

SETTLE_WITHIN_S = 1.0

Item = TypeVar("Item")

DIRECTIONS: tuple[Direction, ...] = ("up", "down")


@dataclass(frozen=True, slots=True)
class Counts:
    """Packets of one direction since the pump first carried it.

    overflowed  dropped at the tail of the queue that the rate has
    refused     not taken by the link, which was down when they were due
    held        under way now
    """

    arrived: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    overflowed: int = 0
    refused: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Carried:
    """One direction: what is asked of it, who does it, how exactly, and what was counted.

    counts  None where the kernel does it all and does not tell
    """

    impairment: Impairment
    back_ends: tuple[str, ...]
    error: str
    counts: Counts | None


@dataclass(frozen=True, slots=True)
class Impaired:
    """A link; `missed`: packets of all links that came faster than the pump could take them."""

    up: Carried
    down: Carried
    missed: int

    @property
    def both(self) -> Both:
        return Both(up=self.up.impairment, down=self.down.impairment)


class Impairments:
    """Of one lab. Changes are made one after the other."""

    def __init__(self, owner: Owner, *, lab_seed: int) -> None:
        self._owner = owner
        self._lab_seed = lab_seed
        self._lock = asyncio.Lock()
        self._has_netem: bool | None = None
        self._positions: dict[str, int] = {}
        self._unused = itertools.count()
        self._in_force: dict[str, Both] = {}
        self._shares: dict[tuple[str, Direction], Shares] = {}
        self._pumped: set[int] = set()
        self._cables: dict[str, Cable] = {}
        self._leaving: dict[tuple[str, Direction], Shares] = {}

    async def apply(self, wanted: Iterable[tuple[Cable, Both]]) -> None:
        """From now on every one of these cables does what is wanted of it, and nothing else.

        Where the pump is no longer needed it first lets go of what it holds: that is waited for,
        up to SETTLE_WITHIN_S, and otherwise looked after at the next call.
        """
        async with self._lock:
            await self._settle()
            changed = [
                (cable, both)
                for cable, both in wanted
                if both != self._in_force.get(impairing.key(cable), Both())
            ]
            if not changed:
                return
            if self._has_netem is None:
                self._has_netem = await self._probe_netem(changed[0][0])
            await self._change(changed)
            await self._settle(patience_s=SETTLE_WITHIN_S)

    async def lift(self, cables: Iterable[Cable]) -> None:
        """These are about to be removed: nothing is done to them and nothing is known of them."""
        known = [cable for cable in cables if impairing.key(cable) in self._positions]
        await self.apply([(cable, Both()) for cable in known])
        for cable in known:
            key = impairing.key(cable)
            # A cable of the same name is another one, with a number of its own.
            del self._positions[key]
            self._in_force.pop(key, None)
            self._cables.pop(key, None)
            for direction in DIRECTIONS:
                self._shares.pop((key, direction), None)
                self._leaving.pop((key, direction), None)

    async def read(self, cable: Cable) -> Impaired:
        """What is in force. Raises Unavailable when the pump has ended."""
        async with self._lock:
            await self._settle()
        numbers = [self._number(cable, direction) for direction in DIRECTIONS]
        missed, counted = await self._owner.request("counts", *numbers)
        carried = {}
        for direction in DIRECTIONS:
            shares = self._shares.get((impairing.key(cable), direction), Shares())
            number = self._number(cable, direction)
            carried[direction] = Carried(
                impairment=getattr(self._in_force.get(impairing.key(cable), Both()), direction),
                back_ends=shares.back_ends,
                error=shares.error,
                counts=Counts(*counted[number]) if number in counted else None,
            )
        return Impaired(up=carried["up"], down=carried["down"], missed=missed)

    async def _change(self, changed: list[tuple[Cable, Both]]) -> None:
        cables = [cable for cable, _ in changed]
        before, after = {}, {}
        for cable, both in changed:
            for direction in DIRECTIONS:
                key = impairing.key(cable), direction
                impairment = both.up if direction == "up" else both.down
                before[key] = self._shares.get(key, Shares())
                after[key] = impairing.divide(impairment, has_netem=bool(self._has_netem))
        leaving = [key for key in after if before[key].pump and not after[key].pump]
        # Until it is empty the pump lets everything pass that it is given, in order.
        between = after | {key: replace(after[key], pump=Impairment()) for key in leaving}
        await self._send_queueing(cables, before, after)
        await self._send_orders(cables, between)
        await self._send_rules(cables, between)
        self._shares |= between
        self._in_force |= {impairing.key(cable): both for cable, both in changed}
        for key in after:
            self._leaving.pop(key, None)
        self._leaving |= {key: after[key] for key in leaving}
        self._cables |= {impairing.key(cable): cable for cable in cables}

    async def _settle(self, *, patience_s: float = 0.0) -> None:
        """Links that no longer need the pump are free of it, if it holds nothing of them."""
        deadline = time.monotonic() + patience_s
        while self._leaving:
            done = {}
            for keys in _at_once(list(self._leaving), ORDERS_AT_ONCE):
                numbers = {key: self._number(self._cables[key[0]], key[1]) for key in keys}
                _, counted = await self._owner.request("counts", *numbers.values())
                for key, number in numbers.items():
                    if not Counts(*counted[number]).held:
                        done[key] = self._leaving[key]
            self._shares |= done
            cables = [self._cables[name] for name in dict.fromkeys(name for name, _ in done)]
            await self._send_rules(cables, self._shares)
            for key in done:
                del self._leaving[key]
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(_SETTLE_POLL_S)

    async def _send_queueing(
        self,
        cables: Sequence[Cable],
        before: Mapping[tuple[str, Direction], Shares],
        after: Mapping[tuple[str, Direction], Shares],
    ) -> None:
        programs: defaultdict[str, bytes] = defaultdict(bytes)
        for cable in cables:
            for direction in DIRECTIONS:
                end = _sending_end(cable, direction)
                programs[end.netns] += impairing.queueing(
                    end.ifindex,
                    mtu_bytes=cable.mtu_bytes,
                    before=before[impairing.key(cable), direction],
                    after=after[impairing.key(cable), direction],
                    seed=impairing.seed_of(self._lab_seed, impairing.key(cable), direction),
                    has_netem=bool(self._has_netem),
                )
        for netns, program in programs.items():
            if program:
                await self._owner.request("program", netns, program, ())

    async def _send_orders(
        self, cables: Sequence[Cable], shares: Mapping[tuple[str, Direction], Shares]
    ) -> None:
        places: dict[tuple[str, str], None] = {}
        orders = []
        for cable in cables:
            for direction in DIRECTIONS:
                pumped = shares[impairing.key(cable), direction].pump
                if pumped is not None:
                    places[cable.far.netns, impairing.listening_link(pumped)] = None
                    orders.append(self._order(cable, direction, pumped))
        if not orders:
            return
        await self._owner.request("listen", *places)
        for netns, link in places:
            await self._owner.request("filter", netns, impairing.ending_ruleset(link), False)
        for some in _at_once(orders, ORDERS_AT_ONCE):
            await self._owner.request("carry", *some)
        self._pumped.update(order[0] for order in orders)

    def _order(
        self, cable: Cable, direction: Direction, pumped: Impairment
    ) -> tuple[int, int, dict[str, float], bool, str, str]:
        number = self._number(cable, direction)
        end = _sending_end(cable, direction)
        known = number in self._pumped
        return (
            number,
            impairing.seed_of(self._lab_seed, impairing.key(cable), direction),
            impairing.terms(pumped),
            direction == "up",
            "" if known else end.netns,
            end.name,
        )

    async def _send_rules(
        self, cables: Sequence[Cable], shares: Mapping[tuple[str, Direction], Shares]
    ) -> None:
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for cable in cables:
            of_cable = {
                direction: shares[impairing.key(cable), direction] for direction in DIRECTIONS
            }
            texts[cable.far.netns].append(
                impairing.cable_ruleset(
                    cable, of_cable, lab_seed=self._lab_seed, position=self._position(cable)
                )
            )
        for netns, rulesets in texts.items():
            for ruleset in _gather(rulesets, most=_RULES_AT_ONCE):
                await self._owner.request("filter", netns, ruleset, False)

    async def _probe_netem(self, cable: Cable) -> bool:
        """By trying: on a loopback, for a moment."""
        netns = cable.far.netns
        try:
            await self._owner.request("program", netns, traffic.netem(LOOPBACK_IFINDEX), ())
        except Unavailable:
            return False
        await self._owner.request("program", netns, traffic.no_netem(LOOPBACK_IFINDEX), ())
        return True

    def _number(self, cable: Cable, direction: Direction) -> int:
        return impairing.number_of(self._position(cable), direction)

    def _position(self, cable: Cable) -> int:
        key = impairing.key(cable)
        if key not in self._positions:
            self._positions[key] = next(self._unused)
        return self._positions[key]


def _sending_end(cable: Cable, direction: Direction) -> End:
    return cable.near if direction == "up" else cable.far


def _at_once(items: list[Item], most: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]


def _gather(texts: list[str], *, most: int) -> Iterator[str]:
    """As few texts as possible, none longer than `most` unless it was."""
    gathered = ""
    for text in texts:
        if gathered and len(gathered) + len(text) > most:
            yield gathered
            gathered = ""
        gathered += text
    yield gathered
