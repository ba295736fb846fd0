"""Addresses and MACs made from numbers: the plan of a lab's address space."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from netlab.wiring.places import Kind, Pool

PUBLIC_IPV4 = "198.18.0.0/15"
_NODES_IPV4 = int(IPv4Address("198.18.0.0"))
_ROUTERS_IPV4 = int(IPv4Address("198.19.0.0"))
_NODES_IPV6 = int(IPv6Address("2001:db8::1:0"))
_ROUTERS_IPV6 = int(IPv6Address("2001:db8::2:0"))
_PUBLIC_IPV4 = {"node": _NODES_IPV4, "router": _ROUTERS_IPV4}
_PUBLIC_IPV6 = {"node": _NODES_IPV6, "router": _ROUTERS_IPV6}
# The first block of nodes' addresses is left to regions; hidden cores are above the routers.
_REGIONS = 32
_REGIONS_IPV4 = int(IPv4Address("198.18.0.1"))
_HIDDEN_IPV4 = int(IPv4Address("198.19.128.0"))
_CORES_IPV6 = int(IPv6Address("2001:db8::1"))
_LINK_LOCAL = int(IPv6Address("fe80::"))

# Runs of /24 networks, by first number and length: a LAN's first number is 1, wherever.
_LANS_IPV4: dict[Pool, tuple[tuple[str, int], ...]] = {
    "home": (("192.168.1.0", 254), ("172.24.0.0", 2048)),
    "lan": (("172.16.1.0", 2047), ("100.96.0.0", 8192)),
    "carrier": (("100.64.1.0", 8191),),
}
_LANS_IPV6: dict[Pool, int] = {
    "home": int(IPv6Address("2001:db8:1::")),
    "lan": int(IPv6Address("2001:db8:2::")),
    "carrier": int(IPv6Address("2001:db8:3::")),
}

LAN_LENGTH_IPV4, LAN_LENGTH_IPV6 = 24, 64
HOST_LENGTH_IPV4, HOST_LENGTH_IPV6 = 32, 128

FIRST_HOST = 10
LAST_HOST = 254
# On a cable to a router, and between two: the far end's and the near one's.
FAR_LINK_LOCAL = IPv6Address("fe80::1")
NEAR_LINK_LOCAL = IPv6Address("fe80::a")


def mac(netns_number: int, ifindex: int) -> bytes:
    """Locally administered; readable: namespace and interface are in it."""
    return b"\x02\x6c" + netns_number.to_bytes(2, "big") + ifindex.to_bytes(2, "big")


def pool_size(pool: Pool) -> int:
    return sum(length for _, length in _LANS_IPV4[pool])


def lan_number_ipv4(pool: Pool, number: int) -> int:
    """The first three bytes of the addresses of the pool's `number`-th LAN, counted from 1."""
    left = number - 1
    for first, length in _LANS_IPV4[pool]:
        if left < length:
            return (int(IPv4Address(first)) >> 8) + left
        left -= length
    raise AssertionError(f"{pool} {number}: refused by faults.py")


def lan_number_ipv6(pool: Pool, number: int) -> int:
    """The upper half of the addresses."""
    return (_LANS_IPV6[pool] >> 64) + number


def lan_ipv4(number: int, host: int) -> IPv4Address:
    return IPv4Address((number << 8) + host)


def lan_ipv6(number: int, host: int) -> IPv6Address:
    return IPv6Address((number << 64) + host)


def public_ipv4(kind: Kind, block: int, host: int) -> IPv4Address:
    """Of a node or router at a region; a block is what one core router serves."""
    return IPv4Address(_PUBLIC_IPV4[kind] + (block << 8) + host)


def public_ipv6(kind: Kind, block: int, host: int) -> IPv6Address:
    return IPv6Address(_PUBLIC_IPV6[kind] + (block << 8) + host)


def block_number(kind: Kind, block: int, version: int) -> int:
    """A block as its /24 or /120, counted from the first of all addresses."""
    return ((_PUBLIC_IPV4 if version == 4 else _PUBLIC_IPV6)[kind] >> 8) + block


def core_ipv4(number: int) -> IPv4Address:
    return IPv4Address((_REGIONS_IPV4 if number < _REGIONS else _HIDDEN_IPV4) + number)


def core_ipv6(number: int) -> IPv6Address:
    return IPv6Address(_CORES_IPV6 + number)


def link_local(host: int) -> IPv6Address:
    return IPv6Address(_LINK_LOCAL + host)
