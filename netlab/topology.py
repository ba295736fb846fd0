"""What a lab consists of, as one frozen value: nodes, routers, LANs and the cables between them.

A Topology that exists is a valid one; a wrong one is Rejected with the path, the reason and the
nearest valid name. Nothing here is realised: see wiring.py for addresses, realize.py for the rest.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from overlay.errors import Rejected

INTERNET = "internet"

# A router namespace slows down beyond 256 to 512 links: every one is looked at by address
# selection and by notifications.
INTERNET_LINKS_MAX = 500
# Hosts .10 to .254 of a /24; lower ones are left to gateways.
LAN_LINKS_MAX = 245
# The third byte of 192.168.x.0/24.
LANS_MAX = 254
NODE_LINKS_MAX = 8
ROLE_LENGTH_MAX = 64

MTU_BYTES_MIN_IPV4 = 576
MTU_BYTES_MIN_IPV6 = 1280  # RFC 8200 section 5
MTU_BYTES_MAX = 65535

Nat = Literal["none", "port-restricted"]
Firewall = Literal["none", "stateful"]

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LINK_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,14}")


@dataclass(frozen=True, slots=True)
class Link:
    """A cable from a node to the internet, to a router's LAN, or to a LAN without a router."""

    to: str = INTERNET
    name: str = "eth0"
    mtu_bytes: int = 1500
    ipv4: bool = True
    ipv6: bool = True


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of its own. With several links the first one carries the default routes."""

    name: str
    links: tuple[Link, ...] = (Link(),)
    role: str = ""


@dataclass(frozen=True, slots=True)
class Router:
    """Joins one LAN, which bears its name, to the internet.

    nat       "port-restricted": IPv4 leaves with the router's own address; a mapping serves any
              remote (endpoint-independent), a packet enters only from where one was sent to.
    firewall  "stateful": nothing new enters, in either family.
    """

    name: str
    nat: Nat = "none"
    firewall: Firewall = "none"
    mtu_bytes: int = 1500


@dataclass(frozen=True, slots=True)
class Lan:
    """A switch that leads nowhere else."""

    name: str


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab. Declaration order decides every address, so appending moves nothing."""

    nodes: tuple[Node, ...]
    routers: tuple[Router, ...] = ()
    lans: tuple[Lan, ...] = ()
    name: str = field(default="lab", kw_only=True)

    def __post_init__(self) -> None:
        for fault in _find_faults(self):
            raise fault


def _find_faults(topology: Topology) -> Iterator[Rejected]:
    """Every reason why this cannot be built, most fundamental first."""
    yield from _name_faults(topology)
    for router in topology.routers:
        yield from _router_faults(router)
    targets = (
        INTERNET,
        *(router.name for router in topology.routers),
        *(lan.name for lan in topology.lans),
    )
    for node in topology.nodes:
        yield from _node_faults(node, targets=targets)
    yield from _size_faults(topology)


def _name_faults(topology: Topology) -> Iterator[Rejected]:
    named = [
        *(("node", node.name) for node in topology.nodes),
        *(("router", router.name) for router in topology.routers),
        *(("lan", lan.name) for lan in topology.lans),
    ]
    for path, name in [
        ("name", topology.name),
        *((f"{kind}.{name}", name) for kind, name in named),
    ]:
        if not _DNS_LABEL.fullmatch(name):
            yield Rejected(
                f"{name!r} is no DNS label",
                field=path,
                remedy="use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
            )
    for kind, name in named:
        if name == INTERNET:
            yield Rejected(
                f"{INTERNET!r} is what joins the lab together",
                field=f"{kind}.{name}",
                remedy="choose another name",
            )
    yield from _repeated([name for _, name in named], path="{}", what="name")


def _router_faults(router: Router) -> Iterator[Rejected]:
    path = f"router.{router.name}"
    yield from _unknown(router.nat, known=get_args(Nat), path=f"{path}.nat")
    yield from _unknown(router.firewall, known=get_args(Firewall), path=f"{path}.firewall")
    yield from _mtu_faults(router.mtu_bytes, ipv6=True, path=f"{path}.mtu_bytes")


def _node_faults(node: Node, *, targets: tuple[str, ...]) -> Iterator[Rejected]:
    path = f"node.{node.name}"
    if len(node.role) > ROLE_LENGTH_MAX:
        yield Rejected(f"longer than {ROLE_LENGTH_MAX} characters", field=f"{path}.role")
    if len(node.links) > NODE_LINKS_MAX:
        yield Rejected(f"more than {NODE_LINKS_MAX} links", field=f"{path}.links")
    yield from _repeated([link.name for link in node.links], path=f"{path}.links.{{}}", what="link")
    for link in node.links:
        yield from _link_faults(link, targets=targets, path=f"{path}.links.{link.name}")


def _link_faults(link: Link, *, targets: tuple[str, ...], path: str) -> Iterator[Rejected]:
    if not _LINK_NAME.fullmatch(link.name) or link.name == "lo":
        yield Rejected(
            f"{link.name!r} is no name for a link",
            field=path,
            remedy="use at most 15 of a-z, 0-9, '_', '.' and '-', starting with a letter, not 'lo'",
        )
    yield from _unknown(link.to, known=targets, path=f"{path}.to")
    if not (link.ipv4 or link.ipv6):
        yield Rejected("neither IPv4 nor IPv6", field=path, remedy="leave at least one on")
    yield from _mtu_faults(link.mtu_bytes, ipv6=link.ipv6, path=f"{path}.mtu_bytes")


def _mtu_faults(mtu_bytes: int, *, ipv6: bool, path: str) -> Iterator[Rejected]:
    lowest = MTU_BYTES_MIN_IPV6 if ipv6 else MTU_BYTES_MIN_IPV4
    if not lowest <= mtu_bytes <= MTU_BYTES_MAX:
        yield Rejected(f"{mtu_bytes} is not in {lowest}..{MTU_BYTES_MAX}", field=path)


def _size_faults(topology: Topology) -> Iterator[Rejected]:
    if len(topology.routers) + len(topology.lans) > LANS_MAX:
        yield Rejected(f"more than {LANS_MAX} routers and LANs", field="router")
    used = Counter(link.to for node in topology.nodes for link in node.links)
    used[INTERNET] += len(topology.routers)
    for name, count in sorted(used.items()):
        limit = INTERNET_LINKS_MAX if name == INTERNET else LAN_LINKS_MAX
        if count > limit:
            yield Rejected(
                f"{count} links, {limit} is the most", field=name, remedy="spread them over routers"
            )


def _repeated(names: list[str], *, path: str, what: str) -> Iterator[Rejected]:
    for name, count in Counter(names).items():
        if count > 1:
            yield Rejected(f"{what} given {count} times", field=path.format(name))


def _unknown(value: str, *, known: Iterable[str], path: str) -> Iterator[Rejected]:
    known = sorted(known)
    if value not in known:
        nearest = difflib.get_close_matches(value, known, n=1, cutoff=0.0)[0]
        yield Rejected(f"there is no {value!r}", field=path, remedy=f"did you mean {nearest!r}?")
