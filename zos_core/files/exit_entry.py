"""`[nodes.NAME.exit]` of a farm file, as its operator writes it, and the offer that it says."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from overlay.documents.exits import (
    DEFAULT_CONNECTIONS,
    DEFAULT_CONNECTIONS_PER_S,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_S,
    MAX_GATEWAYS,
    MAX_UPLINK_ADDRESSES,
    AddressText,
    Beacons,
    ExitOffer,
    Guards,
    PrefixText,
    Resolvers,
    Uplink,
    check_exit_offers,
)
from overlay.documents.fields import RateMbit
from overlay.documents.published import PublishRanges
from overlay.errors import Rejected

_UPLINK = re.compile(
    r"(?P<kind>macvlan|bridge|interface):(?P<link>[^:]+)|(?P<vlan_kind>vlan):(?P<vlan_link>[^:]+):"
    r"(?P<number>[1-9][0-9]{0,3})",
    re.ASCII,
)
_HOW_UPLINKS_ARE_WRITTEN = "write macvlan:eth0, bridge:br0, vlan:eth0:100 or interface:eth0"
# Where the document has a struct, a person writes its parts beside the rest.
_OF_THE_OFFER = re.compile(r"^exits\[0\]\.(?:uplink\.(?=addresses|gateways|ipv[46]))?")


class ExitEntry(msgspec.Struct, frozen=True, kw_only=True):
    """How the traffic of tenants leaves by the node; what is not written is as in the offer."""

    # macvlan:LINK, bridge:LINK, vlan:LINK:NUMBER or interface:LINK
    uplink: Annotated[str, Meta(max_length=64)]
    addresses: Annotated[tuple[PrefixText, ...], Meta(max_length=MAX_UPLINK_ADDRESSES)] = ()
    beacons: Beacons
    gateways: Annotated[tuple[AddressText, ...], Meta(max_length=MAX_GATEWAYS)] = ()
    ipv4: Literal["static", "dhcp"] = "static"
    ipv6: Literal["static", "slaac"] = "static"
    ipv6_prefix: PrefixText | None = None
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
    publish: PublishRanges = ()  # tcp/8000-8999
    draining_until: datetime | None = None


def exit_offer(entry: ExitEntry, *, node: str, name: str) -> ExitOffer:
    """The offer of the node that the file calls `name`. Raises Rejected naming the key there."""
    field = f"nodes.{name}.exit"
    offer = ExitOffer(
        node=node,
        uplink=_uplink(entry, field),
        beacons=entry.beacons,
        resolvers=entry.resolvers,
        refuse=entry.refuse,
        allow=entry.allow,
        smtp=entry.smtp,
        local=entry.local,
        connections=entry.connections,
        connections_per_s=entry.connections_per_s,
        rate_mbit=entry.rate_mbit,
        publish=entry.publish,
        draining_until=_unix(entry.draining_until, f"{field}.draining_until"),
    )
    try:
        check_exit_offers((offer,), nodes=(node,))
    except Rejected as exc:
        key = _OF_THE_OFFER.sub("", exc.field or "")
        where = f"nodes.{name}.node" if key == "node" else f"{field}.{key}"
        raise Rejected(exc.message, field=where, remedy=exc.remedy) from exc
    return offer


def written_defaults() -> dict[str, object]:
    """What a file need not say, by key."""
    fields = msgspec.structs.fields(ExitEntry)
    return {each.name: each.default for each in fields if not each.required}


def _uplink(entry: ExitEntry, field: str) -> Uplink:
    match = _UPLINK.fullmatch(entry.uplink)
    if match is None:
        raise Rejected(
            f"{entry.uplink!r} is no uplink",
            field=f"{field}.uplink",
            remedy=_HOW_UPLINKS_ARE_WRITTEN,
        )
    found = {
        "kind": match["kind"] or match["vlan_kind"],
        "link": match["link"] or match["vlan_link"],
        "vlan": int(match["number"]) if match["number"] else None,
        "addresses": entry.addresses,
        "gateways": entry.gateways,
        "ipv4": entry.ipv4,
        "ipv6": entry.ipv6,
        "ipv6_prefix": entry.ipv6_prefix,
    }
    try:
        return msgspec.convert(found, Uplink)
    except msgspec.ValidationError as exc:
        # Kind and addresses have the shapes of the entry: it is the link's name, or the number.
        what = "number of a VLAN" if "$.vlan" in str(exc) else "name of a link"
        raise Rejected(
            f"{entry.uplink!r} has no {what}",
            field=f"{field}.uplink",
            remedy=_HOW_UPLINKS_ARE_WRITTEN,
        ) from exc


def _unix(at: datetime | None, field: str) -> int | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise Rejected("has no time zone", field=field, remedy="write it with a Z")
    seconds = int(at.timestamp())
    if seconds < 0:
        raise Rejected("is before 1970", field=field)
    return seconds
