"""A frame in one line: who sends to whom, what, how long. Pure; never fails."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_FRAGMENT = 44
_EXTENSIONS = {0, 43, _FRAGMENT, 60}  # what stands between IPv6's header and what it carries
_EXTENSION_BYTES = 8
_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmp6"}
_TCP_FLAGS = ((0x02, "syn"), (0x10, "ack"), (0x01, "fin"), (0x04, "rst"))
_ICMP = {0: "echo reply", 3: "unreachable", 8: "echo request", 11: "time exceeded"}
_ICMPV6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: "echo request",
    129: "echo reply",
    130: "multicast listener query",
    131: "multicast listener report",
    132: "multicast listener done",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    143: "multicast listener report",
}
_WIREGUARD = {1: "initiation", 2: "response", 3: "cookie", 4: "data"}
# Of a datagram's content; data is 32 bytes and more, in steps of 16.
_WIREGUARD_BYTES = {1: 148, 2: 92, 3: 64}
_WIREGUARD_DATA_BYTES_MIN = 32


@dataclass(frozen=True, slots=True)
class Summary:
    """`source` and `target` have their port after the last colon, where there is one."""

    protocol: str
    source: str
    target: str
    length_bytes: int  # of what the protocol carries; of all that follows the MACs where unknown
    note: str = ""

    def __str__(self) -> str:
        words = f"{self.source} > {self.target} {self.protocol} {self.length_bytes}"
        return f"{words} {self.note}" if self.note else words


def summarize(frame: bytes) -> Summary:
    kind = int.from_bytes(frame[12:14], "big")
    try:
        if kind == _IPV4:
            return _ipv4(frame[14:])
        if kind == _IPV6:
            return _ipv6(frame[14:])
        if kind == _ARP:
            return _arp(frame[14:])
    except (struct.error, IndexError, ValueError):
        pass  # cut short, or broken: told by its MACs
    return Summary(f"0x{kind:04x}", _mac(frame[6:12]), _mac(frame[:6]), max(0, len(frame) - 14))


def _ipv4(packet: bytes) -> Summary:
    start = 4 * (packet[0] & 15)
    ends = str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))
    total = int.from_bytes(packet[2:4], "big") or len(packet)
    if int.from_bytes(packet[6:8], "big") & 0x1FFF:
        return Summary(_name(packet[9]), *ends, total - start, "fragment")
    return _transport(packet[9], packet[start:total], ends)


def _ipv6(packet: bytes) -> Summary:
    ends = f"[{IPv6Address(packet[8:24])}]", f"[{IPv6Address(packet[24:40])}]"
    length = int.from_bytes(packet[4:6], "big") or len(packet) - 40
    protocol, segment = packet[6], packet[40 : 40 + length]
    while protocol in _EXTENSIONS and len(segment) >= _EXTENSION_BYTES:
        following, size = segment[0], _EXTENSION_BYTES * (1 + segment[1])
        if protocol == _FRAGMENT:
            size = _EXTENSION_BYTES
            if int.from_bytes(segment[2:4], "big") & 0xFFF8:
                return Summary(_name(following), *ends, len(segment) - size, "fragment")
        protocol, segment = following, segment[size:]
    return _transport(protocol, segment, ends)


def _transport(protocol: int, segment: bytes, ends: tuple[str, str]) -> Summary:
    name = _name(protocol)
    if name in ("tcp", "udp"):
        ports = struct.unpack_from("!HH", segment)
        source, target = (f"{end}:{port}" for end, port in zip(ends, ports, strict=True))
        if name == "udp":
            content = segment[8:]
            return Summary(name, source, target, len(content), _wireguard(content))
        length = len(segment) - 4 * (segment[12] >> 4)
        flags = " ".join(word for bit, word in _TCP_FLAGS if segment[13] & bit)
        return Summary(name, source, target, length, flags)
    known = {"icmp": _ICMP, "icmp6": _ICMPV6}.get(name, {})
    return Summary(name, *ends, len(segment), known.get(segment[0], "") if segment else "")


def _wireguard(content: bytes) -> str:
    """By type and length: whoever imitates that is taken for it."""
    if content[1:4] != b"\0\0\0":
        return ""
    kind, length = content[0], len(content)
    is_data = kind == 4 and length >= _WIREGUARD_DATA_BYTES_MIN and length % 16 == 0
    if not is_data and _WIREGUARD_BYTES.get(kind) != length:
        return ""
    return f"WireGuard {_WIREGUARD[kind]}"


def _arp(packet: bytes) -> Summary:
    note = {1: "who has", 2: "is at"}.get(int.from_bytes(packet[6:8], "big"), "")
    ends = (str(IPv4Address(packet[14:18])), str(IPv4Address(packet[24:28])))
    return Summary("arp", *ends, len(packet), note)


def _name(protocol: int) -> str:
    return _PROTOCOLS.get(protocol, f"ip-{protocol}")


def _mac(packed: bytes) -> str:
    return packed.hex(":")
