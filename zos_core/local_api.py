"""The node's local socket: questions and wishes of the command line on the same machine.

A unix socket, so no web page and no other machine can reach it; who calls is known from the kernel,
and only root and the node's own user are answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from aiohttp import web

from overlay.errors import Conflict, Diverged, OverlayError, Refused, Rejected, Unavailable
from zos_core.status import (
    SCHEMA,
    AttachAnswer,
    AttachRequest,
    DetachRequest,
    Done,
    ErrorAnswer,
    ErrorBody,
    JoinAnswer,
    JoinRequest,
    Plan,
    PlanRequest,
    Status,
    WhyInputs,
)

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 << 20  # a network document of the largest size, and room
MAX_WAIT_S = 25.0
SOCKET_MODE = 0o600
DIRECTORY_MODE = 0o711  # others may see that there is a socket, and no more
_UCRED = struct.Struct("3i")

T = TypeVar("T")


class NotFound(Rejected):
    """There is no such network here."""


class Answers(Protocol):
    """Who knows the answers: the node."""

    async def status(self) -> Status: ...

    async def wait(self, generation: int) -> Status: ...

    async def why(self, network: str) -> WhyInputs: ...

    async def plan(self) -> Plan: ...

    async def plan_document(self, document: bytes) -> Plan: ...

    async def join(self, token: str) -> JoinAnswer: ...

    async def attach(self, request: AttachRequest) -> AttachAnswer: ...

    async def detach(self, request: DetachRequest) -> Done: ...


@asynccontextmanager
async def listening(answers: Answers, path: Path) -> AsyncIterator[None]:
    """Requests at `path` are answered as long as the block runs. Raises Unavailable."""
    runner = web.AppRunner(
        _application(answers), access_log=None, handle_signals=False, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        listener = _bind(path)
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
        _unlink(path)


def _bind(path: Path) -> socket.socket:
    try:
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        # Whoever holds the lock on the state directory is the node: this is left of an earlier one.
        _unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o777 & ~SOCKET_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}", remedy="run as root") from exc
    listener.setblocking(False)
    return listener


def _unlink(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()


def _application(answers: Answers) -> web.Application:
    application = web.Application(
        middlewares=[_answer_errors, _check_caller], client_max_size=MAX_BODY_BYTES
    )
    for method, route, respond in _routes(answers):
        application.router.add_route(method, route, respond)
    return application


Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _routes(answers: Answers) -> tuple[tuple[str, str, Respond], ...]:
    async def status(_: web.Request) -> web.Response:
        return _json(await answers.status())

    async def wait(request: web.Request) -> web.Response:
        return _json(await answers.wait(_generation(request.query)))

    async def why(request: web.Request) -> web.Response:
        return _json(await answers.why(_named(request.query)))

    async def plan(_: web.Request) -> web.Response:
        return _json(await answers.plan())

    async def plan_document(request: web.Request) -> web.Response:
        asked = await _body(request, PlanRequest)
        return _json(await answers.plan_document(bytes(asked.document)))

    async def join(request: web.Request) -> web.Response:
        return _json(await answers.join((await _body(request, JoinRequest)).token))

    async def attach(request: web.Request) -> web.Response:
        return _json(await answers.attach(await _body(request, AttachRequest)))

    async def detach(request: web.Request) -> web.Response:
        return _json(await answers.detach(await _body(request, DetachRequest)))

    return (
        ("GET", "/v1/status", status),
        ("GET", "/v1/wait", wait),
        ("GET", "/v1/why", why),
        ("GET", "/v1/plan", plan),
        ("POST", "/v1/plan", plan_document),
        ("POST", "/v1/join", join),
        ("POST", "/v1/attach", attach),
        ("POST", "/v1/detach", detach),
    )


@web.middleware
async def _check_caller(request: web.Request, handler: Respond) -> web.StreamResponse:
    uid = _caller_uid(request)
    if uid not in (0, os.geteuid()):
        raise Refused("only root and the node's own user are answered", remedy="use sudo")
    return await handler(request)


def _caller_uid(request: web.Request) -> int:
    """Who connected, as the kernel noted then; nobody when it cannot be told."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is None:
        return -1
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(raw)
    return int(uid)


@web.middleware
async def _answer_errors(request: web.Request, handler: Respond) -> web.StreamResponse:
    try:
        return await handler(request)
    except OverlayError as exc:
        status, body = _error(exc)
        return _json(ErrorAnswer(SCHEMA, body), status=status)
    except web.HTTPNotFound:
        body = ErrorBody("not-found", f"there is no {request.method} {request.path[:80]}")
        return _json(ErrorAnswer(SCHEMA, body), status=404)
    except web.HTTPException as exc:
        body = ErrorBody("rejected", exc.reason)
        return _json(ErrorAnswer(SCHEMA, body), status=exc.status)


def _error(error: OverlayError) -> tuple[int, ErrorBody]:
    match error:
        case NotFound():
            return 404, ErrorBody("not-found", error.message, error.field, error.remedy)
        case Conflict():
            return 409, ErrorBody("conflict", error.message, error.field, error.remedy)
        case Refused():
            return 403, ErrorBody("refused", error.message, error.field, error.remedy)
        case Rejected():
            return 400, ErrorBody("rejected", error.message, error.field, error.remedy)
        case Diverged():
            return 500, ErrorBody("diverged", error.message, error.field, error.remedy)
        case _:
            return 503, ErrorBody("unavailable", error.message, error.field, error.remedy)


async def _body(request: web.Request, model: type[T]) -> T:
    """The request's body. Raises Rejected; what stood in it is not repeated, it may be a secret."""
    raw = await request.read()
    try:
        return msgspec.json.decode(raw, type=model)
    except msgspec.ValidationError as exc:
        raise Rejected(str(exc).partition(" - at ")[0], field="body") from None
    except (msgspec.DecodeError, UnicodeError):
        raise Rejected("is not JSON", field="body") from None


def _generation(query: Mapping[str, str]) -> int:
    text = query.get("generation", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Rejected("is no number", field="generation")
    return int(text)


def _named(query: Mapping[str, str]) -> str:
    if not (network := query.get("network", "")):
        raise Rejected("which network?", field="network", remedy="give a name or an id")
    return network


def _json(value: msgspec.Struct, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )


async def wait_at_most(waiting: Awaitable[None]) -> None:
    """As long as `waiting` takes, but no longer than a caller keeps its connection."""
    with suppress(TimeoutError):
        async with asyncio.timeout(MAX_WAIT_S):
            await waiting
