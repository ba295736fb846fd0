"""The difference of two labs as ordered changes, so that a lab that runs becomes another. Pure.

What did not change is in no change: its links keep their interface indexes, its programs run on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netlab.impairment import Both
from netlab.topology import Node, Topology
from netlab.wiring.changes import (
    AddCable,
    AddNamespace,
    Change,
    Impair,
    LoadRules,
    RemoveBridge,
    RemoveCable,
    RemoveNamespace,
    SetMtu,
    SetSysctls,
    State,
    Withdraw,
)
from netlab.wiring.facts import Address, Bridge, Fact, Neighbour, Route, Unreachable
from netlab.wiring.realize import FORWARDING, Build, Namespace, realize
from netlab.wiring.wirer import wire
from netlab.wiring.wiring import Cable, End, Wiring
from overlay.errors import Rejected

NOT_FORWARDING = tuple((path, "0") for path, _ in FORWARDING)


@dataclass(frozen=True, slots=True)
class Plan:
    """What leads from one lab to another. Empty `changes`: nothing that runs is touched."""

    wiring: Wiring
    build: Build
    changes: tuple[Change, ...]


def plan(before: Wiring, wanted: Topology) -> Plan:
    """Raises Rejected for what cannot change while the lab runs."""
    for refusal in refusals(before.topology, wanted):
        raise refusal
    after = wire(wanted, before=before.places)
    builds = (realize(before), realize(after))
    changes = _Difference(before, after, *builds).changes()
    return Plan(wiring=after, build=builds[1], changes=tuple(changes))


def refusals(before: Topology, after: Topology) -> Iterator[Rejected]:
    again = "end the lab and bring it up again"
    for field in ("name", "seed", "tenants"):
        if getattr(before, field) != getattr(after, field):
            yield Rejected(f"{field} cannot change while a lab runs", field=field, remedy=again)
    nodes = ({node.name: node for node in each.nodes} for each in (before, after))
    old, new = nodes
    for name in old.keys() & new.keys():
        if _running(old[name]) != _running(new[name]):
            yield Rejected(
                "what runs on a node cannot change while it does",
                field=f"node.{name}",
                remedy="give the new one another name, or " + again,
            )
    for name in sorted(old.keys() ^ new.keys()):
        node = old.get(name) or new[name]
        if node.role != "host" or node.run:
            yield Rejected(
                "a node that runs something can be neither added nor removed while a lab runs",
                field=f"node.{name}",
                remedy="add it as a plain host, or " + again,
            )


def _running(node: Node) -> tuple[object, ...]:
    """What runs on it; an exit has its addresses from where its uplink leads."""
    leads_to = node.uplink.to if node.uplink is not None else ""
    return node.role, node.run, node.relay, node.exit, leads_to


class _Difference:
    def __init__(self, before: Wiring, after: Wiring, old: Build, new: Build) -> None:
        self._before, self._after = before, after
        self._old = {each.name: each for each in old.namespaces}
        self._new = {each.name: each for each in new.namespaces}
        # A namespace that is something else now shares nothing but its name.
        self._kept = {
            name
            for name in self._old.keys() & self._new.keys()
            if _kind(before, name) == _kind(after, name)
        }
        old_cables = {(cable.near, cable.far): cable for cable in before.cables}
        new_cables = {(cable.near, cable.far): cable for cable in after.cables}
        lasting = {ends for ends in old_cables.keys() & new_cables.keys() if self._lasts(ends)}
        self._removed = [cable for ends, cable in old_cables.items() if ends not in lasting]
        self._added = [cable for ends, cable in new_cables.items() if ends not in lasting]
        self._both = [
            (old_cables[ends], cable) for ends, cable in new_cables.items() if ends in lasting
        ]
        self._bridges = self._removed_bridges()
        self._gone = {(end.netns, end.ifindex) for cable in self._removed for end in _ends(cable)}
        self._gone |= set(self._bridges)

    def changes(self) -> Iterator[Change]:
        yield from self._removals()
        yield from self._additions()
        for old, new in self._both:
            if old.mtu_bytes != new.mtu_bytes:
                yield SetMtu(new)
        for name in self._in_order():
            yield from _settings(self._old[name], self._new[name])
        for name, namespace in self._new.items():
            if facts := self._stated(namespace):
                yield State(name, facts)
        for cable, before in (
            *((new, old.impaired) for old, new in self._both),
            *((cable, Both()) for cable in self._added),
        ):
            if cable.impaired != before:
                yield Impair(cable, cable.impaired)

    def _removals(self) -> Iterator[Change]:
        yield from self._withdrawn()
        for cable in self._removed:
            at = [end for end in (cable.far, cable.near) if end.netns in self._kept]
            if at:  # otherwise both ends go with their namespaces
                yield RemoveCable(cable, (at[0].netns, at[0].ifindex))
        for netns, ifindex in self._bridges:
            yield RemoveBridge(netns, ifindex)
        for name in self._old:
            if name not in self._kept:
                yield RemoveNamespace(_kind(self._before, name), name)

    def _additions(self) -> Iterator[Change]:
        for name, namespace in self._new.items():
            if name not in self._kept:
                yield AddNamespace(_kind(self._after, name), namespace)
        yield from map(AddCable, self._added)

    def _in_order(self) -> list[str]:
        return [name for name in self._new if name in self._kept]

    def _lasts(self, ends: tuple[End, End]) -> bool:
        return all(end.netns in self._kept for end in ends)

    def _removed_bridges(self) -> list[tuple[str, int]]:
        return [
            (name, fact.ifindex)
            for name in self._in_order()
            for fact in self._old[name].facts
            if isinstance(fact, Bridge) and fact not in self._new[name].facts
        ]

    def _withdrawn(self) -> Iterator[Change]:
        for name in self._in_order():
            keys = {_key(fact) for fact in self._new[name].facts}
            facts = dict.fromkeys(
                fact
                for fact in self._old[name].facts
                if isinstance(fact, Address | Neighbour | Route | Unreachable)
                and _key(fact) not in keys
                and (name, fact.ifindex) not in self._gone
            )
            if facts:  # a gateway that is on the LAN as well is a neighbour twice
                yield Withdraw(name, tuple(facts))

    def _stated(self, namespace: Namespace) -> tuple[Fact, ...]:
        """New facts, and old ones of links that are new."""
        name = namespace.name
        if name not in self._kept:
            return namespace.facts
        known = set(self._old[name].facts)
        return tuple(
            fact
            for fact in namespace.facts
            if fact not in known or (name, fact.ifindex) in self._gone
        )


def _settings(old: Namespace, new: Namespace) -> Iterator[Change]:
    if old.ruleset != new.ruleset:
        yield LoadRules(new.name)
    sysctls = tuple(each for each in new.sysctls if each not in old.sysctls)
    if set(FORWARDING) & set(old.sysctls) - set(new.sysctls):
        sysctls = (*NOT_FORWARDING, *sysctls)
    if sysctls:
        yield SetSysctls(new.name, sysctls)


def _key(fact: Fact) -> tuple[object, ...]:
    """What the kernel has once only: a fact with the same key takes the other's place."""
    if isinstance(fact, Route):
        # A route to a link and one to nowhere share their place, too.
        return (Route, fact.destination, fact.prefix_length, fact.metric)
    if isinstance(fact, Unreachable):
        return (Route, fact.destination, fact.prefix_length, 0)
    if isinstance(fact, Neighbour):
        return (Neighbour, fact.ifindex, fact.packed)
    return (type(fact), *fact)


def _ends(cable: Cable) -> tuple[End, End]:
    return cable.near, cable.far


def _kind(wiring: Wiring, name: str) -> str:
    """What people call what this namespace is."""
    if name in wiring.subnets:
        return "LAN" if wiring.subnets[name].router is None else "router"
    return "node" if name in wiring.stations else "core"
