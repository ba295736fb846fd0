"""What a lab consists of, as one frozen value: regions, routers, LANs, nodes, tenants, a timeline.

A Topology that exists is a valid one (see faults.py). Nothing here is realised: see wiring/ for
addresses and messages, lab.py for what runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from netlab.impairment import Both
from netlab.nat import Firewall, Nat
from overlay.errors import Rejected

INTERNET = "internet"
NAME_DEFAULT = "lab"
WAN = "wan"

MTU_BYTES_DEFAULT = 1500
RANGE_DEFAULT = "10.1.0.0/16"
WITHIN_S_DEFAULT = 30.0

Role = Literal["host", "node", "registry", "client"]
Family = Literal["both", "ipv4", "ipv6"]
Via = Literal["", "lan", "direct", "punched", "relay"]


@dataclass(frozen=True, slots=True)
class Link:
    """A cable from a node or a router to a region, to a router's LAN, or to a LAN.

    A link is called after what it joins, "alice-home-a"; a node's second one to the same place,
    and any, by its end: "alice:eth1".
    """

    to: str = INTERNET
    name: str = "eth0"
    mtu_bytes: int = MTU_BYTES_DEFAULT
    ipv4: bool = True
    ipv6: bool = True
    impaired: Both = field(default_factory=Both)


@dataclass(frozen=True, slots=True)
class ExitOffer:
    """A zos node lets tenants out to the internet.

    uplink   the node's link beside which the exit has one of its own, with addresses of that LAN;
             one to a region they share, and the exit sends as the node
    beacons  nodes or regions that answer ping while the internet is there; none: the first region
    """

    uplink: str
    beacons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of its own. With several links the first one carries the default routes.

    role  "host": a machine and nothing more; "node": runs zos as a node of the lab's farm;
          "registry": runs the lab's registry, and is where people type; "client": an access
          device with a stock wg-quick file
    run   programs that are started with it, each an argv
    relay of a "node": the operator offers it as a relay to every tenant
    exit  of a "node": the operator offers it as an exit to every tenant
    """

    name: str
    links: tuple[Link, ...] = (Link(),)
    role: Role = "host"
    run: tuple[tuple[str, ...], ...] = ()
    relay: bool = False
    exit: ExitOffer | None = None

    @property
    def uplink(self) -> Link | None:
        """The link by which an exit lets out; None when it is none, or has no such link."""
        offer = self.exit
        return next((link for link in self.links if offer and link.name == offer.uplink), None)


@dataclass(frozen=True, slots=True)
class Router:
    """Joins one LAN, which bears its name, to a region - or, behind another router, to its LAN.

    On the router itself its link is called WAN, whatever the link says.
    """

    name: str
    uplink: Link = field(default_factory=Link)
    nat: Nat | None = None
    firewall: Firewall = "none"

    def __post_init__(self) -> None:
        if self.uplink.name != WAN:
            object.__setattr__(self, "uplink", replace(self.uplink, name=WAN))


@dataclass(frozen=True, slots=True)
class Lan:
    """A switch that leads nowhere else, unless one of its nodes is the gateway of the others."""

    name: str
    gateway: str = ""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the internet. Any two regions are joined; by default without any distance."""

    name: str


@dataclass(frozen=True, slots=True)
class Latency:
    """What lies between two regions."""

    between: tuple[str, str]
    impaired: Both


@dataclass(frozen=True, slots=True)
class Workload:
    """Something of a tenant's on a node, in a netns of its own; it answers with its name."""

    name: str
    at: str


@dataclass(frozen=True, slots=True)
class Access:
    """A client (a node with that role) that enters the network through one of its nodes."""

    client: str
    via: str


@dataclass(frozen=True, slots=True)
class Exit:
    """A member by which the network may be left; the lowest order that is healthy is taken."""

    node: str
    order: int = 0


@dataclass(frozen=True, slots=True)
class TenantNetwork:
    """A network document to be signed: nodes by name, nodes by invitation, clients, workloads.

    `relays` are nodes by way of which hidden members meet; they need not be members. Without
    `exits` nothing leaves the network.
    """

    name: str
    range: str = RANGE_DEFAULT
    nodes: tuple[str, ...] = ()
    invited: tuple[str, ...] = ()
    clients: tuple[Access, ...] = ()
    workloads: tuple[Workload, ...] = ()
    relays: tuple[str, ...] = ()
    exits: tuple[Exit, ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody with a key and networks."""

    name: str
    networks: tuple[TenantNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class Expect:
    """Who reaches whom. Ends are nodes ("alice") or workloads ("tenant/network/workload").

    "*" stands for every workload of a network ("tenant/network/*") or every node ("*").

    path       how the overlay gets there: "lan", "direct", "punched" (through what both sides have
               opened) or "relay"; "" for any way; with `via` the way to the exit
    via        the exit by which a node outside is reached, whose address it sees; "" for any
    within_s   how long it may take to become true
    at_s       on the timeline; None: when it is over
    """

    source: str
    target: str
    family: Family = "both"
    reached: bool = True
    path: Via = ""
    via: str = ""
    at_least_bit_s: int = 0
    at_most_bit_s: int = 0
    within_s: float = WITHIN_S_DEFAULT
    at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens at a time of the timeline: a verb of `zos lab` and its arguments.

    cut | plug LINK; impair LINK (with `impaired`); kill | restart | pause | resume NODE;
    partition (with `groups`); heal; reboot-nat ROUTER; exec NODE (with `argv`)
    """

    at_s: float
    verb: str
    target: str = ""
    impaired: Both | None = None
    groups: tuple[tuple[str, ...], ...] = ()
    argv: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """What may become a topology: nothing of it has been looked at."""

    nodes: tuple[Node, ...]
    routers: tuple[Router, ...] = ()
    lans: tuple[Lan, ...] = ()
    name: str = field(default=NAME_DEFAULT, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    regions: tuple[Region, ...] = field(default=(Region(INTERNET),), kw_only=True)
    latencies: tuple[Latency, ...] = field(default=(), kw_only=True)
    tenants: tuple[Tenant, ...] = field(default=(), kw_only=True)
    expects: tuple[Expect, ...] = field(default=(), kw_only=True)
    events: tuple[Event, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Topology(Draft):
    """A whole lab. Declaration order decides every address, so appending moves nothing."""

    def __post_init__(self) -> None:
        for fault in find_faults(self):
            raise fault

    @property
    def has_programs(self) -> bool:
        """Whether anything has to run in it, zos or what a node says."""
        return any(node.role != "host" or node.run for node in self.nodes)


def find_faults(topology: Draft) -> Iterator[Rejected]:
    """Every reason why this cannot be built, most fundamental first."""
    from netlab import faults  # it describes these values, and so needs them

    return faults.find(topology)
