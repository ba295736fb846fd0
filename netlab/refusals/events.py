"""Things that cannot happen. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

from netlab.refusals import impairments
from netlab.refusals.expects import TIME_S_MAX
from netlab.refusals.words import no_argv, out_of_bounds, unknown
from netlab.topology import Draft, Event
from overlay.errors import Rejected

LINK_VERBS = frozenset({"cut", "plug", "impair"})
NODE_VERBS = frozenset({"kill", "restart", "pause", "resume", "exec"})
ROUTER_VERBS = frozenset({"reboot-nat"})
VERBS = LINK_VERBS | NODE_VERBS | ROUTER_VERBS | {"partition", "heal"}
PARTS_MAX = 63  # a part has a number in the six bits of DSCP


def find(topology: Draft) -> Iterator[Rejected]:
    """Every fault of the timeline."""
    if not topology.events:
        return
    nodes = frozenset(node.name for node in topology.nodes)
    routers = frozenset(router.name for router in topology.routers)
    lans = (lan.name for lan in topology.lans)
    regions = (region.name for region in topology.regions)
    places = nodes.union(routers, lans, regions)
    links = count_links(topology)
    for position, event in enumerate(topology.events):
        path = f"at[{position}]"
        yield from out_of_bounds(
            event.at_s, lowest=0, highest=TIME_S_MAX, unit="seconds", path=f"{path}.time"
        )
        own = f"{path}.{event.verb}"
        if event.verb in LINK_VERBS:
            yield from _link_faults(event.target, links, path=own)
        elif event.verb in NODE_VERBS:
            yield from unknown(event.target, known=nodes, what="node", path=own)
        elif event.verb in ROUTER_VERBS:
            yield from unknown(event.target, known=routers, what="router", path=own)
        elif event.target:
            yield Rejected(
                f"has no target, and this says {event.target!r}", field=own, remedy="leave it out"
            )
        yield from _argument_faults(event, places, path=path)


def _argument_faults(event: Event, places: frozenset[str], *, path: str) -> Iterator[Rejected]:
    own = f"{path}.{event.verb}"
    yield from unknown(event.verb, known=VERBS, path=own)
    for verb, argument in (
        ("impair", event.impaired),
        ("partition", event.groups),
        ("exec", event.argv),
    ):
        if argument and event.verb != verb:
            yield Rejected(
                f"only {verb} takes what this has", field=own, remedy=f"leave it out, or {verb}"
            )
    if event.verb == "impair":
        if event.impaired is None:
            yield Rejected("does not say how", field=own, remedy="add `impaired`")
        else:
            yield from impairments.find(event.impaired, path=own)
    if event.verb == "exec":
        yield from no_argv(event.argv, path=f"{own}.argv")
    if event.verb == "partition":
        yield from _group_faults(event.groups, places, path=own)


def _group_faults(
    groups: tuple[tuple[str, ...], ...], places: frozenset[str], *, path: str
) -> Iterator[Rejected]:
    if not 2 <= len(groups) <= PARTS_MAX:
        yield Rejected(
            f"{len(groups)} parts make no partition", field=path, remedy=f"name 2 to {PARTS_MAX}"
        )
    for position, group in enumerate(groups):
        if not group:
            yield Rejected(
                "a part without a node",
                field=f"{path}[{position}]",
                remedy="name one, or leave it out",
            )
        for name in group:
            yield from unknown(name, known=places, path=f"{path}[{position}].{name}")
    for name, count in Counter(name for group in groups for name in group).items():
        if count > 1:
            yield Rejected(f"{name} is named {count} times", field=path, remedy="name it once")


def _link_faults(name: str, links: Counter[str], *, path: str) -> Iterator[Rejected]:
    yield from unknown(name, known=links, what="link", path=path)
    if links[name] > 1:
        yield Rejected(
            f"{links[name]} links are called {name!r}",
            field=path,
            remedy="say one by its end, as NODE:LINK",
        )


def count_links(topology: Draft) -> Counter[str]:
    """How many links each name may mean, as the wiring names them.

    "alice-home", "home-alice" and "alice:eth0"; a second link to the same place by its end alone;
    two nodes alone in a LAN, and two regions, by both names.
    """
    declared = [
        *((node.name, link) for node in topology.nodes for link in node.links),
        *((router.name, router.uplink) for router in topology.routers),
    ]
    lans = {lan.name for lan in topology.lans}
    in_lan: dict[str, list[tuple[str, set[str]]]] = {name: [] for name in lans}
    cables: list[set[str]] = []
    joined: set[tuple[str, str]] = set()
    for of, link in declared:
        names = {f"{of}:{link.name}"}
        if (of, link.to) not in joined:
            names |= _both_ways(of, link.to)
        joined.add((of, link.to))
        if link.to in lans:
            in_lan[link.to].append((of, names))
        else:
            cables.append(names)
    for ends in in_lan.values():
        if len(ends) == 2:  # one cable, without a switch
            (one, its), (other, others) = ends
            cables.append(its | others | _both_ways(one, other))
        else:
            cables += (names for _, names in ends)
    regions = dict.fromkeys(region.name for region in topology.regions)
    cables += (_both_ways(one, other) for one, other in combinations(regions, 2))
    return Counter(name for names in cables for name in names)


def _both_ways(one: str, other: str) -> set[str]:
    return {f"{one}-{other}", f"{other}-{one}"}
