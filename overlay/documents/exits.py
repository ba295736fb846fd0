"""Exit nodes in documents: what a farm offers, what an exit tells peers (EXIT-001 .. EXIT-008)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from overlay import addressing
from overlay.documents.fields import IdText, RateMbit, UnixTime, check_distinct, check_id
from overlay.documents.published import (
    PublishedStates,
    PublishRanges,
    check_publish_ranges,
    check_published_states,
)
from overlay.errors import Rejected
from overlay.keys.identity import Kind
from overlay.model import InterfaceAddress, Prefix

MAX_EXIT_OFFERS = 64  # of one farm
MAX_EXITS = 16  # of one network
MAX_ORDER = 255
MAX_BEACONS = 8
MAX_RESOLVERS = 4
MAX_GUARD_PREFIXES = 64  # of each list
MAX_UPLINK_ADDRESSES = 8
MAX_GATEWAYS = 2  # one of each family
MIN_ROUTED_BITS = 32  # of an IPv6 prefix that is routed to an uplink: as much as a provider has
ROUTED_BITS = 56  # of the part that a network has of it: 256 members with a /64 each
MAX_CONNECTIONS = 1 << 20
MAX_CONNECTIONS_PER_S = 100_000
# Quad9's, for exits whose operator names none: public, validating, the same ones from everywhere.
DEFAULT_RESOLVERS = ("9.9.9.9", "149.112.112.112", "2620:fe::fe", "2620:fe::9")
DEFAULT_CONNECTIONS = 16_384
DEFAULT_CONNECTIONS_PER_S = 500

# What the kernel takes as a link name, and no path or pattern (dev_valid_name, net/core/dev.c).
LINK_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,14}$(?!\n)"

LinkName = Annotated[str, Meta(pattern=LINK_PATTERN, max_length=15)]
AddressText = Annotated[str, Meta(max_length=45)]
PrefixText = Annotated[str, Meta(max_length=49)]
Beacons = Annotated[tuple[AddressText, ...], Meta(min_length=1, max_length=MAX_BEACONS)]
Resolvers = Annotated[tuple[AddressText, ...], Meta(max_length=MAX_RESOLVERS)]
PublicAddresses = Annotated[tuple[AddressText, ...], Meta(max_length=MAX_UPLINK_ADDRESSES)]
Guards = Annotated[tuple[PrefixText, ...], Meta(max_length=MAX_GUARD_PREFIXES)]


class Uplink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an exit is connected: by a link of its own, made on the node's `link`.

    An "interface" has none: what goes out is sent by the node itself, from its own addresses.
    """

    kind: Literal["macvlan", "vlan", "bridge", "interface"]
    link: LinkName
    addresses: Annotated[tuple[PrefixText, ...], Meta(max_length=MAX_UPLINK_ADDRESSES)] = ()
    gateways: Annotated[tuple[AddressText, ...], Meta(max_length=MAX_GATEWAYS)] = ()
    vlan: Annotated[int, Meta(ge=1, le=4_094)] | None = None
    # Where addresses and the gateway of a family come from.
    ipv4: Literal["static", "dhcp"] = "static"
    ipv6: Literal["static", "slaac"] = "static"
    ipv6_prefix: PrefixText | None = None  # that is routed to the uplink


class ExitOffer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In a farm: this node lets the traffic of tenants who name it out, within these limits.

    The limits are those of one tenant network. What the guards refuse, `refuse` adds to and
    `allow` takes from. A `local` one is for what is on this node itself, of networks that say so;
    who names the node gets nothing of it.
    """

    node: IdText
    uplink: Uplink
    beacons: Beacons  # answer ping while the internet can be reached
    resolvers: Resolvers = ()
    refuse: Guards = ()
    allow: Guards = ()
    smtp: bool = False
    local: bool = False
    connections: Annotated[int, Meta(ge=1, le=MAX_CONNECTIONS)] = DEFAULT_CONNECTIONS
    connections_per_s: Annotated[int, Meta(ge=1, le=MAX_CONNECTIONS_PER_S)] = (
        DEFAULT_CONNECTIONS_PER_S
    )
    rate_mbit: RateMbit = 0
    publish: PublishRanges = ()  # ports of the uplink's addresses that tenants may publish
    draining_until: UnixTime | None = None


class Exit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """In a network: this member may be its way to the internet. Lower orders are preferred."""

    node: IdText
    order: Annotated[int, Meta(ge=0, le=MAX_ORDER)] = 0


class ExitService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In a member: this node is an exit of the network, and has what it needs to be one."""

    beacons: Beacons
    families: Annotated[tuple[Literal[4, 6], ...], Meta(min_length=1, max_length=2)]
    resolvers: Resolvers = ()
    draining_until: UnixTime | None = None
    # What may be published here: at which addresses, which ports; and what became of the network's.
    addresses: PublicAddresses = ()
    publish: PublishRanges = ()
    published: PublishedStates = ()


def learnt_families(uplink: Uplink) -> tuple[Literal[4, 6], ...]:
    """Those in which the network that the uplink leads to gives addresses and a gateway."""
    learnt: list[Literal[4, 6]] = [4] if uplink.ipv4 == "dhcp" else []
    return (*learnt, 6) if uplink.ipv6 == "slaac" else tuple(learnt)


def check_exit_offers(offers: tuple[ExitOffer, ...], *, nodes: Iterable[str]) -> None:
    """Raise Rejected unless each offer is of one of the farm's nodes, and of another one."""
    known = frozenset(nodes)
    for n, offer in enumerate(offers):
        field = f"exits[{n}]"
        check_id(Kind.NODE, offer.node, f"{field}.node")
        if offer.node not in known:
            raise Rejected(
                f"{offer.node[:90]} is no node of this farm",
                field=f"{field}.node",
                remedy="add the node to the farm first",
            )
        _check_uplink(offer.uplink, f"{field}.uplink")
        if offer.local and offer.publish:
            raise Rejected("nothing is published at a local way out", field=f"{field}.publish")
        _check_addresses(offer.beacons, f"{field}.beacons")
        _check_addresses(offer.resolvers, f"{field}.resolvers")
        _check_guards(offer, field)
        check_publish_ranges(offer.publish, f"{field}.publish")
        if offer.publish and not offer.uplink.addresses:
            raise Rejected(
                "the uplink has no address that is written down",
                field=f"{field}.publish",
                remedy="publish at static addresses of a macvlan, VLAN or bridge",
            )
    check_distinct((offer.node for offer in offers), "exits")


def check_exits(exits: tuple[Exit, ...], *, members: Iterable[str]) -> None:
    """Raise Rejected unless each exit is a node that the network lists, and another one."""
    known = frozenset(members)
    for n, each in enumerate(exits):
        check_id(Kind.NODE, each.node, f"exits[{n}].node")
        if each.node not in known:
            raise Rejected(
                f"{each.node[:90]} is no member that the network lists",
                field=f"exits[{n}].node",
                remedy="add the node to the network first",
            )
    check_distinct((each.node for each in exits), "exits")


def check_exit_service(service: ExitService) -> None:
    """Raise Rejected, naming the field, unless it is consistent in itself."""
    _check_addresses(service.beacons, "exit.beacons")
    _check_addresses(service.resolvers, "exit.resolvers")
    _check_addresses(service.addresses, "exit.addresses")
    check_publish_ranges(service.publish, "exit.publish")
    check_published_states(service.published, "exit.published")
    if list(service.families) != sorted(set(service.families)):
        raise Rejected("families are not sorted and distinct", field="exit.families")


def _check_uplink(uplink: Uplink, field: str) -> None:
    if (uplink.kind == "vlan") != (uplink.vlan is not None):
        raise Rejected("a VLAN has a number, and nothing else has one", field=f"{field}.vlan")
    _check_has_addresses(uplink, field)
    for n, text in enumerate(uplink.addresses):
        _check_interface_address(text, f"{field}.addresses[{n}]")
    check_distinct(uplink.addresses, f"{field}.addresses")
    _check_addresses(uplink.gateways, f"{field}.gateways", local=True)
    check_distinct((f"IPv{_family(text)}" for text in uplink.gateways), f"{field}.gateways")
    _check_reached(uplink, field)
    if uplink.ipv6_prefix is not None:
        _check_routed(uplink, uplink.ipv6_prefix, f"{field}.ipv6_prefix")


def _check_routed(uplink: Uplink, text: str, field: str) -> None:
    """Prefixes of networks are taken from it, and it leads to nobody else."""
    if uplink.kind == "interface":
        raise Rejected("nothing is routed to an interface's sockets", field=field)
    prefix = addressing.parse_prefix(text, field=field)
    if _family(text) != 6 or not MIN_ROUTED_BITS <= int(text.rpartition("/")[2]) <= ROUTED_BITS:
        raise Rejected(
            f"{text} is no IPv6 prefix of /{MIN_ROUTED_BITS} to /{ROUTED_BITS}", field=field
        )
    first = addressing.address_of(InterfaceAddress(prefix))
    addressing.refuse_local(first, field=field)
    if addressing.is_private(first):
        raise Rejected(f"{text} is private: nothing is routed to it", field=field)


def _check_has_addresses(uplink: Uplink, field: str) -> None:
    if uplink.kind == "interface":
        for name in ("addresses", "gateways"):
            if getattr(uplink, name):
                raise Rejected("an interface has those of the node", field=f"{field}.{name}")
    elif not uplink.addresses and not learnt_families(uplink):
        raise Rejected(
            "the uplink has no address", field=f"{field}.addresses", remedy="write 192.0.2.2/24"
        )
    for family in learnt_families(uplink):
        if uplink.kind == "interface":
            raise Rejected("an interface has those of the node", field=f"{field}.ipv{family}")
        for name in ("addresses", "gateways"):
            if any(_family(text) == family for text in getattr(uplink, name)):
                raise Rejected(
                    f"the network itself says what IPv{family} is here",
                    field=f"{field}.{name}",
                    remedy=f"write none of IPv{family}, or let it be static",
                )


def _check_reached(uplink: Uplink, field: str) -> None:
    """Each gateway is a neighbour by one of the addresses, and none of them."""
    for n, gateway in enumerate(uplink.gateways):
        address = addressing.parse_address(gateway)
        near = [
            text
            for text in map(InterfaceAddress, uplink.addresses)
            if addressing.contains(addressing.prefix_of(text), address)
        ]
        is_neighbour = near or (_family(gateway) == 6 and addressing.is_link_local(address))
        if not is_neighbour or any(addressing.address_of(text) == address for text in near):
            raise Rejected(
                f"{gateway} is no neighbour by any of the addresses",
                field=f"{field}.gateways[{n}]",
            )


def _check_interface_address(text: str, field: str) -> None:
    """An address another machine may reach, with a prefix length, in canonical text."""
    address, slash, length = text.partition("/")
    parsed = addressing.parse_address(address, field=field)
    addressing.refuse_local(parsed, field=field)
    bits = 128 if ":" in address else 32
    canonical = length.isascii() and length.isdigit() and str(int(length)) == length
    if not slash or not canonical or not 1 <= int(length) <= bits:
        raise Rejected(f"{text!r} has no prefix length", field=field, remedy="write 192.0.2.2/24")


def _check_guards(offer: ExitOffer, field: str) -> None:
    for name, prefixes in (("refuse", offer.refuse), ("allow", offer.allow)):
        for n, text in enumerate(prefixes):
            addressing.parse_prefix(text, field=f"{field}.{name}[{n}]")
        check_distinct(prefixes, f"{field}.{name}")
        # The kernel's sets of intervals take none that overlap.
        if clash := addressing.overlaps(map(Prefix, prefixes)):
            raise Rejected(f"{clash[0]} and {clash[1]} overlap", field=f"{field}.{name}")
    if both := set(offer.refuse) & set(offer.allow):
        raise Rejected(f"{min(both)} is refused and allowed", field=f"{field}.allow")


def _check_addresses(texts: tuple[str, ...], field: str, *, local: bool = False) -> None:
    for n, text in enumerate(texts):
        address = addressing.parse_address(text, field=f"{field}[{n}]")
        if not (local and addressing.is_link_local(address) and _family(text) == 6):
            addressing.refuse_local(address, field=f"{field}[{n}]")
    check_distinct(texts, field)


def _family(text: str) -> int:
    return 6 if ":" in text else 4
