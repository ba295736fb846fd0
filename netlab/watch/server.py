"""The web page of a lab: one file, no build step, nothing from elsewhere; fed by events.

It only shows. Whoever opens it needs the secret in its address, so that other users of the machine
and other pages in the same browser see nothing.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any, Protocol

from aiohttp import web

from netlab.watch.memory import Memory
from overlay.errors import OverlayError

EVERY_S = 1.0
PAGES_MAX = 16
EVENTS_KEPT = 10_000
# Of one page that does not read: then it is told nothing more and has to open anew.
UNSENT_MAX = 64
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# The page's own style and script stand in it; it may fetch from where it came and nowhere else.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Source(Protocol):
    """Where the page's knowledge comes from. Both raise OverlayError when the lab is over."""

    async def observe(self) -> dict[str, Any]:
        """The lab as it is, in the shape of GET /v1/lab."""

    async def events(self, number: int) -> list[dict[str, Any]]:
        """All events with this number or a higher one."""


class Page:
    """One lab, watched from the moment this is made, by any number of browsers."""

    def __init__(self, source: Source, *, every_s: float = EVERY_S) -> None:
        self.secret = secrets.token_urlsafe(16)
        self._source = source
        self._every_s = every_s
        self._memory = Memory()
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._latest: bytes | None = None
        self._over: str | None = None
        self._readers: set[asyncio.Queue[bytes | None]] = set()

    @property
    def last_words(self) -> str:
        """Why it is over; empty while it is not."""
        return self._over or ""

    async def run(self) -> None:
        """Look at the lab again and again until it is over, and tell every browser."""
        while self._over is None:
            try:
                await self._look()
            except OverlayError as exc:
                self._over = f"the lab is over: {exc}"
                self._tell(_message("over", {"text": self._over}))
                self._tell(None)
                return
            await asyncio.sleep(self._every_s)

    async def _look(self) -> None:
        last = self._events[-1]["number"] if self._events else 0
        for event in await self._source.events(last + 1):
            self._events.append(event)
            self._tell(_message("journal", event))
        lab = await self._source.observe()
        encoded = json.dumps(lab, separators=(",", ":")).encode()
        number = self._memory.put(lab["lab_s"], encoded)
        head = f'event: lab\ndata: {{"moment":{number},"lab":'.encode()
        self._latest = head + encoded + b"}\n\n"
        self._tell(self._latest)

    def _tell(self, message: bytes | None) -> None:
        for reader in list(self._readers):
            try:
                reader.put_nowait(message)
            except asyncio.QueueFull:
                self._readers.discard(reader)

    def application(self) -> web.Application:
        made = web.Application(middlewares=[_only_here])
        root = f"/{self.secret}"
        made.router.add_get(f"{root}/", self._page)
        made.router.add_get(f"{root}/stream", self._stream)
        made.router.add_get(f"{root}/moments/{{moment:[0-9]{{1,12}}}}", self._moment)
        return made

    async def _page(self, _: web.Request) -> web.Response:
        text = await asyncio.to_thread(files("netlab.watch").joinpath("page.html").read_text)
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)

    async def _moment(self, request: web.Request) -> web.Response:
        found = self._memory.get(int(request.match_info["moment"]))
        if found is None:
            raise web.HTTPNotFound(text="that moment is no longer remembered")
        return web.Response(body=found, content_type="application/json", headers=_HEADERS)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if len(self._readers) >= PAGES_MAX:
            raise web.HTTPServiceUnavailable(text=f"{PAGES_MAX} pages are open: close one")
        reader: asyncio.Queue[bytes | None] = asyncio.Queue(UNSENT_MAX)
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._readers.add(reader)
        try:
            with suppress(ConnectionResetError):
                await response.write(b"".join(self._so_far()))
                while self._over is None and (message := await reader.get()) is not None:
                    await response.write(message)
        finally:
            self._readers.discard(reader)
        return response

    def _so_far(self) -> list[bytes]:
        said = [_message("moments", self._memory.moments())]
        said += (_message("journal", event) for event in self._events)
        if self._latest is not None:
            said.append(self._latest)
        if self._over is not None:
            said.append(_message("over", {"text": self._over}))
        return said


@asynccontextmanager
async def serving(page: Page, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The page's address, which answers inside the block. Raises OSError when it is taken."""
    runner = web.AppRunner(page.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{bound}/{page.secret}/"
    finally:
        await runner.cleanup()


@web.middleware
async def _only_here(
    request: web.Request, handler: Callable[[web.Request], Any]
) -> web.StreamResponse:
    """A name that somebody else lets lead to this machine is not ours (DNS rebinding)."""
    host = request.url.host
    if host not in _LOOPBACK:
        raise web.HTTPForbidden(text="open it by its loopback address")
    answered: web.StreamResponse = await handler(request)
    return answered


def _message(kind: str, value: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(value)}\n\n".encode()
