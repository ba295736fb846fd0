"""Questions to the zos of a lab node, over the socket that its own commands use.

A question costs a node a fraction of what starting a command on it costs.
"""

from __future__ import annotations

import asyncio
import http
from typing import TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec

from netlab.lab_node import LabNode
from overlay.errors import Conflict, OverlayError, Refused, Rejected, Unavailable
from zos_core.status import ErrorAnswer

SOCKET = "/run/zos/node.sock"
TIMEOUT_S = 30.0

T = TypeVar("T")

_ERRORS: dict[str, type[OverlayError]] = {
    "rejected": Rejected,
    "not-found": Rejected,
    "refused": Refused,
    "conflict": Conflict,
}


def is_there(node: LabNode) -> bool:
    """Whether zos runs on the node, or was killed there."""
    return node.path(SOCKET).exists()


async def ask(
    node: LabNode,
    path: str,
    answer: type[T],
    *,
    wish: object | None = None,
    timeout_s: float = TIMEOUT_S,
    **query: str,
) -> T:
    """The answer to a question, or with a `wish` that it was done.

    Raises Unavailable when nobody answers in time, else what the node answers instead.
    """
    target = f"http://node{path}" + (f"?{urlencode(query)}" if query else "")
    body = None if wish is None else msgspec.json.encode(wish)
    method = "GET" if wish is None else "POST"
    connector = aiohttp.UnixConnector(str(node.path(SOCKET)))
    try:
        async with (
            asyncio.timeout(timeout_s),
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, target, data=body) as response,
        ):
            status, raw = response.status, await response.read()
    except (aiohttp.ClientError, OSError) as exc:
        raise Unavailable(
            f"{node.name}: zos does not answer", remedy=f"see {node.directory / 'node.log'}"
        ) from exc
    return _parse(node.name, status, raw, answer)


def _parse(name: str, status: int, raw: bytes, answer: type[T]) -> T:
    try:
        if status == http.HTTPStatus.OK:
            return msgspec.json.decode(raw, type=answer)
        error = msgspec.json.decode(raw, type=ErrorAnswer).error
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise Unavailable(f"{name}: zos answered {status} with what is no answer") from exc
    kind = _ERRORS.get(error.code, Unavailable)
    raise kind(f"{name}: {error.message}", field=error.field, remedy=error.remedy)
