"""HTTP on a unix socket: bound for its owner alone, callers known from the kernel, errors as JSON.

No web page and no other machine can reach such a socket; who calls is known from the kernel, and
only root and the process's own user are answered.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec
from aiohttp import web

from overlay.errors import Conflict, Diverged, OverlayError, Refused, Rejected, Unavailable
from zos_core.socket_path import reachable
from zos_core.status import SCHEMA, ErrorAnswer, ErrorBody

SOCKET_MODE = 0o600
DIRECTORY_MODE = 0o711  # others may see that there is a socket, and no more
SHUTDOWN_TIMEOUT_S = 1.0
_UCRED = struct.Struct("3i")

T = TypeVar("T")

Respond: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Route: TypeAlias = tuple[str, str, Respond]  # method, path, and who answers


class NotFound(Rejected):
    """There is no such thing here."""


@asynccontextmanager
async def listening(
    routes: Sequence[Route], path: Path, *, max_body_bytes: int
) -> AsyncIterator[None]:
    """Requests at `path` are answered as long as the block runs. Raises Unavailable."""
    application = web.Application(
        middlewares=[_answer_errors, _check_caller], client_max_size=max_body_bytes
    )
    for method, route, respond in routes:
        application.router.add_route(method, route, respond)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
    )
    await runner.setup()
    try:
        listener = bind(path)
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
        _unlink(path)


def bind(path: Path, *, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket for its owner alone, in the place of one that is left of an earlier process.

    The caller holds a lock that says that there is no other one. Raises Unavailable.
    """
    try:
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        _unlink(path)
        listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
        before = os.umask(0o777 & ~SOCKET_MODE)
        try:
            with reachable(path) as short:
                listener.bind(short)
        finally:
            os.umask(before)
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}", remedy="run as root") from exc
    listener.setblocking(False)
    return listener


def _unlink(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()


@web.middleware
async def _check_caller(request: web.Request, handler: Respond) -> web.StreamResponse:
    connection = request.transport.get_extra_info("socket") if request.transport else None
    check_caller(connection)
    return await handler(request)


def check_caller(connection: socket.socket | None) -> None:
    """Raises Refused unless root or the process's own user has connected."""
    if _caller_uid(connection) not in (0, os.geteuid()):
        raise Refused("only root and the process's own user are answered", remedy="use sudo")


def _caller_uid(connection: socket.socket | None) -> int:
    """Who connected, as the kernel noted then; nobody when it cannot be told."""
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
        status, body = error_of(exc)
        return answer(ErrorAnswer(SCHEMA, body), status=status)
    except ConnectionError:
        raise  # the asker is gone: there is nobody to answer
    except OSError as exc:  # a full disk, as a rule
        said = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)
        return answer(ErrorAnswer(SCHEMA, ErrorBody("unavailable", said)), status=503)
    except web.HTTPNotFound:
        body = ErrorBody("not-found", f"there is no {request.method} {request.path[:80]}")
        return answer(ErrorAnswer(SCHEMA, body), status=404)
    except web.HTTPException as exc:
        body = ErrorBody("rejected", exc.reason)
        return answer(ErrorAnswer(SCHEMA, body), status=exc.status)


def error_of(error: OverlayError) -> tuple[int, ErrorBody]:
    """The HTTP status and the words of an error."""
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


async def read_body(request: web.Request, model: type[T]) -> T:
    """The request's body. Raises Rejected; what stood in it is not repeated, it may be a secret."""
    raw = await request.read()
    try:
        return msgspec.json.decode(raw, type=model)
    except msgspec.ValidationError as exc:
        raise Rejected(str(exc).partition(" - at ")[0], field="body") from None
    except (msgspec.DecodeError, UnicodeError):
        raise Rejected("is not JSON", field="body") from None


def answer(value: msgspec.Struct, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )
