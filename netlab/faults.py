"""Every reason why a topology cannot be built, with the path, the reason and the nearest name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import get_args

from netlab.nat import Behaviour, Firewall, Nat, Ports
from netlab.refusals import events, exits, expects, impairments, tenants
from netlab.refusals.words import no_argv, no_label, out_of_bounds, repeated, unknown
from netlab.topology import Draft, Lan, Link, Node, Role, Router
from netlab.wiring.places import NODE_LINKS_MAX, REGIONS_MAX, links_of
from netlab.wiring.ways import Ways
from overlay.errors import Rejected

NODES_MAX = 9_000
# Of nodes, routers and LANs with a switch: two descriptors of the keeper's each, of which a process
# may have 20 000.
NAMESPACES_MAX = 9_500
# Of all regions together: 50 core routers with their blocks of public addresses.
INTERNET_LINKS_MAX = 10_000
ROUTERS_MAX = 2_000  # a /24 of 192.168.0.0/16 or 172.24.0.0/13 each
LANS_MAX = 9_000  # a /24 of 172.16.0.0/13 or 100.96.0.0/11 each
# Hosts .10 to .254 of a /24; lower ones are left to gateways.
LAN_LINKS_MAX = 245
PROGRAMS_MAX = 32  # started with a node
SEED_MAX = 2**63 - 1  # the largest whole number that TOML promises to carry

# Conntrack counts whole seconds; a day is longer than any lab.
UDP_TIMEOUT_S_MIN, UDP_TIMEOUT_S_MAX = 1, 86_400

MTU_BYTES_MIN_IPV4 = 576
MTU_BYTES_MIN_IPV6 = 1280  # RFC 8200 section 5
MTU_BYTES_MAX = 65535

_LINK_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,14}")


def find(topology: Draft) -> Iterator[Rejected]:
    """Every reason why this cannot be built, most fundamental first."""
    yield from _name_faults(topology)
    yield from out_of_bounds(topology.seed, lowest=0, highest=SEED_MAX, path="seed")
    if not topology.regions:
        yield Rejected("there is no region", field="core.regions", remedy="name one")
    targets = {
        *(region.name for region in topology.regions),
        *(router.name for router in topology.routers),
        *(lan.name for lan in topology.lans),
    }
    for router in topology.routers:
        yield from _router_faults(router, targets=targets)
    for node in topology.nodes:
        yield from _node_faults(node, targets=targets)
    by_name = {node.name: node for node in topology.nodes}
    for lan in topology.lans:
        yield from _gateway_faults(lan, by_name)
    yield from _latency_faults(topology)
    yield from _size_faults(topology)
    for cycle in Ways(topology).cycles():
        yield Rejected(
            f"the way out goes round in a circle: {' -> '.join((*cycle, cycle[0]))}",
            field=cycle[0],
            remedy="have one of them lead to a region, or take its gateway away",
        )
        break
    for number, latency in enumerate(topology.latencies):
        yield from impairments.find(latency.impaired, path=f"core.latency[{number}]")
    yield from tenants.find(topology)
    yield from exits.find(topology)
    yield from expects.find(topology)
    yield from events.find(topology)


def _name_faults(topology: Draft) -> Iterator[Rejected]:
    named = [
        *(("node", node.name) for node in topology.nodes),
        *(("router", router.name) for router in topology.routers),
        *(("lan", lan.name) for lan in topology.lans),
        *(("region", region.name) for region in topology.regions),
    ]
    for path, name in [
        ("name", topology.name),
        *((f"{kind}.{name}", name) for kind, name in named),
    ]:
        yield from no_label(name, path=path)
    yield from repeated([name for _, name in named], path="{}", what="name")


def _router_faults(router: Router, *, targets: set[str]) -> Iterator[Rejected]:
    path = f"router.{router.name}"
    yield from unknown(router.firewall, known=get_args(Firewall), path=f"{path}.firewall")
    yield from _link_faults(router.uplink, targets=targets, path=f"{path}.uplink")
    if router.nat is not None:
        yield from _nat_faults(router.nat, path=f"{path}.nat")


def _nat_faults(nat: Nat, *, path: str) -> Iterator[Rejected]:
    yield from unknown(nat.mapping, known=get_args(Behaviour), path=f"{path}.mapping")
    yield from unknown(nat.filtering, known=get_args(Behaviour), path=f"{path}.filtering")
    yield from unknown(nat.ports, known=get_args(Ports), path=f"{path}.ports")
    yield from out_of_bounds(
        nat.udp_timeout_s,
        lowest=UDP_TIMEOUT_S_MIN,
        highest=UDP_TIMEOUT_S_MAX,
        unit="seconds",
        path=f"{path}.udp_timeout_s",
    )
    if nat.mapping != "endpoint-independent":
        if nat.ports == "preserve":
            yield Rejected(
                f"an {nat.mapping} mapping cannot keep the sender's port",
                field=f"{path}.ports",
                remedy="use 'random'",
            )
        if nat.hairpin:
            yield Rejected(
                "hairpinning needs one outer port for each inner one",
                field=f"{path}.hairpin",
                remedy="use an endpoint-independent mapping, or leave hairpin off",
            )


def _node_faults(node: Node, *, targets: set[str]) -> Iterator[Rejected]:
    path = f"node.{node.name}"
    yield from unknown(node.role, known=get_args(Role), path=f"{path}.role")
    if len(node.links) > NODE_LINKS_MAX:
        yield Rejected(
            f"more than {NODE_LINKS_MAX} links",
            field=f"{path}.links",
            remedy="let a LAN or a router join them",
        )
    yield from repeated([link.name for link in node.links], path=f"{path}.links.{{}}", what="link")
    for link in node.links:
        yield from _link_faults(link, targets=targets, path=f"{path}.links.{link.name}")
    if len(node.run) > PROGRAMS_MAX:
        yield Rejected(
            f"more than {PROGRAMS_MAX} programs",
            field=f"{path}.run",
            remedy="let one of them start the others",
        )
    for position, argv in enumerate(node.run):
        yield from no_argv(argv, path=f"{path}.run[{position}]")


def _link_faults(link: Link, *, targets: set[str], path: str) -> Iterator[Rejected]:
    if not _LINK_NAME.fullmatch(link.name) or link.name == "lo":
        yield Rejected(
            f"{link.name!r} is no name for a link",
            field=path,
            remedy="use at most 15 of a-z, 0-9, '_', '.' and '-', starting with a letter, not 'lo'",
        )
    yield from unknown(link.to, known=targets, path=f"{path}.to")
    if not (link.ipv4 or link.ipv6):
        yield Rejected("neither IPv4 nor IPv6", field=path, remedy="leave at least one on")
    yield from mtu_faults(link.mtu_bytes, ipv6=link.ipv6, path=f"{path}.mtu_bytes")
    yield from impairments.find(link.impaired, path=f"{path}.impaired")


def mtu_faults(mtu_bytes: int, *, ipv6: bool, path: str) -> Iterator[Rejected]:
    """Why a link cannot have this MTU."""
    lowest = MTU_BYTES_MIN_IPV6 if ipv6 else MTU_BYTES_MIN_IPV4
    yield from out_of_bounds(
        mtu_bytes, lowest=lowest, highest=MTU_BYTES_MAX, unit="bytes", path=path
    )


def _gateway_faults(lan: Lan, known: Mapping[str, Node]) -> Iterator[Rejected]:
    if not lan.gateway:
        return
    path = f"lan.{lan.name}.gateway"
    yield from unknown(lan.gateway, known=known, path=path)
    if lan.gateway in known and all(link.to != lan.name for link in known[lan.gateway].links):
        yield Rejected(
            f"{lan.gateway} has no link to {lan.name}",
            field=path,
            remedy="give it one, or choose a node that has",
        )


def _latency_faults(topology: Draft) -> Iterator[Rejected]:
    known = [region.name for region in topology.regions]
    pairs: set[frozenset[str]] = set()
    for number, latency in enumerate(topology.latencies):
        path = f"core.latency[{number}].between"
        for name in latency.between:
            yield from unknown(name, known=known, path=path)
        if latency.between[0] == latency.between[1]:
            yield Rejected("one region twice", field=path, remedy="name two regions")
        if (pair := frozenset(latency.between)) in pairs:
            yield Rejected("two regions a second time", field=path, remedy="say it once")
        pairs.add(pair)


def _size_faults(topology: Draft) -> Iterator[Rejected]:
    regions = {region.name for region in topology.regions}
    used = Counter(to for _, _, to in links_of(topology))
    for found, most, path in (
        (len(topology.nodes), NODES_MAX, "node"),
        (len(topology.routers), ROUTERS_MAX, "router"),
        (len(topology.lans), LANS_MAX, "lan"),
        (len(topology.regions), REGIONS_MAX, "core.regions"),
        (sum(used[region] for region in regions), INTERNET_LINKS_MAX, "core"),
    ):
        if found > most:
            what = "links" if path == "core" else "of them"
            yield Rejected(
                f"{found} {what}, {most} is the most", field=path, remedy="leave some out"
            )
    switched = sum(used[lan.name] != 2 for lan in topology.lans)
    namespaces = len(topology.nodes) + len(topology.routers) + switched
    if namespaces > NAMESPACES_MAX:
        yield Rejected(
            f"{namespaces} nodes, routers and LANs, {NAMESPACES_MAX} is the most",
            field="node",
            remedy="a LAN that joins two does not count",
        )
    for name, count in sorted(used.items()):
        if name not in regions and count > LAN_LINKS_MAX:
            yield Rejected(
                f"{count} links, {LAN_LINKS_MAX} is the most",
                field=name,
                remedy="spread them over routers",
            )
