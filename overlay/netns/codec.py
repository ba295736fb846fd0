"""What rtnetlink tells, as values, and those values as the state of a tenant netns. Pure.

This is where ownership is decided: by name for links, by protocol for routes, by link for
addresses. What is not owned does not get into a state, so no plan can touch it (NET-061).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from overlay.model import Address, InterfaceAddress, Prefix
from overlay.netns.state import (
    ALL_BITS,
    BRIDGE_LINK,
    DRAIN_LINK,
    DRAIN_TABLE,
    EXIT_LINK,
    LOOPBACK_LINK,
    MAIN_TABLE,
    PORT_PREFIX,
    ROUTE_PROTOCOL,
    WG_LINK,
    Attachment,
    Link,
    LinkKind,
    Route,
    Rule,
)

_IFF_UP = 1  # linux/if.h
_IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_PERMANENT = 0x08, 0x40, 0x80  # linux/if_addr.h
_AF_INET, _AF_INET6 = 2, 10
_RTN_UNICAST = 1
_SCOPE_LINK = 253
_PORT_NAME = re.compile(rf"{PORT_PREFIX}[0-9]{{1,3}}")
_KINDS = {
    "wireguard": LinkKind.WIREGUARD,
    "tun": LinkKind.WIREGUARD,
    "bridge": LinkKind.BRIDGE,
    "veth": LinkKind.PORT,
}


class KernelLink(msgspec.Struct, frozen=True):
    index: int
    name: str
    kind: str  # of IFLA_INFO_KIND; empty for lo and hardware
    up: bool
    mtu_bytes: int
    mac: str | None
    master: int | None  # index
    learns: bool = False  # a bridge learns MACs from the frames of this port
    # Index of a veth's other end, or of the link that a macvlan or VLAN is on, in its netns.
    other_end: int | None = None
    vlan: int | None = None


class KernelAddress(msgspec.Struct, frozen=True):
    link: int  # index
    address: InterfaceAddress
    automatic: bool  # the kernel's own link-local address
    lasting: bool = True  # whoever gave it said no time at which it ends
    usable: bool = True  # not while the link is asked whether another has it (RFC 4862)


class KernelRoute(msgspec.Struct, frozen=True):
    """A unicast route in the main table, or in the one of the exit that drains."""

    prefix: Prefix
    link: int  # index
    protocol: int
    gateway: Address | None = None
    table: int = MAIN_TABLE


class KernelRule(msgspec.Struct, frozen=True):
    """A routing rule, as far as ours say something."""

    rule: Rule
    protocol: int


class Snapshot(msgspec.Struct, frozen=True):
    """What is in one netns."""

    links: tuple[KernelLink, ...]
    addresses: tuple[KernelAddress, ...]
    routes: tuple[KernelRoute, ...]
    rules: tuple[KernelRule, ...] = ()

    def link(self, name: str) -> KernelLink | None:
        return next((link for link in self.links if link.name == name), None)


def parse_link(message: Any) -> KernelLink:
    """From an RTM_NEWLINK message as pyroute2 decodes it."""
    return KernelLink(
        index=message["index"],
        name=message.get("ifname"),
        kind=message.get(("linkinfo", "kind")) or "",
        up=bool(message["flags"] & _IFF_UP),
        mtu_bytes=message.get("mtu"),
        mac=message.get("address") or None,
        master=message.get("master") or None,
        learns=bool(message.get(("linkinfo", "slave_data", "learning"))),
        other_end=message.get("link") or None,
        vlan=message.get(("linkinfo", "data", "vlan_id")) if _is_vlan(message) else None,
    )


def _is_vlan(message: Any) -> bool:
    return bool(message.get(("linkinfo", "kind")) == "vlan")


def parse_address(message: Any) -> KernelAddress:
    """From an RTM_NEWADDR message. With a peer, `local` is ours and `address` is the peer's."""
    text = message.get("local") or message.get("address")
    return KernelAddress(
        link=message["index"],
        address=InterfaceAddress(f"{text}/{message['prefixlen']}"),
        automatic=message["family"] == _AF_INET6 and message["scope"] == _SCOPE_LINK,
        lasting=bool(message["flags"] & _IFA_F_PERMANENT),
        usable=not message["flags"] & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED),
    )


def parse_route(message: Any) -> KernelRoute | None:
    """From an RTM_NEWROUTE message; None: no unicast route by one link in a table of ours."""
    table = message.get("table")
    if message["type"] != _RTN_UNICAST or table not in (MAIN_TABLE, DRAIN_TABLE):
        return None
    if (link := message.get("oif")) is None:
        return None
    anywhere = "::" if message["family"] == _AF_INET6 else "0.0.0.0"
    prefix = Prefix(f"{message.get('dst') or anywhere}/{message['dst_len']}")
    return KernelRoute(prefix, link, message["proto"], message.get("gateway") or None, table)


def parse_rule(message: Any) -> KernelRule | None:
    """From an RTM_NEWRULE message; None when it is about neither IPv4 nor IPv6."""
    if message["family"] not in (_AF_INET, _AF_INET6):
        return None
    rule = Rule(
        family=6 if message["family"] == _AF_INET6 else 4,
        mark=message.get("fwmark") or 0,
        table=message.get("table") or 0,
        priority=message.get("priority") or 0,
        mask=message.get("fwmask", ALL_BITS),
    )
    return KernelRule(rule, message.get("protocol") or 0)


def owned_links(snapshot: Snapshot) -> dict[str, Link]:
    """Links that have one of our names, with what is on them."""
    names = {link.index: link.name for link in snapshot.links}
    return {
        link.name: Link(
            kind=_kind(link),
            up=link.up,
            mtu_bytes=link.mtu_bytes,
            mac=link.mac if link.kind == "bridge" else None,
            master=names.get(link.master) if link.master else None,
            addresses=_addresses(snapshot.addresses, link),
        )
        for link in snapshot.links
        if _is_owned(link.name)
    }


def foreign_links(snapshot: Snapshot) -> frozenset[str]:
    """Links in a tenant netns that are somebody else's."""
    return frozenset(
        link.name for link in snapshot.links if not _is_owned(link.name) and link.name != EXIT_LINK
    )


def owned_routes(snapshot: Snapshot) -> frozenset[Route]:
    names = {link.index: link.name for link in snapshot.links}
    return frozenset(
        Route(route.prefix, names[route.link], route.table)
        for route in snapshot.routes
        if route.protocol == ROUTE_PROTOCOL and names.get(route.link, EXIT_LINK) != EXIT_LINK
    )


def owned_rules(snapshot: Snapshot) -> frozenset[Rule]:
    return frozenset(each.rule for each in snapshot.rules if each.protocol == ROUTE_PROTOCOL)


def joined_workload(
    attachment: Attachment, *, tenant: Snapshot, workload: Snapshot
) -> Attachment | None:
    """What there is of `attachment`; None when the link is not the other end of its port.

    Where the link has another address or gateway than it should, that one is told, and empty text
    where it has none. The workload may have more of its own.
    """
    port, link = tenant.link(attachment.port), workload.link(attachment.link)
    if port is None or link is None or link.kind != "veth":
        return None
    if (port.index, link.index) != (link.other_end, port.other_end):
        return None
    addresses = _addresses(workload.addresses, link)
    gateways = {
        route.gateway
        for route in workload.routes
        if route.link == link.index and route.protocol == ROUTE_PROTOCOL and route.gateway
    }
    return msgspec.structs.replace(
        attachment,
        address_v4=_found(attachment.address_v4, addresses),
        address_v6=_found(attachment.address_v6, addresses),
        gateway_v4=_found(attachment.gateway_v4, gateways),
        gateway_v6=_found(attachment.gateway_v6, gateways),
        # A port from which the bridge learns does not hold the workload to its MAC.
        mac="" if port.learns or port.master is None else link.mac or "",
        mtu_bytes=link.mtu_bytes if link.up else 0,
    )


def _found(wanted: str, there: Iterable[str]) -> str:
    """What is wanted when it is there, else the first other one of its family, else nothing."""
    same_family = sorted(text for text in there if (":" in text) == (":" in wanted))
    return wanted if wanted in same_family else next(iter(same_family), "")


def _is_owned(name: str) -> bool:
    return name in _OWNED_NAMES or _PORT_NAME.fullmatch(name) is not None


_OWNED_NAMES = frozenset((LOOPBACK_LINK, WG_LINK, DRAIN_LINK, BRIDGE_LINK))


def _kind(link: KernelLink) -> LinkKind:
    if link.name == LOOPBACK_LINK:
        return LinkKind.LOOPBACK
    return _KINDS.get(link.kind, LinkKind.FOREIGN)


def _addresses(addresses: Iterable[KernelAddress], link: KernelLink) -> frozenset[InterfaceAddress]:
    if link.name == LOOPBACK_LINK:
        return frozenset()
    return frozenset(a.address for a in addresses if a.link == link.index and not a.automatic)
