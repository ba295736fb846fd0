"""Desired and actual state of network resources, in one type.

A `Resource` is one tenant netns with everything in it that we own. `desired` comes from documents,
`actual` from the kernel; `plan` turns the difference into changes. Values hold no private key: a
device is identified by its public key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from overlay.model import Address, Family, InterfaceAddress, Prefix, WgDevice

WG_LINK = "wg0"
DRAIN_LINK = "wg1"  # to the exit that drains, for the flows that began at it (EXIT-060)
BRIDGE_LINK = "br0"
LOOPBACK_LINK = "lo"
EXIT_LINK = "up0"  # of an exit node: to its egress netns, which owns it (EXIT-033)
NETNS_PREFIX = "n-"
BIRTH_PREFIXES = {WG_LINK: "w-", DRAIN_LINK: "d-"}
PORT_PREFIX = "p-"
ROUTE_PROTOCOL = 159  # marks routes as owned; unassigned in /etc/iproute2/rt_protos (NET-060)
MAIN_TABLE = 254  # linux/rtnetlink.h
DRAIN_TABLE = 159  # how flows leave that began at the exit that drains
DRAIN_PRIORITY = 159  # before the main table, after the local one
EVERYWHERE = (Prefix("0.0.0.0/0"), Prefix("::/0"))
LOOPBACK_MTU_BYTES = 65536  # what the kernel gives lo
ALL_BITS = 0xFFFFFFFF  # of a packet mark


class LinkKind(StrEnum):
    WIREGUARD = "wireguard"  # of either back end; a TUN link of wireguard-go is one too
    BRIDGE = "bridge"
    PORT = "port"  # the tenant side of a workload's veth pair
    LOOPBACK = "loopback"
    FOREIGN = "foreign"  # holds one of our names and is something else


class Link(msgspec.Struct, frozen=True):
    kind: LinkKind
    up: bool
    mtu_bytes: int
    mac: str | None = None  # bridges only are written; None where we do not care
    master: str | None = None
    addresses: frozenset[InterfaceAddress] = frozenset()


class Route(msgspec.Struct, frozen=True, order=True):
    """An owned route of the tenant netns."""

    prefix: Prefix
    link: str
    table: int = MAIN_TABLE


class Rule(msgspec.Struct, frozen=True, order=True):
    """An owned routing rule: packets with the mark are looked up in the table first."""

    family: Family
    mark: int
    table: int
    priority: int = DRAIN_PRIORITY
    mask: int = ALL_BITS


class Attachment(msgspec.Struct, frozen=True):
    """How a workload joins a network resource: its netns, the link inside it, its addresses.

    `netns` is a path to a network namespace. The link inside gets `mac`, both addresses, the
    resource's MTU and default routes by way of the gateway.
    """

    name: str  # what a person calls it; a label, unique in the resource
    netns: str
    link: str
    address_v4: InterfaceAddress
    address_v6: InterfaceAddress
    gateway_v4: Address
    gateway_v6: Address
    mac: str
    port: str  # link name of the tenant side: p-2 .. p-254
    mtu_bytes: int


class Firewall(msgspec.Struct, frozen=True):
    """The nftables tables of a tenant netns.

    `listing` is the kernel's own normal form (see nft.py) and is what is compared. `ruleset` is
    what has to be loaded to get it; the actual state has none.
    """

    listing: str
    ruleset: str = ""


class Resource(msgspec.Struct, frozen=True):
    """One tenant netns: what should be in it, or what is."""

    netns: str  # n-<13 characters>
    present: bool = True  # the netns is pinned under its name
    newborn: frozenset[str] = frozenset()  # WireGuard links with birth names in the underlay netns
    device: WgDevice | None = None
    drain: WgDevice | None = None  # on wg1; with listen port 0 any will do
    links: Mapping[str, Link] = MappingProxyType({})
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    sysctls: Mapping[str, str] = MappingProxyType({})  # "net/ipv4/ip_forward" -> "1"; owned ones
    firewall: Firewall | None = None
    attachments: Mapping[str, Attachment] = MappingProxyType({})  # by port link name
    foreign: frozenset[str] = frozenset()  # links of others, left alone and reported; never desired


def absent_resource(netns: str) -> Resource:
    """Nothing of the resource is left."""
    return Resource(netns=netns, present=False)


def birth_link(netns: str, link: str = WG_LINK) -> str:
    """Name that a WireGuard link of a tenant netns has in the underlay netns (NET-004)."""
    return BIRTH_PREFIXES[link] + netns.removeprefix(NETNS_PREFIX)


def netns_of_birth(link: str) -> str | None:
    """The tenant netns that a link of this name in the underlay netns was born for."""
    return NETNS_PREFIX + link[2:] if _BIRTH_NAME.fullmatch(link) else None


_BIRTH_NAME = re.compile(r"[wd]-[a-z2-7]{13}")
