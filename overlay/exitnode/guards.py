"""Where no tenant's packet goes by way of an exit unless the operator says so (EXIT-020). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from overlay import addressing
from overlay.model import Address, NetworkId, Prefix

MAX_SERVICES = 256  # addresses that are guarded from every tenant
MAX_UNDERLAY = 16_384  # addresses that are guarded from one tenant each, of all tenants together

# What is not another's place in the internet (RFC 6890 and the registries of IANA that it made),
# the places of cloud metadata (169.254.169.254, fd00:ec2::254) among it. Blocks for documentation
# are left out: nobody is there.
SPECIAL_V4 = tuple(
    map(
        Prefix,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "224.0.0.0/3",
        ),
    )
)
# All but global unicast 2000::/3 (RFC 4291 section 2.4), and of that what carries an IPv4 address
# that the guards of IPv4 would not see: Teredo (RFC 4380) and 6to4 (RFC 3056).
SPECIAL_V6 = tuple(map(Prefix, ("::/3", "4000::/2", "8000::/1", "2001::/32", "2002::/16")))


class Guards(msgspec.Struct, frozen=True):
    """Single addresses in the internet that are refused: what overlays themselves stand on.

    A tenant's own documents guard from that tenant only: what it writes down takes nothing from
    another.
    """

    services: tuple[Address, ...] = ()  # registries and relays that the operator uses
    underlay: Mapping[NetworkId, tuple[Address, ...]] = MappingProxyType({})  # a tenant's own


def guarded(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """What is refused by default: special places, and `prefixes`, as few as can be."""
    return addressing.merged((*SPECIAL_V4, *SPECIAL_V6, *prefixes))


def select_guards(
    *, services: Iterable[Address], underlay: Mapping[NetworkId, Iterable[Address]]
) -> Guards:
    """As many as there is room for, the first ones first; every tenant has the same share.

    Addresses that mean something within one site only are refused anyway.
    """
    share = MAX_UNDERLAY // max(1, len(underlay))
    return Guards(
        _first(services, MAX_SERVICES),
        {network: _first(addresses, share) for network, addresses in underlay.items()},
    )


def _first(addresses: Iterable[Address], bound: int) -> tuple[Address, ...]:
    public = dict.fromkeys(each for each in addresses if not addressing.is_private(each))
    return tuple(sorted([*public][:bound]))
