"""Nodes that cannot let anybody out, and networks that cannot be left by them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain

from netlab.refusals.words import out_of_bounds, repeated, unknown
from netlab.topology import Draft, ExitOffer, Link, Node, TenantNetwork
from overlay.errors import Rejected

# Of a farm, of a network, and its orders (overlay.documents.exits, which is slow to load).
EXITS_OFFERED_MAX = 64
EXITS_MAX = 16
ORDER_MAX = 255
BEACONS_MAX = 4  # each may have an address of both families, and an offer has 8
# Hosts .2 to .9 of a LAN, below those of nodes: see netlab/wiring/egress.py.
EXITS_AT_A_LAN_MAX = 8


def find(topology: Draft) -> Iterator[Rejected]:
    """Every fault of exits that are offered, and of those that networks name."""
    regions = {region.name for region in topology.regions}
    families = {name: {4, 6} for name in regions}
    families |= {node.name: _families(node.links[:1]) for node in topology.nodes}
    ways_out = regions | {router.name for router in topology.routers}
    ways_out |= {lan.name for lan in topology.lans if lan.gateway}
    at_lans: Counter[str] = Counter()
    for node in topology.nodes:
        if node.exit is None:
            continue
        path = f"node.{node.name}.exit"
        if node.role != "node":
            yield Rejected(
                f"{node.name} is a {node.role}",
                field=path,
                remedy='give it the role "node", or leave exit out',
            )
        yield from _uplink_faults(node, node.exit, ways_out, path=f"{path}.uplink")
        yield from _beacon_faults(node, node.exit, families, path=f"{path}.beacons")
        at_lans.update(link.to for link in node.links if link.name == node.exit.uplink)
        if at_lans.total() > EXITS_OFFERED_MAX:
            yield Rejected(
                f"{EXITS_OFFERED_MAX} exits are offered already",
                field=path,
                remedy="leave some out",
            )
    for lan, count in sorted(at_lans.items()):
        if lan in ways_out - regions and count > EXITS_AT_A_LAN_MAX:
            yield Rejected(
                f"{count} exits, {EXITS_AT_A_LAN_MAX} is the most",
                field=lan,
                remedy="spread them over routers",
            )
    offered = {node.name for node in topology.nodes if node.exit is not None}
    for tenant in topology.tenants:
        for network in tenant.networks:
            path = f"tenant.{tenant.name}.network.{network.name}.exits"
            yield from _network_faults(network, offered, path=path)


def _uplink_faults(
    node: Node, offer: ExitOffer, ways_out: set[str], *, path: str
) -> Iterator[Rejected]:
    yield from unknown(
        offer.uplink, known=[link.name for link in node.links], what="link", path=path
    )
    link = node.uplink
    if link is not None and link.to not in ways_out:
        yield Rejected(
            f"{link.to} has no way out",
            field=path,
            remedy="name a link to a region, a router's LAN or a LAN with a gateway",
        )


def _families(links: tuple[Link, ...]) -> set[int]:
    families = (((4,) if link.ipv4 else ()) + ((6,) if link.ipv6 else ()) for link in links)
    return set(chain.from_iterable(families))


def _beacon_faults(
    node: Node, offer: ExitOffer, families: Mapping[str, set[int]], *, path: str
) -> Iterator[Rejected]:
    yield from repeated(offer.beacons, path=path + ".{}", what="beacon")
    if len(offer.beacons) > BEACONS_MAX:
        yield Rejected(
            f"{len(offer.beacons)} beacons, {BEACONS_MAX} is the most",
            field=path,
            remedy="leave some out",
        )
    for name in offer.beacons:
        own = f"{path}.{name}"
        yield from unknown(name, known=families, what="node or region", path=own)
        if name == node.name:
            yield Rejected(
                "is the exit itself", field=own, remedy="name a node or region beyond it"
            )
    found = set().union(*(families.get(name, ()) for name in offer.beacons))
    if node.uplink is not None and found.isdisjoint(_families((node.uplink,))) and found:
        yield Rejected(
            "none of them has an address of a family that the uplink has",
            field=path,
            remedy="name one that has, or leave beacons out",
        )


def _network_faults(network: TenantNetwork, offered: set[str], *, path: str) -> Iterator[Rejected]:
    yield from repeated((each.node for each in network.exits), path=path + ".{}", what="exit")
    if len(network.exits) > EXITS_MAX:
        yield Rejected(
            f"{len(network.exits)} exits, {EXITS_MAX} is the most",
            field=path,
            remedy="leave some out",
        )
    for each in network.exits:
        own = f"{path}.{each.node}"
        yield from unknown(each.node, known=offered, what="exit", path=own)
        yield from out_of_bounds(each.order, lowest=0, highest=ORDER_MAX, path=own)
        if each.node in offered and each.node not in network.nodes:
            yield Rejected(
                f"{each.node} is no member that the network lists",
                field=own,
                remedy="name it in `nodes`",
            )
