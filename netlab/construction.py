"""What a lab's keeper is told to build, remove and compare, in the form in which it takes it.

The messages are long, so they go by a file in memory.
"""

from __future__ import annotations

import marshal
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeAlias

from netlab.keeper import rtnetlink as nl
from netlab.lab_node import STATE, anonymous_file
from netlab.owner import Owner
from netlab.wiring.changes import (
    AddCable,
    AddNamespace,
    LoadRules,
    RemoveBridge,
    RemoveCable,
    RemoveNamespace,
    SetMtu,
    SetSysctls,
    State,
    Withdraw,
)
from netlab.wiring.facts import Fact, program, undo
from netlab.wiring.plan import Plan
from netlab.wiring.realize import Build, Namespace, links_carried_by
from netlab.wiring.wiring import Cable, End
from overlay.errors import Diverged

# Of a namespace: rules, and values to write below /proc/sys.
Setting: TypeAlias = tuple[str, str, tuple[tuple[str, str], ...]]


class Construction:
    """Of one lab; `workdir` is where its nodes have their directories."""

    def __init__(self, owner: Owner, *, workdir: Path) -> None:
        self._owner = owner
        # Once: it costs a look at every directory above.
        self._workdir = workdir.resolve()

    async def build(self, build: Build) -> dict[str, int]:
        """All of it. The keeper's descriptors of the namespaces, by name."""
        return await self._build(
            namespaces=build.namespaces,
            cables=build.cables,
            programs=[(each.name, program(each.facts)) for each in build.namespaces],
            links=build.links,
            addresses=build.addresses,
        )

    async def remove(self, plan: Plan) -> None:
        """All that the plan takes away. Nodes among it are dead already."""
        programs: list[tuple[str, bytes]] = []
        links: defaultdict[str, list[int]] = defaultdict(list)
        ends: list[tuple[str, int]] = []
        names = [each.name for each in plan.changes if isinstance(each, RemoveNamespace)]
        for change in plan.changes:
            if isinstance(change, Withdraw):
                programs.append((change.netns, b"".join(map(undo, change.facts))))
            elif isinstance(change, RemoveCable):
                netns, ifindex = change.at
                links[netns].append(ifindex)
                both = (change.cable.near, change.cable.far)
                ends += [(end.netns, end.ifindex) for end in both]
            elif isinstance(change, RemoveBridge):
                links[change.netns].append(change.ifindex)
        await self._request("remove", (programs, list(links.items()), ends, names))

    async def add(
        self, plan: Plan, rulesets: dict[str, str], *, still: frozenset[tuple[str, int]]
    ) -> dict[str, int]:
        """All that the plan adds or sets, but what is on links that are `still`: down on purpose.

        rulesets  of the routers whose rules the plan loads
        """
        changes = plan.changes
        cables = [each.cable for each in changes if isinstance(each, AddCable)]
        settings: list[Setting] = [
            (each.router, rulesets[each.router], ())
            for each in changes
            if isinstance(each, LoadRules)
        ]
        settings += [
            (each.netns, "", each.sysctls) for each in changes if isinstance(each, SetSysctls)
        ]
        programs: list[tuple[str, bytes]] = []
        for change in changes:
            if isinstance(change, SetMtu):
                programs += _mtu_programs(change.cable)
            elif isinstance(change, State):
                moving = [
                    fact for fact in change.facts if (change.netns, fact.ifindex) not in still
                ]
                programs.append((change.netns, program(moving)))
        carried = {link for cable in cables for link in links_carried_by(cable, plan.wiring)}
        new = {(end.netns, end.ifindex) for cable in cables for end in (cable.near, cable.far)}
        return await self._build(
            namespaces=[each.namespace for each in changes if isinstance(each, AddNamespace)],
            cables=cables,
            settings=settings,
            programs=programs,
            links=sorted(carried - still),
            addresses=[each for each in plan.build.addresses if each[:2] in new - still],
        )

    async def confirm(self, plan: Plan, *, still: frozenset[tuple[str, int]]) -> None:
        """The kernel has what the plan leads to, wherever it led. Raises Diverged."""
        stated = {each.netns for each in plan.changes if isinstance(each, State)}
        withdrawn = {each.netns: each.facts for each in plan.changes if isinstance(each, Withdraw)}
        comparisons = []
        for namespace in plan.build.namespaces:
            if namespace.name in stated or namespace.name in withdrawn:
                wanted = [
                    _plain(fact)
                    for fact in namespace.facts
                    if (namespace.name, fact.ifindex) not in still
                ]
                left = {_plain(fact) for fact in withdrawn.get(namespace.name, ())} - set(wanted)
                comparisons.append((namespace.name, wanted, list(left)))
        for difference in await self._request("compare", comparisons):
            raise Diverged(
                _told(difference), remedy="end the lab and bring it up again: it is half changed"
            )

    async def _build(
        self,
        *,
        namespaces: Sequence[Namespace],
        cables: Sequence[Cable],
        programs: Sequence[tuple[str, bytes]],
        links: Sequence[tuple[str, int]],
        addresses: Sequence[tuple[str, int, bytes]],
        settings: Sequence[Setting] = (),
    ) -> dict[str, int]:
        made = [
            (each.name, each.sysctls, each.ruleset, self._furniture(each)) for each in namespaces
        ]
        message = (made, _pairs(cables), settings, programs, links, addresses)
        held: dict[str, int] = await self._request("build", message)
        return held

    def _furniture(
        self, namespace: Namespace
    ) -> tuple[str, tuple[tuple[str, str], ...], str] | None:
        if namespace.files is None:
            return None
        return (namespace.name, namespace.files, f"{self._workdir}/{namespace.name}/{STATE}")

    async def _request(self, verb: str, message: Any) -> Any:
        with anonymous_file(marshal.dumps(message)) as fd:
            return await self._owner.request(verb, fds=(fd,))


def _pairs(cables: Iterable[Cable]) -> dict[str, list[tuple[str, dict[str, str | int | bytes]]]]:
    pairs: dict[str, list[tuple[str, dict[str, str | int | bytes]]]] = {}
    for cable in cables:
        ends: dict[str, str | int | bytes] = {
            "name": cable.far.name,
            "ifindex": cable.far.ifindex,
            "mac": cable.far.mac,
            "peer_name": cable.near.name,
            "peer_ifindex": cable.near.ifindex,
            "peer_mac": cable.near.mac,
            "mtu_bytes": cable.mtu_bytes,
        }
        pairs.setdefault(cable.far.netns, []).append((cable.near.netns, ends))
    return pairs


def _mtu_programs(cable: Cable) -> Iterator[tuple[str, bytes]]:
    ends: tuple[End, End] = (cable.near, cable.far)
    for end in ends:
        yield end.netns, nl.link_mtu(end.ifindex, mtu_bytes=cable.mtu_bytes)


def _plain(fact: Fact) -> tuple[Any, ...]:
    """As the keeper reads it back (see keeper/readback.py)."""
    return (type(fact).__name__.lower(), *fact)


def _told(difference: tuple[Any, ...]) -> str:
    netns, what, kind, *values = difference
    words = [str(ip_address(v)) if _is_address(v) else repr(v) for v in values]
    return f"{netns}: {kind} {' '.join(words)} is {what}"


def _is_address(value: object) -> bool:
    return isinstance(value, bytes) and len(value) in (4, 16)
