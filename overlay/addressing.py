"""From a network range and an index to prefixes, addresses and link names.

Every member of a tenant network has one index: its subnets are the index-th /24 of the IPv4 range
and the index-th /64 of the network's ULA /48 (spec NET-010 .. NET-016). The only user of netaddr.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

import netaddr

from overlay.errors import Rejected
from overlay.model import (
    Address,
    Endpoint,
    Family,
    InterfaceAddress,
    NetworkId,
    NodeId,
    Prefix,
)

SUBNET_BITS_V4 = 24
SUBNET_BITS_V6 = 64
RANGE_BITS_MIN = 8  # a /8 holds 65 536 members, as many as a /48 holds /64s
RANGE_BITS_MAX = 23  # a /23 holds two members; a network of one needs no overlay
GATEWAY_HOST = 1  # .1 and ::1 of every subnet belong to the node
FIRST_WORKLOAD_HOST = 2
LAST_WORKLOAD_HOST = 254
MTU_MIN_BYTES = 1280  # RFC 8200 section 5: the least an IPv6 link may have

# Ranges that would take over what a workload needs to stay what it is (RFC 6890).
_FORBIDDEN_V4 = netaddr.IPSet(
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"]
)

_PRIVATE = tuple(
    map(Prefix, ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)


def parse_prefix(text: str, *, field: str | None = None) -> Prefix:
    """Canonical text of a prefix. Raises Rejected when `text` is no prefix or not canonical."""
    try:
        network = netaddr.IPNetwork(text)
    except (netaddr.AddrFormatError, ValueError, TypeError) as exc:
        raise Rejected(
            f"{text!r} is not a prefix", field=field, remedy="write it like 10.1.0.0/16"
        ) from exc
    canonical = str(network.cidr)
    if text != canonical:
        raise Rejected(f"{text!r} is not canonical", field=field, remedy=f"write {canonical}")
    return Prefix(canonical)


def parse_address(text: str, *, field: str | None = None) -> Address:
    """Canonical text of an address. Raises Rejected when `text` is no address or not canonical."""
    try:
        canonical = _canonical_address(text)
    except (netaddr.AddrFormatError, ValueError, TypeError) as exc:
        raise Rejected(f"{text!r} is not an IP address", field=field) from exc
    if text != canonical:
        raise Rejected(f"{text!r} is not canonical", field=field, remedy=f"write {canonical}")
    return Address(canonical)


@lru_cache(maxsize=1024)
def _canonical_address(text: str) -> str:
    """What a document says is read once to check it, and again to use it."""
    return str(netaddr.IPAddress(text, flags=netaddr.INET_PTON))


def parse_endpoint(text: str, *, field: str | None = None) -> Endpoint:
    """ "1.2.3.4:51820" or "[fd00::1]:51820". Raises Rejected with what is wrong."""
    host, colon, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host) != bracketed:
        raise Rejected(
            f"{text!r} is not an endpoint",
            field=field,
            remedy="write 1.2.3.4:51820 or [fd00::1]:51820",
        )
    if not (port_text.isascii() and port_text.isdigit() and str(int(port_text)) == port_text):
        raise Rejected(f"{port_text!r} is not a port", field=field)
    if not 1 <= (port := int(port_text)) <= 65535:
        raise Rejected(f"port {port} is not between 1 and 65535", field=field)
    return Endpoint(parse_address(host[1:-1] if bracketed else host, field=field), port)


def endpoint_of(text: str) -> Endpoint:
    """The endpoint in a text that `parse_endpoint` has let pass."""
    host, _, port = text.rpartition(":")
    return Endpoint(Address(host.strip("[]")), int(port))


def refuse_local(address: Address, *, field: str | None = None) -> None:
    """Raise Rejected unless the address may be another machine's and only one's (DOC-029)."""
    it = _parsed(address)
    mapped = it.version == 6 and it.is_ipv4_mapped()
    if it.is_loopback() or it.is_link_local() or it.is_multicast() or mapped or _is_special(it):
        raise Rejected(f"{address} leads to no other machine", field=field)


def _is_special(it: netaddr.IPAddress) -> bool:
    """0.0.0.0/8 and 240.0.0.0/4 (RFC 1122 section 3.2.1.3, RFC 1112 section 4), and ::"""
    return int(it) == 0 if it.version == 6 else int(it) >> 24 == 0 or int(it) >> 28 == 0xF


def parse_range(text: str, *, field: str | None = None) -> Prefix:
    """An IPv4 range that a tenant network may use: /8 to /23, unicast, not reserved (NET-011)."""
    prefix = parse_prefix(text, field=field)
    network = netaddr.IPNetwork(prefix)
    if network.version != 4:
        raise Rejected("the range is IPv4; the IPv6 range follows from the network id", field=field)
    if not RANGE_BITS_MIN <= network.prefixlen <= RANGE_BITS_MAX:
        raise Rejected(
            f"a /{network.prefixlen} range is not between /{RANGE_BITS_MIN} and /{RANGE_BITS_MAX}",
            field=field,
        )
    if _FORBIDDEN_V4 & netaddr.IPSet([network]):
        raise Rejected(f"{prefix} overlaps a reserved range", field=field, remedy="use 10.0.0.0/8")
    return prefix


@lru_cache(maxsize=4096)
def index_count(range_v4: Prefix) -> int:
    """How many members the range has room for; indexes run from 0 to this - 1."""
    return 1 << (SUBNET_BITS_V4 - int(range_v4.rpartition("/")[2]))


@lru_cache(maxsize=4096)
def ula_range(network: NetworkId) -> Prefix:
    """The IPv6 /48 of a network: fd + 40 bits of SHA-256 over its id (RFC 4193 section 3.2.2)."""
    digest = hashlib.sha256(b"zos ula\x00" + network.encode()).digest()
    return Prefix(
        str(netaddr.IPNetwork((int.from_bytes(b"\xfd" + digest[:5], "big") << 80, 48), version=6))
    )


def subprefix(prefix: Prefix, number: int, *, bits: int) -> Prefix:
    """The number-th part of the prefix that has this length."""
    host_bits = (128 if ":" in prefix else 32) - bits
    family = _family(prefix)
    return Prefix(f"{netaddr.IPAddress(_first(prefix) + (number << host_bits), family)}/{bits}")


def _first(prefix: Prefix) -> int:
    return _span(prefix)[0]


@lru_cache(maxsize=4096)
def _span(prefix: Prefix) -> tuple[int, int]:
    """The first and the last address."""
    network = netaddr.IPNetwork(prefix, version=_family(prefix))
    return int(network.first), int(network.last)


@lru_cache(maxsize=65_536)
def _value(address: Address) -> int:
    return int(_parsed(address)) if ":" in address else _value_v4(address)


def _value_v4(address: str) -> int:
    a, b, c, d = map(int, address.split("."))
    return a << 24 | b << 16 | c << 8 | d


@lru_cache(maxsize=4096)
def _parsed(address: Address) -> netaddr.IPAddress:
    # Not told the family, netaddr tries IPv4, and leaves the exception in a cycle.
    return netaddr.IPAddress(address, _family(address))


def subnet_v4(range_v4: Prefix, index: int) -> Prefix:
    """The index-th /24 of the range."""
    value = _first(range_v4) + (index << 8)
    return Prefix(f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.0/24")


@lru_cache(maxsize=4096)
def subnet_v6(range_v6: Prefix, index: int) -> Prefix:
    """The index-th /64 of the ULA /48."""
    value = _first(range_v6) + (index << 64)
    return Prefix(f"{netaddr.IPAddress(value, 6)}/64")


@lru_cache(maxsize=4096)
def subnets(range_v4: Prefix, range_v6: Prefix, index: int) -> tuple[Prefix, ...]:
    """The subnets of one index in both families, sorted as text."""
    return tuple(sorted((subnet_v4(range_v4, index), subnet_v6(range_v6, index))))


def merged_subnets(
    range_v4: Prefix, range_v6: Prefix, spans: Iterable[range]
) -> tuple[Prefix, ...]:
    """The subnets of all indexes in `spans`, as few prefixes of both families, sorted as text."""
    ranges, prefixes = tuple(spans), []
    for prefix, bits in ((range_v4, 8), (range_v6, 64)):
        first, version = _first(prefix), _family(prefix)
        networks = netaddr.IPSet(
            netaddr.IPRange(
                netaddr.IPAddress(first + (span.start << bits), version),
                netaddr.IPAddress(first + (span.stop << bits) - 1, version),
            )
            for span in ranges
        )
        prefixes += [Prefix(str(network)) for network in networks.iter_cidrs()]
    return tuple(sorted(prefixes))


def host_address(subnet: Prefix, host: int) -> InterfaceAddress:
    """The host-th address of a subnet with the subnet's prefix length: 10.1.3.1/24."""
    length = subnet.rpartition("/")[2]
    value = netaddr.IPAddress(_first(subnet) + host, _family(subnet))
    return InterfaceAddress(f"{value}/{length}")


def host_addresses(
    range_v4: Prefix, range_v6: Prefix, *, index: int, host: int
) -> tuple[Address, Address]:
    """The host-th addresses of the index-th subnets: by their text, for there are many of them."""
    v4, v6 = subnet_v4(range_v4, index), subnet_v6(range_v6, index)
    return Address(f"{v4.removesuffix('0/24')}{host}"), Address(f"{v6.removesuffix('/64')}{host:x}")


def address_of(interface_address: InterfaceAddress) -> Address:
    return Address(interface_address.partition("/")[0])


@lru_cache(maxsize=65_536)
def prefix_of(interface_address: InterfaceAddress) -> Prefix:
    """The prefix that an interface address is in: 10.1.3.0/24 of 10.1.3.7/24."""
    if ":" in interface_address:
        return Prefix(str(netaddr.IPNetwork(interface_address, version=6).cidr))
    address, _, length = interface_address.partition("/")
    free = 32 - int(length)
    value = _value_v4(address) >> free << free
    return Prefix(f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}/{length}")


def contains(prefix: Prefix, address: Address) -> bool:
    if (":" in prefix) != (":" in address):
        return False
    first, last = _span(prefix)
    return first <= _value(address) <= last


def packed(address: Address) -> bytes:
    """The address as it is in a packet: 4 or 16 bytes."""
    return bytes(_parsed(address).packed)


def unpacked(raw: bytes) -> Address:
    """The address that a packet has as 4 or 16 bytes."""
    if len(raw) == 4:
        return Address(f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}")
    return Address(str(netaddr.IPAddress(int.from_bytes(raw, "big"), 6)))


def link_local(mac: str) -> Address:
    """The link-local address that a link with this MAC gives itself (RFC 4291 appendix A)."""
    return Address(str(netaddr.EUI(mac).ipv6_link_local()))


@lru_cache(maxsize=65_536)
def is_private(address: Address) -> bool:
    """Means something within one site only: RFC 1918, RFC 6598, RFC 4193."""
    return any(contains(prefix, address) for prefix in _PRIVATE)


def is_loopback(address: Address) -> bool:
    """Whether it means whoever says it."""
    return _parsed(address).is_loopback()


def is_link_local(address: Address) -> bool:
    return bool(_parsed(address).is_link_local())


def overlaps(prefixes: Iterable[Prefix]) -> tuple[Prefix, Prefix] | None:
    """The first two prefixes that share an address, or None when all are disjoint."""
    for (family, _, last, left), (other, first, _, right) in pairwise(_in_order(prefixes)):
        if family == other and -last >= first:
            return left, right
    return None


def _in_order(prefixes: Iterable[Prefix]) -> list[tuple[int, int, int, Prefix]]:
    """Family, first and negated last address: whoever has others inside comes before them."""
    return sorted(
        (_family(prefix), first, -last, prefix)
        for prefix in prefixes
        for first, last in (_span(prefix),)
    )


@lru_cache(maxsize=256)
def outside(range_v4: Prefix, range_v6: Prefix) -> tuple[Prefix, ...]:
    """All of both families but these two, as few prefixes as can be, sorted as text."""
    return tuple(sorted((*_siblings(range_v4), *_siblings(range_v6))))


def _siblings(prefix: Prefix) -> Iterator[Prefix]:
    """The other half of each prefix around this one: together all but this one."""
    family, first = _family(prefix), _first(prefix)
    bits = 128 if family == 6 else 32
    for length in range(1, int(prefix.rpartition("/")[2]) + 1):
        free = bits - length
        value = (first >> free ^ 1) << free
        yield Prefix(str(netaddr.IPNetwork((value, length), version=family)))


def merged(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """The same addresses in as few prefixes of both families as can be, sorted as text."""
    networks = [netaddr.IPNetwork(prefix, version=_family(prefix)) for prefix in prefixes]
    return tuple(sorted(Prefix(str(network)) for network in netaddr.cidr_merge(networks)))


def resource_digest(network: NetworkId) -> str:
    """13 characters of base32 naming a network outside its tenant netns (65 bits, NET-004)."""
    digest = hashlib.sha256(b"zos resource\x00" + network.encode()).digest()
    return base64.b32encode(digest).decode().lower()[:13]


def netns_name(network: NetworkId) -> str:
    """Name of the tenant netns: n- and 13 characters, 15 bytes like any link name."""
    return f"n-{resource_digest(network)}"


def birth_link_name(network: NetworkId) -> str:
    """Name the WireGuard link has in the underlay netns while it is born and moved."""
    return f"w-{resource_digest(network)}"


def bridge_mac(network: NetworkId, node: NodeId) -> str:
    """Locally administered unicast MAC of br0: the same after every restart."""
    return _mac(hashlib.sha256(f"{network}\x00{node}".encode()).digest())


def port_mac(network: NetworkId, address: Address) -> str:
    """MAC of the workload that holds `address`: the same after every restart."""
    return _mac(hashlib.sha256(f"{network}\x00{address}".encode()).digest())


def port_link_name(address: Address) -> str:
    """Name of a workload's port on br0, from its IPv4 host part: p-2 .. p-254 (NET-021)."""
    return f"p-{address.rpartition('.')[2]}"


def _family(text: str) -> Family:
    return 6 if ":" in text else 4


def _mac(digest: bytes) -> str:
    first = (digest[0] & 0xFC) | 0x02
    return ":".join(f"{octet:02x}" for octet in (first, *digest[1:6]))
