"""Echo requests from inside a tenant netns, and whose answers came. Decides nothing.

The sockets live in that netns and keep it alive: who removes it closes them first.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from overlay.model import Address
from overlay.netns.namespaces import hop

MAX_ASKED = 256  # requests whose answers are waited for
_ECHO = struct.Struct("!BBHHH")  # RFC 792, RFC 4443 section 4.1
_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
_SOL_RAW, _ICMP_FILTER = 255, 1  # linux/icmp.h
_ICMP6_FILTER = 1  # linux/icmpv6.h
_BUFFER_BYTES = 64 << 10


class Echoes:
    """A raw socket of each family in one netns. `netns` is a path to it."""

    def __init__(self, netns: str) -> None:
        """Raises OSError or Unavailable when the netns is not there."""
        self.netns = _identity(netns)
        self._identifier = int.from_bytes(os.urandom(2))
        self._sequence = 0
        self._asked: dict[int, tuple[Address, float]] = {}
        with hop(netns):
            self._sockets = {
                family: socket.socket(family, socket.SOCK_RAW, protocol)
                for family, protocol in (
                    (socket.AF_INET, socket.IPPROTO_ICMP),
                    (socket.AF_INET6, socket.IPPROTO_ICMPV6),
                )
            }
        for family, sock in self._sockets.items():
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            _hear_replies_only(sock, family)

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    def is_in(self, netns: str) -> bool:
        """Whether the netns at this path is the one that the sockets are in."""
        try:
            return _identity(netns) == self.netns
        except OSError:
            return False

    def ask(self, address: Address, *, now: float) -> None:
        """One request. That it cannot be sent is as good as no answer."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._asked[self._sequence] = (address, now)
        if len(self._asked) > MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        try:
            self._sockets[family].sendto(self._request(family), (address, 0))
        except OSError:
            return

    def answers(self) -> Iterator[tuple[Address, float]]:
        """Who has answered since the last call, and when it was asked."""
        for family, sock in self._sockets.items():
            while (received := _receive(sock)) is not None:
                packet, source = received
                body = packet[(packet[0] & 0xF) * 4 :] if family == socket.AF_INET else packet
                if len(body) < _ECHO.size:
                    continue
                kind, _, _, identifier, sequence = _ECHO.unpack_from(body)
                asked = self._asked.get(sequence)
                is_ours = (kind, identifier) == (_REPLY[family], self._identifier)
                if is_ours and asked is not None and asked[0] == source:
                    del self._asked[sequence]
                    yield asked

    def _request(self, family: int) -> bytes:
        """The kernel fills in the checksum of ICMPv6 (RFC 3542 section 3.1), not that of ICMP."""
        kind = _REQUEST[socket.AddressFamily(family)]
        total = (kind << 8) + self._identifier + self._sequence
        total = (total & 0xFFFF) + (total >> 16)
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        return _ECHO.pack(kind, 0, checksum, self._identifier, self._sequence)


def _identity(netns: str) -> tuple[int, int]:
    found = Path(netns).stat()
    return found.st_dev, found.st_ino


def _receive(sock: socket.socket) -> tuple[bytes, str] | None:
    try:
        packet, source = sock.recvfrom(2_048)
    except OSError:
        return None
    return packet, source[0]


def _hear_replies_only(sock: socket.socket, family: int) -> None:
    if family == socket.AF_INET:
        others = ~(1 << _REPLY[socket.AF_INET]) & 0xFFFFFFFF
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("@I", others))
        return
    kind = _REPLY[socket.AF_INET6]
    blocked = [0xFFFFFFFF] * 8
    blocked[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
    sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("@8I", *blocked))
