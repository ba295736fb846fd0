"""A registry that lies: the protocol of the real one, and whatever a script makes of it.

It has the key that callers pin, takes every document without a look, and sends what it is told to.
In a test:

    async with running(identity) as bad:
        bad.hold(envelope)                  # honest so far: stored and sent to all streams
        bad.send_line(b"{")                 # malformed
        bad.repeat(key); bad.replay(key, 0) # duplicate; an older version as the newest

As a process of its own, for labs: `python -m tests.overlay.registry.hostile KEY_FILE ADDRESS PORT`
prints its reference, then takes one JSON command a line on standard input: {"do": name, ...} with
the arguments of the method of `Hostile` of that name; bytes are base64. Each is answered by a line.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from overlay.documents import envelope as dsse
from overlay.documents import schema, trust
from overlay.documents.envelope import Envelope
from overlay.errors import Rejected
from overlay.keys import tls
from overlay.keys.identity import Identity, Kind
from overlay.keys.store import load_or_create
from overlay.peers import registry_wire as wire
from overlay.registry import serve

MARK = "kind/that-is-none"
FIRST_REVISION = 1_000


class Hostile:
    """What it holds, who listens, and what it does to them."""

    def __init__(self) -> None:
        self.revision = FIRST_REVISION
        self.published: list[bytes] = []  # everything that callers sent, as sent
        self.requests: list[str] = []
        self.drop_published = False  # say that a document is stored, and forget it
        self.refuse_status: int | None = None  # answer everything with this status
        self.hang = False  # take requests and never answer
        self.silent = False  # no heartbeats
        self.answer_body: bytes | None = None  # in place of every answer but streams
        self._versions: dict[str, list[bytes]] = {}
        self._revisions: dict[str, int] = {}
        self._streams: list[asyncio.Queue[bytes | None]] = []
        self.changed = asyncio.Event()

    # What an honest registry does too.

    def hold(self, envelope: Envelope | bytes, *, key: str | None = None) -> str:
        """Store and send a document, verified or not. The key is the document's own or a lie."""
        raw = envelope if isinstance(envelope, bytes) else dsse.encode_envelope(envelope)
        key = key if key is not None else _key_of(raw)
        self.revision += 1
        self._versions.setdefault(key, []).append(raw)
        self._revisions[key] = self.revision
        self.send_line(self._line(key))
        return key

    # What only this one does.

    def hold_json(self, envelope: dict[str, Any], *, key: str | None = None) -> str:
        """`hold` an envelope given as JSON: forged, or with swapped keys."""
        return self.hold(msgspec.json.encode(envelope), key=key)

    def replay(self, key: str, version: int) -> None:
        """Send a version that was replaced, as if it were new, to everybody from now on."""
        self.hold(self._versions[key][version], key=key)

    def repeat(self, key: str, *, times: int = 1) -> None:
        for _ in range(times):
            self.send_line(self._line(key))

    def reorder(self, keys: list[str]) -> None:
        """Every version of these documents, the newest first."""
        for key in keys:
            for raw in reversed(self._versions[key]):
                self.send_line(wire.document_line(key=key, revision=self.revision, envelope=raw))

    def forget(self, key: str) -> None:
        """Drop a document without a word."""
        self._versions.pop(key, None)

    def snapshot(self, *, keys: list[str] | None = None, count: int | None = None) -> None:
        """Say that this is all there is; `count` may be a lie."""
        keys = sorted(self._versions) if keys is None else keys
        self.send_line(
            wire.snapshot_line(self.revision, count=len(keys) if count is None else count)
        )
        for key in keys:
            self.send_line(self._line(key))

    def bookmark(self, *, revision: int | None = None) -> None:
        self.send_line(wire.bookmark_line(self.revision if revision is None else revision))

    def malformed(self) -> None:
        self.send_line(b'{"type":"document","revision":-1,"key":5}\n')

    def oversized(self, *, size: int = 2 * wire.MAX_LINE_BYTES) -> None:
        """A line that does not end."""
        self.send_line(b'{"type":"document","key":"' + b"a" * size)

    def noise(self, *, size: int = 4_096) -> None:
        self.send_line(bytes(range(256)) * (size // 256))

    def end_streams(self) -> None:
        for stream in self._streams:
            stream.put_nowait(None)

    def send_line(self, line: bytes) -> None:
        """Raw bytes to every stream."""
        for stream in self._streams:
            stream.put_nowait(line)

    def configure(self, **settings: Any) -> None:
        """Set drop_published, refuse_status, hang, silent, answer_body."""
        for name, value in settings.items():
            if not hasattr(self, name):
                raise AttributeError(name)
            setattr(self, name, value)

    @property
    def listeners(self) -> int:
        return len(self._streams)

    async def wait_listeners(self, count: int) -> None:
        while len(self._streams) < count:
            self.changed.clear()
            await self.changed.wait()

    # The server.

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.raw_path}")
        body = await request.content.read()
        if self.hang:
            await asyncio.get_running_loop().create_future()
        if self.refuse_status is not None:
            return _problem(self.refuse_status)
        if request.path == wire.WATCH_PATH:
            return await self._watch(request)
        return self._answer(request, body)

    def _answer(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        key = request.path.removeprefix(wire.DOCUMENTS_PATH).strip("/")
        if request.method == "PUT":
            self.published.append(body)
            if not self.drop_published:
                self.hold(body, key=key)
            self.changed.set()
            answer = msgspec.json.encode(wire.Accepted(key, self.revision))
        elif key:
            if key not in self._versions:
                return _problem(404)
            answer = self._line(key)
        else:
            answer = self._page(request)
        return web.Response(body=self.answer_body or answer, content_type="application/json")

    def _page(self, request: web.BaseRequest) -> bytes:
        kind, network = request.query.get("kind", ""), request.query.get("network", "")
        prefix = f"{kind}/{network}"
        lines = [self._line(key) for key in sorted(self._versions) if key.startswith(prefix)]
        documents = msgspec.Raw(b"[" + b",".join(lines) + b"]")
        return msgspec.json.encode(
            {"revision": self.revision, "documents": documents, "next": None}
        )

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": wire.NDJSON_TYPE})
        await response.prepare(request)
        stream: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams.append(stream)
        self.changed.set()
        try:
            if "from" not in request.query:
                keys = sorted(self._versions)
                stream.put_nowait(wire.snapshot_line(self.revision, count=len(keys)))
                for key in keys:
                    stream.put_nowait(self._line(key))
            else:
                for key in self._since(request.query["from"]):
                    stream.put_nowait(self._line(key))
            stream.put_nowait(wire.bookmark_line(self.revision))
            while (line := await self._next(stream)) is not None:
                await response.write(line)
            await response.write_eof()
        finally:
            self._streams.remove(stream)
        return response

    async def _next(self, stream: asyncio.Queue[bytes | None]) -> bytes | None:
        while True:
            try:
                async with asyncio.timeout(1):
                    return await stream.get()
            except TimeoutError:
                if not self.silent:
                    return wire.bookmark_line(self.revision)

    def _since(self, text: str) -> list[str]:
        """What was stored after that revision and not forgotten."""
        after = int(text) if text.isdigit() else 0
        return [key for key in sorted(self._versions) if self._revisions[key] > after]

    def _line(self, key: str) -> bytes:
        raw = self._versions[key][-1]
        return wire.document_line(key=key, revision=self.revision, envelope=raw)


class RunningHostile(msgspec.Struct, frozen=True):
    """A hostile registry that answers; everything else is `Hostile`'s."""

    port: int
    id: str
    hostile: Hostile

    def reference(self, host: str) -> str:
        bracketed = f"[{host}]" if ":" in host else host
        return f"https://{bracketed}:{self.port}#{self.id}"


@asynccontextmanager
async def running(
    identity: Identity,
    *,
    addresses: tuple[str, ...] = ("127.0.0.1", "::1"),
    port: int = 0,
    sockets: Sequence[socket.socket] = (),
) -> AsyncIterator[RunningHostile]:
    """A hostile registry, as long as the block runs. `identity` is the key that callers pin.

    `sockets` are bound already, in whatever netns; else it binds its own.
    """
    hostile = Hostile()
    server = web.Server(hostile.answer, access_log=None, handler_cancellation=True)
    context = await asyncio.to_thread(tls.server_context, identity, name="zos registry")
    loop = asyncio.get_running_loop()
    listeners = [
        await loop.create_server(server, sock=sock, ssl=context)
        for sock in sockets or serve.bind(addresses, port)
    ]
    try:
        yield RunningHostile(listeners[0].sockets[0].getsockname()[1], identity.id, hostile)
    finally:
        for listener in listeners:
            listener.close()
        hostile.hang = False
        hostile.end_streams()
        await server.shutdown(0.1)


def _key_of(raw: bytes) -> str:
    """The key a document should have; unreadable ones get a mark."""
    try:
        envelope = dsse.parse_envelope(raw)
        document = schema.parse_document(envelope.payload, envelope.payload_type)
    except Rejected:
        return MARK
    return trust.document_key(document)


def _problem(status: int) -> web.Response:
    phrase = HTTPStatus(status).phrase
    problem = wire.Problem(type="about:blank", title=phrase, status=status, detail=phrase)
    return web.Response(
        body=msgspec.json.encode(problem), status=status, content_type=wire.PROBLEM_TYPE
    )


async def take_command(hostile: Hostile, line: bytes) -> dict[str, Any]:
    """One command of the script, and the answer to it."""
    command = json.loads(line)
    action = command.pop("do")
    if action == "published":
        return {"published": [base64.b64encode(raw).decode() for raw in hostile.published]}
    for name in ("envelope", "line", "answer_body"):
        if isinstance(command.get(name), str):
            command[name] = base64.b64decode(command[name])
    result = getattr(hostile, action)(**command)
    if asyncio.iscoroutine(result):
        result = await result
    return {"done": action, "result": result}


async def main(key_file: str, address: str, port: str) -> None:
    identity = load_or_create(Path(key_file), Kind.REGISTRY)
    reader = asyncio.StreamReader(limit=64 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with running(identity, addresses=(address,), port=int(port)) as here:
        print(here.reference(address), flush=True)  # noqa: T201 - its output is its interface
        while line := await reader.readline():
            answer = await take_command(here.hostile, line)
            print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
