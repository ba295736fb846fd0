"""A wired lab as values: its cables and their ends, LANs, core routers, and who has which address.

They are made in wirer.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from netlab.impairment import Both
from netlab.topology import Link, Router, Topology
from netlab.wiring import addresses
from netlab.wiring.places import Places
from overlay.errors import Rejected

LAN = "lan"
BRIDGE_IFINDEX = 3

LOOPBACK_IFINDEX = 1


@dataclass(frozen=True, slots=True)
class End:
    """One end of a cable, or a bridge."""

    netns: str
    name: str
    ifindex: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Gateway:
    """The next hop out of a place."""

    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    mac: bytes


@dataclass(frozen=True, slots=True)
class Station:
    """A node's or a router's own end: its addresses, and the way out where there is one."""

    end: End
    link: Link
    shard: int  # which core router of the region; 0 at a LAN
    on_lan: bool
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    link_local: IPv6Address | None
    gateway: Gateway | None
    metric: int


@dataclass(frozen=True, slots=True)
class Subnet:
    """A LAN. It has a bridge unless it joins exactly two, who then need none.

    end  the bridge, or the router's own end; None between two of whom neither is the router
    """

    name: str
    number_ipv4: int
    number_ipv6: int
    router: Router | None
    gateway: str
    is_switched: bool
    end: End | None
    stations: tuple[Station, ...]

    @property
    def gateway_end(self) -> End | None:
        """Where what wants to leave the LAN is received."""
        if self.router is not None:
            return self.end
        ends = (each.end for each in self.stations if each.end.netns == self.gateway)
        return next(ends, None)

    @property
    def ipv4(self) -> IPv4Address:
        """The router's, where there is one."""
        return addresses.lan_ipv4(self.number_ipv4, 1)

    @property
    def ipv6(self) -> IPv6Address:
        return addresses.lan_ipv6(self.number_ipv6, 1)


@dataclass(frozen=True, slots=True)
class Core:
    """A router without a LAN of its own: a region, or a hidden part of one that is large."""

    netns: str
    region: str
    shard: int
    number: int
    netns_number: int

    @property
    def ipv4(self) -> IPv4Address:
        return addresses.core_ipv4(self.number)

    @property
    def ipv6(self) -> IPv6Address:
        return addresses.core_ipv6(self.number)

    def port(self, ifindex: int) -> End:
        mac = addresses.mac(self.netns_number, ifindex)
        return End(netns=self.netns, name=f"p{ifindex}", ifindex=ifindex, mac=mac)


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair. `near` is the end that declares the link, `far` what it leads to.

    name      what people call it
    names     all that they may call it
    impaired  as seen from `near`
    """

    near: End
    far: End
    mtu_bytes: int
    impaired: Both
    names: tuple[str, ...]
    subnet: str  # the LAN that it is part of; empty at a region
    near_station: Station | None = None
    far_station: Station | None = None

    @property
    def name(self) -> str:
        return self.names[0]


@dataclass(frozen=True, slots=True)
class Wiring:
    """All cables of a lab: those of nodes in order of declaration, of routers, of the core."""

    topology: Topology
    places: Places
    cores: tuple[Core, ...]
    subnets: Mapping[str, Subnet]
    stations: Mapping[str, tuple[Station, ...]]
    cables: tuple[Cable, ...]
    named: Mapping[str, tuple[Cable, ...]]  # by each name; more than one cable can have it

    def cables_of(self, name: str) -> tuple[Cable, ...]:
        """Those that a node or a router declares, at whichever end."""
        ends = {station.end for station in self.stations.get(name, ())}
        return tuple(each for each in self.cables if each.near in ends or each.far in ends)

    def cables_at(self, name: str) -> tuple[Cable, ...]:
        """Those that end in this namespace without being its own."""
        own = {station.end for station in self.stations.get(name, ())}
        return tuple(each for each in self.cables if each.far.netns == name and each.far not in own)

    def cable(self, name: str) -> Cable:
        """By one of its names. Raises Rejected for a name that is unknown or not one cable's."""
        found = self.named.get(name, ())
        if len(found) == 1:
            return found[0]
        if found:
            raise Rejected(
                f"{len(found)} links are called {name!r}",
                field="link",
                remedy=f"say {' or '.join(repr(cable.names[-1]) for cable in found)}",
            )
        nearest = difflib.get_close_matches(name, self.named, n=1, cutoff=0.0)
        remedy = f"did you mean {nearest[0]!r}?" if nearest else "this lab has no links"
        raise Rejected(f"there is no link {name!r}", field="link", remedy=remedy)
