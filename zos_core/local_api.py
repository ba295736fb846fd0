"""The node's local socket: questions and wishes of the command line on the same machine.

A unix socket, so no web page and no other machine can reach it; who calls is known from the kernel,
and only root and the node's own user are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from aiohttp import web

from overlay.errors import Rejected
from zos_core import socket_http
from zos_core.socket_http import Route, answer, read_body
from zos_core.status import (
    AttachAnswer,
    AttachRequest,
    DetachRequest,
    Done,
    JoinAnswer,
    JoinRequest,
    Plan,
    PlanRequest,
    RotateAnswer,
    RotateRequest,
    Status,
    WhyInputs,
)

MAX_BODY_BYTES = 4 << 20  # a network document of the largest size, and room
MAX_WAIT_S = 25.0


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

    async def rotate(self, request: RotateRequest) -> RotateAnswer: ...


@asynccontextmanager
async def listening(answers: Answers, path: Path) -> AsyncIterator[None]:
    """Requests at `path` are answered as long as the block runs. Raises Unavailable."""
    async with socket_http.listening(_routes(answers), path, max_body_bytes=MAX_BODY_BYTES):
        yield


def _routes(answers: Answers) -> tuple[Route, ...]:
    async def status(_: web.Request) -> web.Response:
        return answer(await answers.status())

    async def wait(request: web.Request) -> web.Response:
        return answer(await answers.wait(_generation(request.query)))

    async def why(request: web.Request) -> web.Response:
        return answer(await answers.why(_named(request.query)))

    async def plan(_: web.Request) -> web.Response:
        return answer(await answers.plan())

    async def plan_document(request: web.Request) -> web.Response:
        asked = await read_body(request, PlanRequest)
        return answer(await answers.plan_document(bytes(asked.document)))

    async def join(request: web.Request) -> web.Response:
        return answer(await answers.join((await read_body(request, JoinRequest)).token))

    async def attach(request: web.Request) -> web.Response:
        return answer(await answers.attach(await read_body(request, AttachRequest)))

    async def detach(request: web.Request) -> web.Response:
        return answer(await answers.detach(await read_body(request, DetachRequest)))

    async def rotate(request: web.Request) -> web.Response:
        return answer(await answers.rotate(await read_body(request, RotateRequest)))

    return (
        ("GET", "/v1/status", status),
        ("GET", "/v1/wait", wait),
        ("GET", "/v1/why", why),
        ("GET", "/v1/plan", plan),
        ("POST", "/v1/plan", plan_document),
        ("POST", "/v1/join", join),
        ("POST", "/v1/attach", attach),
        ("POST", "/v1/detach", detach),
        ("POST", "/v1/rotate", rotate),
    )


def _generation(query: Mapping[str, str]) -> int:
    text = query.get("generation", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Rejected("is no number", field="generation")
    return int(text)


def _named(query: Mapping[str, str]) -> str:
    if not (network := query.get("network", "")):
        raise Rejected("which network?", field="network", remedy="give a name or an id")
    return network


async def wait_at_most(waiting: Awaitable[None]) -> None:
    """As long as `waiting` takes, but no longer than a caller keeps its connection."""
    with suppress(TimeoutError):
        async with asyncio.timeout(MAX_WAIT_S):
            await waiting
