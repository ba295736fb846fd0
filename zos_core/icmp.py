"""Echo requests and what comes back: the packets (pure), and one exchange over a raw socket.

The kernel fills in the ICMPv6 checksum and hands over IPv6 packets without their header; for IPv4
it does neither (RFC 3542 section 3, raw(7)).
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from overlay.model import Address, Family

ECHO = {4: (8, 0), 6: (128, 129)}  # request and reply: RFC 792, RFC 4443 section 4
PAYLOAD_BYTES = 16
_HEADER = struct.Struct("!BBHHH")
_MAX_PACKET_BYTES = 2_048
_UNREACHABLE_V4 = {
    0: "no route to its network",
    1: "it cannot be reached",
    3: "its port is closed",
    4: "the packet is too large",
    13: "a firewall refuses",
}
_UNREACHABLE_V6 = {
    0: "no route",
    1: "a firewall refuses",
    3: "it cannot be reached",
    4: "its port is closed",
}


class Echo(NamedTuple):
    """What tells one request from all others."""

    identifier: int
    sequence: int
    payload: bytes


class Reply(NamedTuple):
    echo: Echo


class Unreachable(NamedTuple):
    """Somebody on the way says no to a request."""

    echo: Echo
    reason: str


class Pong(NamedTuple):
    """An answer: the round trip, or why there is none."""

    sequence: int
    rtt_ms: float | None
    reason: str


def encode_request(family: Family, echo: Echo) -> bytes:
    """An echo request. The checksum is that of ICMPv4; an ICMPv6 socket replaces it."""
    return _encode(ECHO[family][0], echo)


def parse_packet(family: Family, packet: bytes) -> Reply | Unreachable | None:
    """What a raw socket received; None for everything that is no answer to an echo request."""
    body = _strip_ipv4(packet) if family == 4 else packet
    if body is None or len(body) < _HEADER.size:
        return None
    kind, code, _, identifier, sequence = _HEADER.unpack_from(body)
    if kind == ECHO[family][1] and code == 0:
        return Reply(Echo(identifier, sequence, body[_HEADER.size :]))
    reason = _reason(family, kind, code)
    if reason is None:
        return None
    asked = _quoted(family, body[_HEADER.size :])
    return Unreachable(asked, reason) if asked is not None else None


def ping(
    open_socket: Callable[[int, int, int], socket.socket],
    target: Address,
    *,
    source: Address | None,
    sequence: int,
    timeout_s: float,
) -> Pong:
    """One request and its answer, over a raw socket that `open_socket` makes."""
    family: Family = 6 if ":" in target else 4
    domain = socket.AF_INET6 if family == 6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if family == 6 else socket.IPPROTO_ICMP
    # The nonce keeps an answer to somebody else's request from being ours.
    echo = Echo(os.getpid() & 0xFFFF, sequence & 0xFFFF, os.urandom(PAYLOAD_BYTES))
    with open_socket(domain, socket.SOCK_RAW, protocol) as sock:
        try:
            if source is not None:
                sock.bind((source, 0))
            start = time.monotonic()
            sock.sendto(encode_request(family, echo), (target, 0))
        except OSError as exc:
            return Pong(sequence, None, os.strerror(exc.errno or 0).lower())
        return _wait_reply(sock, family, target, echo, start=start, timeout_s=timeout_s)


def _wait_reply(
    sock: socket.socket,
    family: Family,
    target: Address,
    echo: Echo,
    *,
    start: float,
    timeout_s: float,
) -> Pong:
    while (left_s := start + timeout_s - time.monotonic()) > 0:
        sock.settimeout(left_s)
        try:
            packet, sender = sock.recvfrom(_MAX_PACKET_BYTES)
        except TimeoutError:
            break
        except OSError as exc:
            return Pong(echo.sequence, None, os.strerror(exc.errno or 0).lower())
        rtt_ms = (time.monotonic() - start) * 1_000
        match parse_packet(family, packet):
            case Reply(answered) if answered == echo and sender[0] == target:
                return Pong(echo.sequence, rtt_ms, "")
            case Unreachable(asked, reason) if asked[:2] == echo[:2]:
                return Pong(echo.sequence, None, f"{sender[0]} says: {reason}")
            case _:
                continue
    return Pong(echo.sequence, None, "no reply")


def _encode(kind: int, echo: Echo) -> bytes:
    body = _HEADER.pack(kind, 0, 0, echo.identifier, echo.sequence) + echo.payload
    return _HEADER.pack(kind, 0, _checksum(body), echo.identifier, echo.sequence) + echo.payload


def _checksum(body: bytes) -> int:
    # RFC 1071: one's complement of the one's complement sum of 16-bit words.
    padded = body + b"\0" * (len(body) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _strip_ipv4(packet: bytes) -> bytes | None:
    if not packet or packet[0] >> 4 != 4:
        return None
    return packet[(packet[0] & 15) * 4 :]


def _reason(family: Family, kind: int, code: int) -> str | None:
    if family == 4:
        if kind == 3:
            return _UNREACHABLE_V4.get(code, f"unreachable (code {code})")
        return "too many hops" if kind == 11 else None
    if kind == 1:
        return _UNREACHABLE_V6.get(code, f"unreachable (code {code})")
    return {2: "the packet is too large", 3: "too many hops"}.get(kind)


def _quoted(family: Family, packet: bytes) -> Echo | None:
    """The request inside an error, as far as it is quoted."""
    inner = _strip_ipv4(packet) if family == 4 else packet[40:]
    if inner is None or len(inner) < _HEADER.size:
        return None
    kind, _, _, identifier, sequence = _HEADER.unpack_from(inner)
    if kind != ECHO[family][0]:
        return None
    return Echo(identifier, sequence, inner[_HEADER.size :])
