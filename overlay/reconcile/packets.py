"""The few packets that a node sends by itself to get WireGuard going. Nobody waits for them."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable, Iterable

from overlay.errors import Unavailable
from overlay.model import Address, Endpoint
from overlay.netns.namespaces import hop

log = logging.getLogger(__name__)

DISCARD_PORT = 9  # RFC 863
OPENING = b"\x00"  # shorter than any WireGuard message, which is how WireGuard ignores it
_UDP = struct.Struct("!HHHH")  # RFC 768
_UDP_CHECKSUM_OFFSET = 6
_IPV6_CHECKSUM = 7  # linux/in6.h
_ECHO = struct.Struct("!BBHHH")  # RFC 792
_ECHO_REQUEST = 8


def poke(netns: str, addresses: Iterable[Address]) -> None:
    """One empty datagram to each address, from inside the netns: a handshake begins.

    Whether it arrives matters to nobody.
    """
    _send_inside(
        netns,
        addresses,
        socket.SOCK_DGRAM,
        0,
        lambda sock, to: sock.sendto(b"", (to, DISCARD_PORT)),
    )


def ask(netns: str, addresses: Iterable[Address]) -> None:
    """One echo request to each address, from inside the netns; WireGuard counts what comes back."""
    request = _echo_request()
    _send_inside(
        netns,
        addresses,
        socket.SOCK_RAW,
        socket.IPPROTO_ICMP,
        lambda sock, to: sock.sendto(request, (to, 0)),
    )


def open_ways(listen_port: int, endpoints: Iterable[Endpoint]) -> None:
    """One small packet to each endpoint from WireGuard's port: NATs and firewalls let answers in.

    WireGuard's socket belongs to WireGuard, so the packets are made by hand; no port is opened.
    """
    for endpoint in endpoints:
        family = socket.AF_INET if endpoint.family == 4 else socket.AF_INET6
        header = _UDP.pack(listen_port, endpoint.port, _UDP.size + len(OPENING), 0)
        try:
            with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP) as sender:
                sender.setblocking(False)
                # A raw socket hears whatever comes for its protocol; nobody listens to this one.
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
                if family == socket.AF_INET6:
                    sender.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, _UDP_CHECKSUM_OFFSET)
                sender.sendto(header + OPENING, (endpoint.address, 0))
        except OSError as exc:
            log.debug("no way opened", extra={"reason": str(exc)})


def _send_inside(
    netns: str,
    addresses: Iterable[Address],
    kind: int,
    protocol: int,
    send: Callable[[socket.socket, Address], object],
) -> None:
    targets = tuple(addresses)
    if not targets:
        return
    try:
        with hop(netns), socket.socket(socket.AF_INET, kind, protocol) as sender:
            sender.setblocking(False)
            for address in targets:
                try:
                    send(sender, address)
                except OSError as exc:
                    log.debug("packet not sent", extra={"reason": str(exc)})
    except (OSError, Unavailable) as exc:
        log.debug("packet not sent", extra={"reason": str(exc)})


def _echo_request() -> bytes:
    """Without identifier, sequence and payload: the answer is WireGuard's to count."""
    checksum = ~(_ECHO_REQUEST << 8) & 0xFFFF  # RFC 1071, of a packet that is zero but for its type
    return _ECHO.pack(_ECHO_REQUEST, 0, checksum, 0, 0)
