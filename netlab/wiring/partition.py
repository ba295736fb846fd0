"""The network cut in parts while every cable stays: who may still hear whom, as rules. Pure.

Addresses cannot say who sent a packet once a NAT has had it, and a mark ends with its namespace.
The six bits of DSCP cross both. So what a node sends gets the number of its part as it comes off
its cable, and what arrives for a node of another part is dropped before it goes onto its cable.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from netlab.topology import Topology
from netlab.wiring.wiring import End, Wiring
from overlay.errors import Rejected

PARTS_MAX = 63  # DSCP has six bits; 0 is for those in no part
TABLE = "netlab-partition"

_NOBODY = 0
_EMPTIED = f"table netdev {TABLE}\ndelete table netdev {TABLE}\n"


def partition(wiring: Wiring, parts: Sequence[Sequence[str]]) -> dict[str, str]:
    """nftables text by namespace. It takes the place of an earlier partition.

    Parts are of nodes, or of routers, LANs and regions for all nodes behind them. Nodes in no part
    hear everybody and are heard by everybody. Raises Rejected.
    """
    part_of = parts_of(wiring.topology, parts)
    return {netns: _EMPTIED + table for netns, table in _tables(wiring, part_of).items()}


def heal(wiring: Wiring) -> dict[str, str]:
    """The rules, by namespace, that end a partition, whether or not there is one."""
    return dict.fromkeys(_hubs(wiring), _EMPTIED)


def parts_of(topology: Topology, parts: Sequence[Sequence[str]]) -> dict[str, int]:
    """The number of the part, from 1, of every node that is in one. Raises Rejected."""
    if not 2 <= len(parts) <= PARTS_MAX:
        raise Rejected(
            f"{len(parts)} parts, 2 to {PARTS_MAX} make a partition",
            field="groups",
            remedy="separate them by '|': alice,bob | carol",
        )
    found: dict[str, int] = {}
    for number, names in enumerate(parts, start=1):
        if not names:
            raise Rejected("a part without a node", field="groups")
        for name in names:
            for node in _nodes_behind(topology, name):
                if found.setdefault(node, number) != number:
                    raise Rejected(f"{node} is in two parts", field="groups")
    return found


def _nodes_behind(topology: Topology, name: str) -> Iterator[str]:
    nodes = [node.name for node in topology.nodes]
    places = [router.name for router in topology.routers]
    places += [lan.name for lan in topology.lans]
    places += [region.name for region in topology.regions]
    if name in nodes:
        yield name
        return
    if name not in places:
        known = [*nodes, *places]
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise Rejected(
            f"there is no {name!r}", field="groups", remedy=f"did you mean {close[0]!r}?"
        )
    for node in topology.nodes:
        if any(link.to == name for link in node.links):
            yield node.name
    for router in topology.routers:
        if router.uplink.to == name:
            yield from _nodes_behind(topology, router.name)


def _hubs(wiring: Wiring) -> list[str]:
    """Where the cables of nodes end: both ends of those that join two nodes."""
    return list(dict.fromkeys(far.netns for _, far, _ in _node_ends(wiring)))


def _node_ends(wiring: Wiring) -> Iterator[tuple[str, End, bool]]:
    """Each node at the far end of its cable; of a cable between two stations, at its own."""
    nodes = {node.name for node in wiring.topology.nodes}
    for cable in wiring.cables:
        if cable.far_station is None:
            if cable.near.netns in nodes:
                yield cable.near.netns, cable.far, False
            continue
        for end in (cable.near, cable.far):
            if end.netns in nodes:
                yield end.netns, end, True


def _tables(wiring: Wiring, part_of: Mapping[str, int]) -> dict[str, str]:
    """One pair of chains per part, not per port: a chain takes many devices."""
    ports: dict[str, dict[tuple[int, bool], list[str]]] = {}
    for node, end, is_own in _node_ends(wiring):
        group = (part_of.get(node, _NOBODY), is_own)
        ports.setdefault(end.netns, {}).setdefault(group, []).append(end.name)
    return {
        netns: "\n".join(
            (
                f"table netdev {TABLE} {{",
                *(line for group in sorted(found) for line in _chains(*group, found[group])),
                "}\n",
            )
        )
        for netns, found in ports.items()
    }


def _chains(part: int, is_own: bool, devices: list[str]) -> Iterator[str]:
    """What the node sends is let through with its part's number, what it may hear without change.

    At the far end of its cable what it sends comes in, at its own it goes out.
    """
    sent, heard = ("egress", "ingress") if is_own else ("ingress", "egress")
    place = "own" if is_own else "far"
    marked = [f"ip dscp set {part}", f"ip6 dscp set {part}"]
    yield _chain(f"from-{part}-{place}", sent, devices, marked)
    if part != _NOBODY:
        foreign = f"dscp != {{ {_NOBODY}, {part} }} drop"
        yield _chain(f"to-{part}-{place}", heard, devices, [f"ip {foreign}", f"ip6 {foreign}"])


def _chain(name: str, hook: str, devices: list[str], rules: list[str]) -> str:
    listed = ", ".join(f'"{device}"' for device in devices)
    head = f"type filter hook {hook} devices = {{ {listed} }} priority filter;"
    return "\n".join((f"chain {name} {{", head, *rules, "}"))
