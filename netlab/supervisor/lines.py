"""Answers of any length: one JSON value a line, each sent as soon as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import msgspec
from aiohttp import web

CONTENT_TYPE = "application/x-ndjson"

Say = Callable[[msgspec.Struct], None]


async def stream(request: web.Request, values: AsyncIterator[msgspec.Struct]) -> web.StreamResponse:
    """Each of the values, until they end or the asker leaves."""
    response = await _begin(request)
    with suppress(ConnectionResetError):
        async for value in values:
            await response.write(_line(value))
    return response


async def narrate(
    request: web.Request, work: Callable[[Say], Awaitable[None]]
) -> web.StreamResponse:
    """What the work says while it is done. It is given up when the asker leaves."""
    response = await _begin(request)
    said: asyncio.Queue[msgspec.Struct | None] = asyncio.Queue()

    async def working() -> None:
        await work(said.put_nowait)
        said.put_nowait(None)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(working(), name=f"work of {request.path}")
            while (value := await said.get()) is not None:
                await response.write(_line(value))
    except* ConnectionResetError:
        pass
    return response


async def _begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
    await response.prepare(request)
    return response


def _line(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value) + b"\n"
