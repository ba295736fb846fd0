"""The registry as a running server: sockets, TLS, beginning and end."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from overlay.errors import Unavailable
from overlay.keys import tls
from overlay.keys.identity import Identity
from overlay.peers.registry_wire import HEARTBEAT_S
from overlay.ports import Clock
from overlay.registry import limits
from overlay.registry.app import App, problem_response
from overlay.registry.limits import Buckets
from overlay.registry.problems import HttpProblem
from overlay.registry.service import Service
from overlay.registry.store import Store
from overlay.registry.watchers import Watchers

log = logging.getLogger(__name__)

DEFAULT_PORT = 8_443
CERTIFICATE_NAME = "zos registry"
STOP_DEADLINE_S = 10.0  # for requests that are being answered
BACKLOG = 1_024


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator decides. Port 0 lets the kernel choose, the same for all addresses."""

    addresses: tuple[str, ...] = ("0.0.0.0", "::")
    port: int = DEFAULT_PORT
    heartbeat_s: float = HEARTBEAT_S
    requests_per_s: float = limits.REQUESTS_PER_S
    request_burst: float = limits.REQUEST_BURST
    max_connections: int = limits.MAX_CONNECTIONS
    max_watchers: int = limits.MAX_WATCHERS
    max_watchers_per_caller: int = limits.MAX_WATCHERS_PER_CALLER
    max_waiting_lines: int = limits.MAX_WAITING_LINES


class Running(msgspec.Struct, frozen=True):
    """A registry that answers."""

    id: str
    port: int
    service: Service

    def reference(self, host: str) -> str:
        """What nodes and people are given: where it is and which key it has."""
        bracketed = f"[{host}]" if ":" in host else host
        return f"https://{bracketed}:{self.port}#{self.id}"


@asynccontextmanager
async def running(
    config: Config, *, identity: Identity, clock: Clock, store: Store
) -> AsyncIterator[Running]:
    """A registry, as long as the block runs. Raises Unavailable when it cannot begin.

    At the end streams are closed with a last line, requests in flight are answered, and the store
    is closed. When the registry fails inside, the block is cancelled and the error raised.
    """
    watchers = Watchers(
        limit=config.max_watchers,
        per_caller=config.max_watchers_per_caller,
        waiting_lines=config.max_waiting_lines,
    )
    service = Service(store, clock=clock, watchers=watchers)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        await service.load()
        context = await asyncio.to_thread(tls.server_context, identity, name=CERTIFICATE_NAME)
        sockets = bind(config.addresses, config.port)
        for sock in sockets:
            stack.callback(sock.close)
        buckets = Buckets(per_s=config.requests_per_s, burst=config.request_burst)
        app = App(
            service,
            registry=identity.id,
            clock=clock,
            buckets=buckets,
            heartbeat_s=config.heartbeat_s,
        )
        server = _Server(app, max_connections=config.max_connections)
        async with _in_background(service), _listening(server, sockets, context, watchers):
            port = sockets[0].getsockname()[1]
            log.info("registry answers", extra={"registry": identity.id, "port": port})
            yield Running(identity.id, port, service)


@asynccontextmanager
async def _in_background(service: Service) -> AsyncIterator[None]:
    """The service at work, as long as the block runs; its failure cancels the block."""
    try:
        async with asyncio.TaskGroup() as tasks:
            background = (
                tasks.create_task(service.follow(), name="registry follow"),
                tasks.create_task(service.compact_forever(), name="registry compact"),
            )
            try:
                yield
            finally:
                for task in background:
                    task.cancel()
    except BaseExceptionGroup as group:
        # A caller of one registry expects its error and not a group of one.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group
        raise


async def serve(config: Config, *, identity: Identity, clock: Clock, store: Store) -> None:
    """Run a registry until cancelled."""
    async with running(config, identity=identity, clock=clock, store=store):
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def _listening(
    server: _Server,
    sockets: Sequence[socket.socket],
    context: ssl.SSLContext,
    watchers: Watchers,
) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    listeners = [
        await loop.create_server(
            server,
            sock=sock,
            ssl=context,
            backlog=BACKLOG,
            ssl_handshake_timeout=limits.HANDSHAKE_DEADLINE_S,
        )
        for sock in sockets
    ]
    try:
        yield
    finally:
        for listener in listeners:
            listener.close()
        watchers.close()
        server.pre_shutdown()
        await server.shutdown(STOP_DEADLINE_S)


def bind(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """A socket for each address, all with the same port. Raises Unavailable."""
    sockets: list[socket.socket] = []
    address = ""
    try:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, port or (sockets[0].getsockname()[1] if len(sockets) > 1 else 0)))
    except OSError as exc:
        for sock in sockets:
            sock.close()
        raise Unavailable(f"cannot listen on {address} port {port}: {exc.strerror}") from exc
    return sockets


class _Server(web.Server):
    """Makes the protocol of each connection, up to a number."""

    def __init__(self, app: App, *, max_connections: int) -> None:
        super().__init__(
            app.answer,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.KEEPALIVE_S,
            max_line_size=limits.MAX_REQUEST_LINE_BYTES,
            max_field_size=limits.MAX_HEADER_FIELD_BYTES,
            max_headers=limits.MAX_HEADERS,
        )
        self._max_connections = max_connections

    def __call__(self) -> web.RequestHandler:
        full = len(self._connections) >= self._max_connections
        return _Connection(self, full=full, loop=asyncio.get_running_loop(), **self._kwargs)


class _Connection(web.RequestHandler):
    """Answers in problems also to what is no HTTP, and gives up on who never asks."""

    __slots__ = ("_deadline", "_is_refused")

    def __init__(self, server: _Server, *, full: bool, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._is_refused = full
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._is_refused:
            self.force_close()
            return
        self._deadline = asyncio.get_running_loop().call_later(
            limits.FIRST_REQUEST_DEADLINE_S, self._give_up
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the signature is aiohttp's
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes what was sent
    ) -> web.StreamResponse:
        """The answer to what aiohttp could not even read."""
        log.debug("unreadable request", exc_info=exc)
        response = problem_response(
            HttpProblem(HTTPStatus(status), "this is not HTTP as the registry reads it")
        )
        response.force_close()
        return response
