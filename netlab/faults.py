"""Every reason why a topology cannot be built, with the path, the reason and the nearest name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import get_args

from netlab.nat import Behaviour, Firewall, Nat, Ports
from netlab.refusals import events, expects, impairments, tenants
from netlab.refusals.words import no_argv, no_label, out_of_bounds, repeated, unknown
from netlab.topology import INTERNET, Draft, Link, Node, Role, Router
from overlay.errors import Rejected

# A router namespace slows down beyond 256 to 512 links: every one is looked at by address
# selection and by notifications.
INTERNET_LINKS_MAX = 500
# Hosts .10 to .254 of a /24; lower ones are left to gateways.
LAN_LINKS_MAX = 245
# The third byte of 192.168.x.0/24.
LANS_MAX = 254
NODE_LINKS_MAX = 8
PROGRAMS_MAX = 32  # started with a node
SEED_MAX = 2**63 - 1  # the largest whole number that TOML promises to carry
# A file with more is no lab but a mistake; file descriptors end at about as many.
NODES_MAX = 10_000

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
    yield from _size_faults(topology)
    for number, latency in enumerate(topology.latencies):
        yield from impairments.find(latency.impaired, path=f"core.latency[{number}]")
    yield from tenants.find(topology)
    yield from expects.find(topology)
    yield from events.find(topology)


def _name_faults(topology: Draft) -> Iterator[Rejected]:
    named = [
        *(("node", node.name) for node in topology.nodes),
        *(("router", router.name) for router in topology.routers),
        *(("lan", lan.name) for lan in topology.lans),
    ]
    for path, name in [
        ("name", topology.name),
        *((f"{kind}.{name}", name) for kind, name in named),
    ]:
        yield from no_label(name, path=path)
    named += (("region", region.name) for region in topology.regions)
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
        yield Rejected(f"more than {NODE_LINKS_MAX} links", field=f"{path}.links")
    yield from repeated([link.name for link in node.links], path=f"{path}.links.{{}}", what="link")
    for link in node.links:
        yield from _link_faults(link, targets=targets, path=f"{path}.links.{link.name}")
    if len(node.run) > PROGRAMS_MAX:
        yield Rejected(f"more than {PROGRAMS_MAX} programs", field=f"{path}.run")
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
    yield from _mtu_faults(link.mtu_bytes, ipv6=link.ipv6, path=f"{path}.mtu_bytes")
    yield from impairments.find(link.impaired, path=f"{path}.impaired")


def _mtu_faults(mtu_bytes: int, *, ipv6: bool, path: str) -> Iterator[Rejected]:
    lowest = MTU_BYTES_MIN_IPV6 if ipv6 else MTU_BYTES_MIN_IPV4
    if not lowest <= mtu_bytes <= MTU_BYTES_MAX:
        yield Rejected(f"{mtu_bytes} is not in {lowest}..{MTU_BYTES_MAX}", field=path)


def _size_faults(topology: Draft) -> Iterator[Rejected]:
    if len(topology.nodes) > NODES_MAX:
        yield Rejected(f"{len(topology.nodes)} nodes, {NODES_MAX} is the most", field="node")
    if len(topology.routers) + len(topology.lans) > LANS_MAX:
        yield Rejected(f"more than {LANS_MAX} routers and LANs", field="router")
    used = Counter(link.to for node in topology.nodes for link in node.links)
    used.update(router.uplink.to for router in topology.routers)
    for name, count in sorted(used.items()):
        limit = INTERNET_LINKS_MAX if name == INTERNET else LAN_LINKS_MAX
        if count > limit:
            yield Rejected(
                f"{count} links, {limit} is the most", field=name, remedy="spread them over routers"
            )
