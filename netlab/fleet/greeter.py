"""Workloads that say who they are, on TCP and UDP, in both families.

Two tenants use the same addresses, so an answer alone proves nothing: only the name in it says
who was reached. All of them live in the owner's event loop, in sockets opened in their netns, so
a thousand cost no process.

UDP: QUESTION and a nonce are answered with ANSWER, the nonce and a greeting.
TCP: whoever connects is told a greeting and a newline; what it sends then is counted.

A greeting is the name, a space, and the address that whoever asks has here.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import cast

from netlab.lab_node import LabNode

PORT = 7007
QUESTION = b"Q"
ANSWER = b"A"  # another byte than a question, so that no two greeters talk for ever
NONCE_BYTES = 8
GREETING_BYTES_MAX = 256
RECEIVE_BYTES = 1 << 20  # of a socket's buffer: a whole network may ask at once


class Greeter:
    """Everybody in a lab who answers with a name."""

    def __init__(self) -> None:
        self._listening: dict[
            tuple[str, str], tuple[asyncio.DatagramTransport, asyncio.Server]
        ] = {}
        self._connections: set[asyncio.Transport] = set()
        self._received_bytes: Counter[str] = Counter()

    async def listen(self, node: LabNode, name: str, *, netns: str = "") -> None:
        """Answers on a node, or in one of its netns, with `name`. Idempotent."""
        if (node.name, netns) in self._listening:
            return
        loop = asyncio.get_running_loop()
        udp, tcp = (_bound(node, kind, netns) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(name), sock=udp)
        server = await loop.create_server(lambda: _Connection(name, self), sock=tcp)
        self._listening[node.name, netns] = transport, server

    def leave_workloads(self, node: str) -> None:
        """Nobody answers in a workload of the node any more, and no socket keeps its netns."""
        self._leave([key for key in self._listening if key[0] == node and key[1]])

    def received_bytes(self, name: str) -> int:
        """How much was sent by TCP to whoever answers with this name, since the beginning."""
        return self._received_bytes[name]

    def count(self, name: str, received_bytes: int) -> None:
        self._received_bytes[name] += received_bytes

    def opened(self, connection: asyncio.Transport) -> None:
        self._connections.add(connection)

    def closed(self, connection: asyncio.Transport) -> None:
        self._connections.discard(connection)

    def close(self) -> None:
        """Nobody answers any more, and no socket keeps a netns."""
        self._leave(list(self._listening))
        for connection in tuple(self._connections):
            connection.abort()

    def _leave(self, keys: list[tuple[str, str]]) -> None:
        for key in keys:
            datagrams, server = self._listening.pop(key)
            datagrams.abort()
            server.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        if self._transport is not None and data[:1] == QUESTION:
            greeting = _greeting(self._name, addr)
            self._transport.sendto(ANSWER + data[1 : 1 + NONCE_BYTES] + greeting, addr)

    def error_received(self, exc: Exception) -> None:
        """An asker that has gone is no concern of ours."""


class _Connection(asyncio.Protocol):
    def __init__(self, name: str, greeter: Greeter) -> None:
        self._name = name
        self._greeter = greeter
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._greeter.opened(self._transport)
        asker = transport.get_extra_info("peername")
        self._transport.write(_greeting(self._name.encode(), asker) + b"\n")

    def data_received(self, data: bytes) -> None:
        self._greeter.count(self._name, len(data))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._transport is not None:
            self._greeter.closed(self._transport)


def _greeting(name: bytes, asker: tuple[object, ...]) -> bytes:
    """An IPv4 address as such, though the socket is one for both families."""
    return name + b" " + str(asker[0]).removeprefix("::ffff:").encode()


def _bound(node: LabNode, kind: int, netns: str) -> socket.socket:
    """For both families."""
    sock = node.socket(socket.AF_INET6, kind | socket.SOCK_NONBLOCK, netns=netns)
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == socket.SOCK_DGRAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        sock.bind(("::", PORT))
    except OSError:
        sock.close()
        raise
    return sock
