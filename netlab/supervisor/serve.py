"""The questions and wishes that a lab answers on its socket: a table of routes over a Session.

What is long - events - comes as one JSON value a line. A module that adds a command adds its routes
to ROUTES here: a function from the session to (method, path, who answers) triples.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec
from aiohttp import web

from netlab.supervisor.judging import judging
from netlab.supervisor.lines import stream
from netlab.supervisor.probing import probing
from netlab.supervisor.renewing import renewing
from netlab.supervisor.session import Session
from netlab.supervisor.status import (
    SCHEMA,
    Done,
    EndRequest,
    LinkRequest,
    NodeRequest,
    PartitionRequest,
    RouterRequest,
)
from overlay.errors import Rejected
from zos_core import socket_http
from zos_core.socket_http import Route, answer, read_body

MAX_BODY_BYTES = 4 << 20

RoutesOf: TypeAlias = Callable[[Session], tuple[Route, ...]]


@asynccontextmanager
async def listening(session: Session, path: Path) -> AsyncIterator[None]:
    """Requests are answered inside the block, from the first moment of the build on."""
    routes = [route for routes_of in ROUTES for route in routes_of(session)]
    async with socket_http.listening(routes, path, max_body_bytes=MAX_BODY_BYTES):
        yield


def looking(session: Session) -> tuple[Route, ...]:
    async def lab(request: web.Request) -> web.Response:
        fresh, counted = (_flag(request.query, name) for name in ("fresh", "counters"))
        return answer(await session.observe(fresh=fresh, counted=counted))

    async def events(request: web.Request) -> web.StreamResponse:
        number = _number(request.query, "from", default=1)
        if _flag(request.query, "follow"):
            return await stream(request, session.journal.follow(number))
        return await stream(request, _each(session.journal.since(number)))

    return (("GET", "/v1/lab", lab), ("GET", "/v1/events", events))


def acting(session: Session) -> tuple[Route, ...]:
    async def link(request: web.Request) -> web.Response:
        return _done(await session.change_link(await read_body(request, LinkRequest)))

    async def partition(request: web.Request) -> web.Response:
        asked = await read_body(request, PartitionRequest)
        return _done(await session.partition(asked.parts))

    async def router(request: web.Request) -> web.Response:
        return _done(await session.reboot_nat((await read_body(request, RouterRequest)).router))

    async def node(request: web.Request) -> web.Response:
        asked = await read_body(request, NodeRequest)
        return _done(await session.power(asked.node, asked.verb))

    async def end(request: web.Request) -> web.Response:
        asked = await read_body(request, EndRequest)
        session.keeps_workdir = session.keeps_workdir or asked.keep
        session.end("asked to end")
        return _done(f"{session.topology.name} ends")

    return (
        ("POST", "/v1/link", link),
        ("POST", "/v1/partition", partition),
        ("POST", "/v1/router", router),
        ("POST", "/v1/node", node),
        ("POST", "/v1/end", end),
    )


ROUTES: tuple[RoutesOf, ...] = (looking, acting, probing, judging, renewing)


def _done(text: str) -> web.Response:
    return answer(Done(SCHEMA, text))


async def _each(values: Iterable[msgspec.Struct]) -> AsyncIterator[msgspec.Struct]:
    for value in values:
        yield value


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "no")
    if text not in ("yes", "no"):
        raise Rejected("is neither yes nor no", field=name)
    return text == "yes"


def _number(query: Mapping[str, str], name: str, *, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Rejected("is no number", field=name)
    return int(text)
