"""Datagrams over a WebSocket, each a binary message (RFC 6455). The same at both ends.

aiohttp's objects come in; it is imported by who makes them.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import sslproto
from typing import Protocol

from overlay.relay.backlog import Backlog
from overlay.relay.messages import DATA_MAX_BYTES

PATH = "/relay"
# aiohttp refuses a message of this size; the longest datagram is one byte less.
MAX_MESSAGE_BYTES = DATA_MAX_BYTES + 1
BATCH = 64  # messages before anything else has its turn
BINARY, PING, PONG = 0x2, 0x9, 0xA  # RFC 6455 section 11.8
# What the system and the event loop hold of what is written: beyond it, the backlog drops.
WRITE_BYTES = 64 << 10
READ_BYTES = 32 << 10
UNSENT_BYTES = 128 << 10
UNANSWERED_S = 10  # what was sent and not acknowledged for so long is lost, and the connection too

_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h


class WebSocket(Protocol):
    async def send_bytes(self, data: bytes) -> None: ...


class Sender:
    """Writes what is put, in order, as fast as the other side takes it; drops the oldest else."""

    def __init__(self, websocket: WebSocket) -> None:
        self.backlog = Backlog()
        self._websocket = websocket
        self._some = asyncio.Event()

    def put(self, packet: bytes) -> None:
        self.backlog.put(packet)
        self._some.set()

    async def run(self) -> None:
        """Until cancelled. Raises ConnectionError when the connection has ended."""
        while True:
            await self._some.wait()
            self._some.clear()
            for _ in range(BATCH):
                if (packet := self.backlog.take()) is None:
                    break
                await self._websocket.send_bytes(packet)
            else:
                self._some.set()
            await asyncio.sleep(0)


def read_little() -> None:
    """TLS connections that are made from now on read into 32 KiB each, two records.

    asyncio gives them 256 KiB, written with zeros, and no way to say otherwise: a thousand
    connections that say nothing would take a quarter of a gigabyte.
    """
    sslproto.SSLProtocol.max_size = READ_BYTES


def bound_buffers(transport: asyncio.Transport) -> None:
    """From now on little is held of what is written, and a dead connection ends soon."""
    transport.set_write_buffer_limits(high=WRITE_BYTES)
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_S * 1_000)
