"""Which exits are healthy, from who answered when (EXIT-053). Pure.

The exit in use is measured through itself: its beacons answer by way of it, or it is of no use.
The others cannot be, because what leaves the network goes one way at a time; of them it is known
that they are there, and how far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from overlay import addressing
from overlay.exitnode.named import ready_exits
from overlay.exitnode.policy import Contender, Election
from overlay.model import Address, NetworkResource, NodeId
from overlay.peers.selection import Selection

ASK_S = 0.4  # between requests to a beacon
SILENT_S = 1.3  # three requests and a long way
STANDBY_S = 2.0  # between requests to an exit that is not in use
STANDBY_SILENT_S = 7.0
MAX_STANDBY = 4  # exits that are asked besides
BEACONS_OF_A_FAMILY = 2  # that are asked, of each family


class Exit(msgspec.Struct, frozen=True):
    """What a network and its member say of one exit."""

    node: NodeId
    order: int
    beacons: tuple[Address, ...]
    gateway: Address  # its own address in the network
    draining_until: int | None = None  # Unix seconds


def exits_of(selection: Selection, nr: NetworkResource) -> Iterator[Exit]:
    """The exits that the tenant names and that are ready to be one."""
    for member, order in ready_exits(selection):
        if member.exit is None:
            continue
        gateway, _ = addressing.host_addresses(
            nr.range_v4, nr.range_v6, index=member.index, host=addressing.GATEWAY_HOST
        )
        yield Exit(
            NodeId(member.node),
            order,
            tuple(map(Address, member.exit.beacons)),
            gateway,
            member.exit.draining_until,
        )


class Pulse(msgspec.Struct):
    """What was heard of one exit; times are monotonic."""

    beacon_at: float = float("-inf")
    gateway_at: float = float("-inf")
    latency_s: float | None = None
    asked_at: float = float("-inf")


class Pulses:
    """What was heard of all exits of a network."""

    def __init__(self) -> None:
        self._pulses: dict[NodeId, Pulse] = {}

    def questions(self, exits: Iterable[Exit], election: Election, *, now: float) -> list[Address]:
        """Whom to ask now."""
        exits = sorted(exits, key=lambda each: (each.order, each.node))
        self._pulses = {each.node: self._pulses.get(each.node, Pulse()) for each in exits}
        asked: list[Address] = []
        others = [each for each in exits if each.node != election.elected]
        others.sort(key=lambda each: each.node != election.draining)
        standby = others[:MAX_STANDBY]
        for each in standby:
            pulse = self._pulses[each.node]
            if now - pulse.asked_at >= STANDBY_S:
                pulse.asked_at = now
                asked.append(each.gateway)
        for each in exits:
            if each.node == election.elected:
                asked += _chosen(each.beacons)
        return asked

    def note(
        self,
        exits: Iterable[Exit],
        election: Election,
        address: Address,
        *,
        asked_at: float,
        now: float,
    ) -> None:
        """Somebody has answered."""
        for each in exits:
            pulse = self._pulses.setdefault(each.node, Pulse())
            if address == each.gateway:
                pulse.gateway_at, pulse.latency_s = now, now - asked_at
            # What was asked before the election went by way of another exit.
            if (
                each.node == election.elected
                and asked_at > election.since
                and address in each.beacons
            ):
                pulse.beacon_at = now

    def contenders(
        self, exits: Iterable[Exit], election: Election, *, wall: float, now: float
    ) -> list[Contender]:
        return [
            Contender(
                each.node,
                each.order,
                is_healthy=self._is_healthy(each.node, election, now=now),
                drains_until=None
                if each.draining_until is None
                else now + each.draining_until - wall,
                latency_s=self._pulses.get(each.node, Pulse()).latency_s,
            )
            for each in exits
            if each.draining_until is None or wall < each.draining_until
        ]

    def _is_healthy(self, node: NodeId, election: Election, *, now: float) -> bool:
        pulse = self._pulses.get(node, Pulse())
        if node == election.elected:
            return now - max(pulse.beacon_at, election.since) < SILENT_S
        if node == election.draining:
            # It was not asked for itself while it was in use.
            return now - max(pulse.gateway_at, election.since) < STANDBY_SILENT_S
        return now - pulse.gateway_at < STANDBY_SILENT_S


def _chosen(beacons: Iterable[Address]) -> list[Address]:
    """Some of both families: one that works alone is better than none."""
    found: dict[bool, list[Address]] = {False: [], True: []}
    for beacon in beacons:
        found[":" in beacon].append(beacon)
    return [address for each in found.values() for address in each[:BEACONS_OF_A_FAMILY]]
