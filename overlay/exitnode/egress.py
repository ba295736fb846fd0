"""The egress netns of an exit node, as data: one uplink, one leg for each tenant network.

A leg is a veth pair between a tenant netns (`up0` there) and the egress netns. Its addresses are
link-local in IPv4, which no tenant's range may be, and from one ULA /64 in IPv6; so two tenants
with the same range do not meet here. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from overlay import addressing
from overlay.documents.exits import ROUTED_BITS, ExitOffer, Uplink, learnt_families
from overlay.errors import Refused
from overlay.exitnode import daemons
from overlay.exitnode.daemons import Daemon
from overlay.exitnode.guards import Guards
from overlay.model import Address, Family, InterfaceAddress, NetworkId, Prefix, Protocol
from overlay.netns.state import EXIT_LINK

EGRESS_NETNS = "x-egress"
UPLINK_LINK = "ext0"
NEXT_UPLINK = "ext1"  # an uplink that is being made, while another one is in use
UPLINK_PORT = "x-uplink"  # in the underlay netns, where the uplink is a port of a bridge
LEG_LINK = EXIT_LINK  # in a tenant netns
LEG_PREFIX = "t-"
MAX_LEGS = 256  # tenant networks at one exit; each costs its limits in connections

# Slot n has the n-th pair of addresses. 169.254.169.254 is in none of them.
SLOTS = 4_096
_LEGS_V4 = Prefix("169.254.64.0/18")
_LEGS_V6 = Prefix("fd7a:6f73:6578::/64")

SYSCTLS: Mapping[str, str] = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "1",
    "net/ipv4/conf/all/accept_redirects": "0",
    "net/ipv6/conf/all/accept_redirects": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    # Else the address that was there first takes along the others of its prefix.
    "net/ipv4/conf/all/promote_secondaries": "1",
    f"net/ipv4/conf/{UPLINK_LINK}/send_redirects": "0",
    f"net/ipv6/conf/{UPLINK_LINK}/accept_redirects": "0",
    f"net/ipv6/conf/{UPLINK_LINK}/use_tempaddr": "0",
}


ACCEPT_RA = f"net/ipv6/conf/{UPLINK_LINK}/accept_ra"  # 2: although packets are forwarded


class Leg(msgspec.Struct, frozen=True):
    """How one tenant network is joined to the egress netns."""

    network: NetworkId
    netns: str  # the tenant netns
    link: str  # in the egress netns
    inside_v4: InterfaceAddress  # of up0 in the tenant netns
    inside_v6: InterfaceAddress
    outside_v4: InterfaceAddress
    outside_v6: InterfaceAddress
    range_v6: Prefix  # of the network


class OpenPort(msgspec.Struct, frozen=True, order=True):
    """A port of the uplink's addresses that leads to a tenant network (PUB-020)."""

    network: NetworkId
    protocol: Protocol
    port: int


class Egress(msgspec.Struct, frozen=True):
    """What an egress netns should be."""

    offer: ExitOffer
    legs: tuple[Leg, ...]
    # Where the node itself is, and its neighbours.
    node_prefixes: tuple[Prefix, ...] = ()
    guards: Guards = Guards()
    families: tuple[Family, ...] = (4, 6)  # in which the node itself reaches the internet
    open_ports: tuple[OpenPort, ...] = ()  # of networks that have a leg; each port once

    @property
    def uplink(self) -> Uplink:
        return self.offer.uplink

    @property
    def is_shared(self) -> bool:
        """What goes out is sent by the node itself."""
        return self.uplink.kind == "interface"

    @property
    def learnt(self) -> tuple[Family, ...]:
        """In these the uplink has what its network says."""
        return learnt_families(self.uplink)

    @property
    def routed(self) -> dict[NetworkId, Prefix]:
        """What networks have of the prefix that is routed to the uplink."""
        return select_prefixes(self.uplink, (leg.network for leg in self.legs))

    @property
    def addresses(self) -> frozenset[InterfaceAddress]:
        """Those that the uplink is to have."""
        if self.is_shared:
            return frozenset(daemons.SHARED_ADDRESSES[family] for family in self.families)
        return frozenset(map(InterfaceAddress, self.uplink.addresses))

    def gateways(self) -> dict[Prefix, Address]:
        """The default route of each family that has a gateway."""
        shared = [daemons.SHARED_GATEWAYS[family] for family in self.families]
        texts = shared if self.is_shared else self.uplink.gateways
        return {Prefix("::/0" if ":" in text else "0.0.0.0/0"): Address(text) for text in texts}

    def daemons(self) -> tuple[Daemon, ...]:
        """The daemons that it needs."""
        if self.is_shared:
            return (daemons.pasta(self.uplink, self.families, link=UPLINK_LINK),)
        return (daemons.udhcpc(link=UPLINK_LINK),) if 4 in self.learnt else ()

    def sysctls(self) -> dict[str, str]:
        """In the order in which they are written."""
        return {**SYSCTLS, ACCEPT_RA: "2" if 6 in self.learnt else "0"}


def select_legs(networks: Iterable[NetworkId]) -> tuple[Leg, ...]:
    """A leg for each network; those of others are the same with it and without it, but for a
    clash of slots. Raises Refused when there are more than one exit takes."""
    wanted = sorted(set(networks))
    if len(wanted) > MAX_LEGS:
        raise Refused(f"this exit has {MAX_LEGS} networks already", remedy="name another exit")
    taken: set[int] = set()
    legs = []
    for network in wanted:
        digest = addressing.resource_digest(network)
        hashed = hashlib.sha256(b"zos leg\x00" + network.encode()).digest()
        slot = int.from_bytes(hashed[:8], "big") % SLOTS
        while slot in taken:
            slot = (slot + 1) % SLOTS
        taken.add(slot)
        legs.append(_leg(network, digest, slot))
    return tuple(legs)


def select_prefixes(uplink: Uplink, networks: Iterable[NetworkId]) -> dict[NetworkId, Prefix]:
    """A part of the routed prefix for each network, as long as there is one; that of others is the
    same with it and without it, but for a clash."""
    if uplink.ipv6_prefix is None:
        return {}
    whole = Prefix(uplink.ipv6_prefix)
    slots = 1 << (ROUTED_BITS - int(whole.rpartition("/")[2]))
    taken: dict[int, NetworkId] = {}
    for network in sorted(set(networks))[:slots]:
        hashed = hashlib.sha256(b"zos routed\x00" + network.encode()).digest()
        slot = int.from_bytes(hashed[:8], "big") % slots
        while slot in taken:
            slot = (slot + 1) % slots
        taken[slot] = network
    return {
        network: addressing.subprefix(whole, slot, bits=ROUTED_BITS)
        for slot, network in taken.items()
    }


def source_families(addresses: Iterable[InterfaceAddress]) -> tuple[Family, ...]:
    """In which packets can leave with one of these as their source; by NAT44 also a private one."""
    alone = map(addressing.address_of, addresses)
    of_use = (each for each in alone if ":" not in each or not addressing.is_private(each))
    found: set[Family] = {6 if ":" in each else 4 for each in of_use}
    return tuple(sorted(found))


def _leg(network: NetworkId, digest: str, slot: int) -> Leg:
    v4 = [_host(_LEGS_V4, 2 * slot + end, bits=31) for end in (0, 1)]
    v6 = [_host(_LEGS_V6, 2 * slot + end, bits=127) for end in (0, 1)]
    return Leg(
        network=network,
        netns=addressing.netns_name(network),
        link=f"{LEG_PREFIX}{digest}",
        outside_v4=v4[0],
        outside_v6=v6[0],
        inside_v4=v4[1],
        inside_v6=v6[1],
        range_v6=addressing.ula_range(network),
    )


def _host(prefix: Prefix, host: int, *, bits: int) -> InterfaceAddress:
    address = addressing.address_of(addressing.host_address(prefix, host))
    return InterfaceAddress(f"{address}/{bits}")
