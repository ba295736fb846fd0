"""A relay by TLS over TCP, for members where UDP is blocked (REL-050 ..).

A WebSocket is a source like a UDP address is: what comes by it goes to the relay's table, which
answers and forwards to it. Nothing is forwarded that the table would not.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

from aiohttp import web

from overlay.keys import tls
from overlay.ports import Clock, Secret
from overlay.relay.connections import Connections, End
from overlay.relay.limits import Place
from overlay.relay.server import Relay
from overlay.relay.websocket import (
    BATCH,
    BINARY,
    MAX_MESSAGE_BYTES,
    PATH,
    PING,
    PONG,
    WRITE_BYTES,
    Sender,
    bound_buffers,
    read_little,
)

CERTIFICATE_NAME = "zos relay"
HANDSHAKE_DEADLINE_S = 5.0
BACKLOG = 256
LOOK_EVERY_S = 1.0
NO_ROOM_S = 0.5  # without room for one more file, until the next try
STOP_DEADLINE_S = 0.5
CLOSE_DEADLINE_S = 1.0
MAX_LINE_BYTES = 2_048
MAX_HEADERS = 32

_log = logging.getLogger(__name__)


class Streams:
    """The connections of a relay that runs."""

    def __init__(
        self, relay: Relay, context: ssl.SSLContext, clock: Clock, connections: Connections
    ) -> None:
        self._relay = relay
        self._context = context
        self._clock = clock
        self._connections = connections
        self._server = _Server(self)
        self._transports: dict[Place, asyncio.Transport] = {}
        self._senders: dict[Place, Sender] = {}
        self._greeting: set[asyncio.Task[None]] = set()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def ends(self) -> Mapping[End, int]:
        """How many were refused or ended, by why."""
        return dict(self._connections.ends)

    @property
    def dropped(self) -> int:
        """How many datagrams were dropped because a member did not take them."""
        return self._dropped + sum(each.backlog.dropped for each in self._senders.values())

    @property
    def waiting_bytes(self) -> int:
        """What waits for members to take it."""
        return sum(each.backlog.size_bytes for each in self._senders.values())

    async def accept(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        """Take who calls there, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as exc:
                _log.warning("no connection taken", extra={"reason": str(exc)})
                await asyncio.sleep(NO_ROOM_S)
                continue
            place = self._connections.admit(address[0], address[1], self._clock.monotonic())
            if place is None:
                sock.close()
            else:
                task = group.create_task(self._greet(sock, place), name="relay connection")
                self._greeting.add(task)
                task.add_done_callback(self._greeting.discard)
            await asyncio.sleep(0)  # others have their turn, however many call

    async def end_overdue(self) -> None:
        """Connections for nobody end, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for place in self._connections.overdue(self._relay.is_heard, self._clock.monotonic()):
                self._end(place, End.UNPROVEN)

    async def stop(self) -> None:
        """No connection is left."""
        for task in self._greeting:
            task.cancel()
        for transport in list(self._transports.values()):
            transport.abort()
        await self._server.shutdown(STOP_DEADLINE_S)

    async def _greet(self, sock: socket.socket, place: Place) -> None:
        """TLS, then whatever is asked is answered by the server's own tasks."""
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: _Connection(self._server, place=place, streams=self),
                sock,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_DEADLINE_S,
                ssl_shutdown_timeout=CLOSE_DEADLINE_S,
            )
        except (OSError, TimeoutError) as exc:
            _log.debug("no TLS", extra={"reason": str(exc)})
            self._connections.ends[End.NO_TLS] += 1
            self._connections.leave(place)
            sock.close()
        except asyncio.CancelledError:
            self._connections.leave(place)
            sock.close()
            raise

    def come(self, place: Place, transport: asyncio.Transport) -> None:
        """TLS is up."""
        self._transports[place] = transport

    def go(self, place: Place) -> None:
        """The connection is not there any more."""
        self._transports.pop(place, None)
        self._connections.leave(place)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """A WebSocket for who asks for one, as long as it lasts; nothing for all others."""
        websocket = web.WebSocketResponse(
            autoping=False,
            compress=False,
            max_msg_size=MAX_MESSAGE_BYTES,
            timeout=CLOSE_DEADLINE_S,
            writer_limit=WRITE_BYTES,
        )
        place = request.protocol.place  # type: ignore[attr-defined]
        if request.path != PATH or not websocket.can_prepare(request):
            self._connections.ends[End.NO_WEBSOCKET] += 1
            response = web.Response(status=HTTPStatus.NOT_FOUND)
            response.force_close()
            return response
        await websocket.prepare(request)
        if (transport := self._transports.get(place)) is not None:
            bound_buffers(transport)
        sender = self._senders[place] = Sender(websocket)
        self._relay.open_stream(place, sender.put)
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(_write(sender), name="relay stream")
            try:
                await self._hear(place, websocket)
            finally:
                self._relay.close_stream(place)
                self._dropped += self._senders.pop(place).backlog.dropped
                writing.cancel()
                if (transport := self._transports.get(place)) is not None:
                    transport.abort()
        return websocket

    async def _hear(self, place: Place, websocket: web.WebSocketResponse) -> None:
        """Pass on what comes, until it ends or something else than datagrams comes."""
        relay, connections = self._relay, self._connections
        while True:
            for _ in range(BATCH):
                message = await websocket.receive()
                if not connections.may_say(place, is_heard=relay.is_heard(place)):
                    connections.ends[End.UNPROVEN] += 1
                    return
                match message.type:
                    case _ if message.type == BINARY:
                        relay.take(place, message.data)
                    case _ if message.type == PING:
                        await websocket.pong(message.data)
                    case _ if message.type == PONG:
                        pass
                    case web.WSMsgType.CLOSE | web.WSMsgType.CLOSED | web.WSMsgType.CLOSING:
                        return
                    case _:
                        connections.ends[End.NO_DATAGRAM] += 1
                        return
            await asyncio.sleep(0)

    def _end(self, place: Place, end: End) -> None:
        self._connections.ends[end] += 1
        if (transport := self._transports.get(place)) is not None:
            transport.abort()


@asynccontextmanager
async def streaming(
    relay: Relay,
    key: Secret,
    listeners: Sequence[socket.socket],
    clock: Clock,
    *,
    connections: Connections | None = None,
) -> AsyncIterator[Streams]:
    """The relay takes connections on these sockets until the block ends; they are closed then.

    `key` is the ed25519 key whose WireGuard form the relay's members know.
    """
    read_little()
    try:
        context = await asyncio.to_thread(tls.server_context, key, name=CERTIFICATE_NAME)
        if connections is None:
            connections = Connections(clock.monotonic())
        streams = Streams(relay, context, clock, connections)
        for listener in listeners:
            listener.setblocking(False)
            listener.listen(BACKLOG)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(streams.accept(each, group), name="relay listener")
                for each in listeners
            ]
            tasks.append(group.create_task(streams.end_overdue(), name="relay connections"))
            try:
                yield streams
            finally:
                for task in tasks:
                    task.cancel()
                await streams.stop()
    finally:
        for listener in listeners:
            listener.close()


async def _write(sender: Sender) -> None:
    with suppress(ConnectionError):  # who reads notices, too
        await sender.run()


class _Server(web.Server):
    """aiohttp's server of requests, with little room for each."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(
            streams.answer,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )

    @property
    def options(self) -> dict[str, Any]:
        return self._kwargs


class _Connection(web.RequestHandler):
    """aiohttp's side of one connection, which knows its place."""

    __slots__ = ("_streams", "place")

    def __init__(self, server: _Server, *, place: Place, streams: Streams) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **server.options)
        self.place = place
        self._streams = streams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            self._streams.come(self.place, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._streams.go(self.place)
        super().connection_lost(exc)
