"""Desired and actual state of network resources, in one type.

A `Resource` is one tenant netns with everything in it that we own. `desired` comes from documents,
`actual` from the kernel; `plan` turns the difference into changes. Values hold no private key: a
device is identified by its public key.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from overlay.model import Address, InterfaceAddress, Prefix, WgDevice

WG_LINK = "wg0"
BRIDGE_LINK = "br0"
ROUTE_PROTOCOL = 159  # marks routes as owned; unassigned in /etc/iproute2/rt_protos (NET-060)


class LinkKind(StrEnum):
    WIREGUARD = "wireguard"  # of either back end; a TUN link of wireguard-go is one too
    BRIDGE = "bridge"
    PORT = "port"  # the tenant side of a workload's veth pair
    LOOPBACK = "loopback"


class Link(msgspec.Struct, frozen=True):
    kind: LinkKind
    up: bool
    mtu_bytes: int
    mac: str | None = None  # bridges only are written; None where we do not care
    master: str | None = None
    addresses: frozenset[InterfaceAddress] = frozenset()


class Route(msgspec.Struct, frozen=True):
    """An owned route in the main table of the tenant netns."""

    prefix: Prefix
    link: str


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
    """The nftables tables of a tenant netns, in the kernel's own normal form (see nft.py)."""

    listing: str


class Resource(msgspec.Struct, frozen=True):
    """One tenant netns: what should be in it, or what is."""

    netns: str  # n-<13 characters>
    device: WgDevice | None
    links: Mapping[str, Link]
    routes: frozenset[Route]
    sysctls: Mapping[str, str]  # "net/ipv4/ip_forward" -> "1"; only those we own
    firewall: Firewall | None
    attachments: Mapping[str, Attachment]  # by port link name
