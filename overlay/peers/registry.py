"""The registry as its callers see it: publish, fetch, list, watch.

What comes back is unverified: the registry is trusted with nothing but its own key, which is
checked before a request is sent. Whatever else goes wrong with it is Unavailable, never a crash.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, Self, TypeVar
from urllib.parse import urlencode

import msgspec
from yarl import URL

from overlay import addressing
from overlay.documents import schema, trust
from overlay.documents.envelope import Envelope, encode_envelope
from overlay.errors import Conflict, OverlayError, Refused, Rejected, Unavailable
from overlay.keys import identity as ids
from overlay.keys.identity import Kind, Signer
from overlay.model import RegistryId
from overlay.peers import registry_wire as wire
from overlay.peers.lean_aiohttp import aiohttp
from overlay.peers.pinning import PinnedKey
from overlay.peers.registry_auth import sign_request
from overlay.ports import Clock

CONNECT_DEADLINE_S: Final = 10.0
REQUEST_DEADLINE_S: Final = 30.0
MAX_REFERENCE_CHARS: Final = 400
_REFERENCE = re.compile(r"https://([^\s/?#@]+)#(registry1[a-z0-9]+)", re.ASCII)
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)

T = TypeVar("T")


class RegistryRef(msgspec.Struct, frozen=True):
    """Where a registry is, and which key it has: https://host:port#registry1..."""

    host: str
    port: int
    id: RegistryId

    @classmethod
    def parse(cls, text: str, *, field: str | None = None) -> Self:
        """Raises Rejected, saying what a reference looks like."""
        found = _REFERENCE.fullmatch(text) if len(text) <= MAX_REFERENCE_CHARS else None
        if found is None:
            raise _no_reference(field)
        host, colon, port = found[1].rpartition(":")
        if not (colon and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
            raise _no_reference(field)
        if host.startswith("[") and host.endswith("]"):
            host = addressing.parse_address(host[1:-1], field=field)
        elif _HOST_NAME.fullmatch(host) is None:
            raise _no_reference(field)
        ids.parse_id(Kind.REGISTRY, found[2], field=field)
        return cls(host, int(port), RegistryId(found[2]))

    def __str__(self) -> str:
        return f"{self.origin}#{self.id}"

    @property
    def pin(self) -> PinnedKey:
        """What lets a connection be used with this registry alone."""
        return PinnedKey(ids.parse_id(Kind.REGISTRY, self.id))

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


class Document(msgspec.Struct, frozen=True):
    """A document as the registry gave it. `envelope` is its text, for `parse_envelope`."""

    revision: int
    key: str
    envelope: bytes


class Bookmark(msgspec.Struct, frozen=True):
    """All up to this revision has been given: the place to resume from."""

    revision: int


class Snapshot(msgspec.Struct, frozen=True):
    """All the registry has for us; what is not in it, the registry does not have (any more)."""

    revision: int
    documents: tuple[Document, ...]


WatchEvent = Document | Bookmark | Snapshot


class PublishConflict(Conflict):
    """A document was refused in favour of `current`, where the registry may show it."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        current: Document | None = None,
    ) -> None:
        super().__init__(message, field=field, remedy=remedy)
        self.current = current


class RegistryClient:
    """One caller at one registry. Everything raises Unavailable when it does not answer."""

    def __init__(
        self,
        ref: RegistryRef,
        identity: Signer,
        clock: Clock,
        *,
        heartbeat_s: float = wire.HEARTBEAT_S,
    ) -> None:
        self._ref = ref
        self._identity = identity
        self._clock = clock
        self._silence_s = heartbeat_s * wire.MISSED_HEARTBEATS
        self._session: aiohttp.ClientSession | None = None

    @property
    def ref(self) -> RegistryRef:
        return self._ref

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._forget_connections()

    async def publish(self, envelope: Envelope) -> int:
        """The revision at which the registry holds the document.

        Raises PublishConflict with what is there instead, Refused or Rejected with why.
        """
        key = _key_of(envelope)
        body = await self._request("PUT", f"{wire.DOCUMENTS_PATH}/{key}", encode_envelope(envelope))
        return _decode(body, wire.Accepted).revision

    async def fetch(self, key: str) -> Document | None:
        """The document; None when there is none, or none for this caller."""
        wire.parse_key(key)
        try:
            body = await self._request("GET", f"{wire.DOCUMENTS_PATH}/{key}")
        except _NotFound:
            return None
        return _document(_decode(body, wire.DocumentFrame))

    async def list(self, kind: str, network: str | None = None) -> tuple[Document, ...]:
        """All documents of a kind, or of a kind in a network, that this caller may see."""
        found: list[Document] = []
        query = {"kind": kind, **({"network": network} if network else {})}
        size = 0
        while True:
            body = await self._request("GET", f"{wire.DOCUMENTS_PATH}?{urlencode(query, safe='/')}")
            page = _decode(body, wire.Page)
            size += len(body)
            found += map(_document, page.documents)
            if page.next is None:
                return tuple(found)
            if not page.documents or page.next <= query.get("after", ""):
                raise Unavailable(f"{self._ref.origin} gives pages in no order")
            if len(found) > wire.MAX_SNAPSHOT_DOCUMENTS or size > wire.MAX_SNAPSHOT_BYTES:
                raise Unavailable(f"{self._ref.origin} gives more documents than there can be")
            query["after"] = page.next

    async def watch(self, from_revision: int | None = None) -> AsyncIterator[WatchEvent]:
        """Everything this caller may see, from after `from_revision` on; a snapshot when None.

        Resume with the revision of the last Bookmark or Snapshot: a Document's own revision says
        nothing about the others. Ends only with Unavailable: the registry is gone, silent for too
        long, or sends what it must not. Every watch looks the name up and connects anew.
        """
        target = wire.WATCH_PATH + ("" if from_revision is None else f"?from={from_revision}")
        headers = self._headers("GET", target)
        async with (
            self._new_session() as session,
            self._explained(),
            session.request("GET", self._url(target), headers=headers) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise _error(response.status, await _read(response, wire.MAX_PROBLEM_BYTES))
            async for event in self._events(response):
                yield event
        raise Unavailable(f"{self._ref.origin} ended the stream")

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncIterator[WatchEvent]:
        gathering = _Gathering()
        while True:
            async with asyncio.timeout(self._silence_s):
                chunk = await response.content.readany()
            if not chunk:
                return
            for event in gathering.feed(chunk):
                yield event

    async def _request(self, method: str, target: str, body: bytes = b"") -> bytes:
        if self._session is None:
            self._session = self._new_session()
        limit = wire.MAX_PAGE_BODY_BYTES
        headers = self._headers(method, target, body)
        try:
            async with (
                self._explained(),
                asyncio.timeout(REQUEST_DEADLINE_S),
                self._session.request(
                    method, self._url(target), headers=headers, data=body or None
                ) as response,
            ):
                answer = await _read(response, limit)
                status = response.status
        except Unavailable:
            # The name may lead elsewhere now, and the connection may be dead.
            await self._forget_connections()
            raise
        if status != HTTPStatus.OK:
            raise _error(status, answer)
        return answer

    def _headers(self, method: str, target: str, body: bytes = b"") -> dict[str, str]:
        token = sign_request(
            self._identity,
            registry=self._ref.id,
            method=method,
            target=target,
            body=body,
            now=self._clock.now(),
        )
        # What is signed is the plain body; and nothing that unpacks to more than it was.
        headers = {"Authorization": token, "Accept-Encoding": "identity"}
        return {**headers, "Content-Type": "application/json"} if body else headers

    def _url(self, target: str) -> URL:
        return URL(self._ref.origin + target, encoded=True)

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._ref.pin, use_dns_cache=False, limit=8),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_DEADLINE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            requote_redirect_url=False,
        )

    async def _forget_connections(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        """Whatever the other side or the way to it does wrong, as Unavailable."""
        origin = self._ref.origin
        try:
            yield
        except aiohttp.ServerFingerprintMismatch as exc:
            raise Unavailable(
                f"{origin} does not have the key {self._ref.id}",
                remedy="check the registry's address and key",
            ) from exc
        except TimeoutError as exc:
            raise Unavailable(f"{origin} does not answer") from exc
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as exc:
            raise Unavailable(f"{origin}: {type(exc).__name__}: {exc}"[:300]) from exc
        except _Malformed as exc:
            raise Unavailable(f"{origin}: {exc}") from exc


class _NotFound(Refused):
    """The registry has it not, or not for us."""


class _Malformed(Exception):
    """The registry sends what no registry sends."""


class _Gathering:
    """Bytes to events: a snapshot is one event, however many lines it takes."""

    __slots__ = ("_documents", "_head", "_lines", "_size")

    def __init__(self) -> None:
        self._lines = wire.Lines()
        self._head: wire.SnapshotFrame | None = None
        self._documents: list[Document] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[WatchEvent]:
        """The events that end in `chunk`. Raises _Malformed."""
        try:
            for line in self._lines.feed(chunk):
                if (event := self._take(wire.parse_frame(line), len(line))) is not None:
                    yield event
        except Rejected as exc:
            raise _Malformed(exc.message) from exc

    def _take(self, frame: wire.Frame, size: int) -> WatchEvent | None:
        match frame:
            case wire.SnapshotFrame() if self._head is None:
                self._head, self._documents, self._size = frame, [], 0
                return self._snapshot_if_whole()
            case wire.DocumentFrame() if self._head is None:
                return _document(frame)
            case wire.DocumentFrame():
                self._documents.append(_document(frame))
                self._size += size
                if self._size > wire.MAX_SNAPSHOT_BYTES:
                    raise Rejected(f"a snapshot has more than {wire.MAX_SNAPSHOT_BYTES} bytes")
                return self._snapshot_if_whole()
            case wire.BookmarkFrame() if self._head is None:
                return Bookmark(frame.revision)
        raise Rejected("a snapshot is not whole")

    def _snapshot_if_whole(self) -> Snapshot | None:
        head = self._head
        if head is None or len(self._documents) < head.count:
            return None
        snapshot = Snapshot(head.revision, tuple(self._documents))
        self._head, self._documents = None, []
        return snapshot


def _document(frame: wire.DocumentFrame) -> Document:
    return Document(frame.revision, frame.key, bytes(frame.envelope))


def _key_of(envelope: Envelope) -> str:
    document = schema.parse_document(envelope.payload, envelope.payload_type)
    return trust.document_key(document)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > limit:
            raise _Malformed(f"the answer is larger than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def _decode(body: bytes, model: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=model)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise Unavailable("the registry's answer is malformed") from exc


def _error(status: int, body: bytes) -> OverlayError:
    """What a problem document means to the caller (REG-061)."""
    try:
        problem = msgspec.json.decode(body, type=wire.Problem)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Unavailable(f"the registry answers {status} and does not say why")
    message, field, remedy = map(_plain, (problem.detail, problem.field, problem.remedy))
    message = message or f"the registry answers {status}"
    match status:
        case HTTPStatus.CONFLICT:
            current = _document(problem.current) if problem.current is not None else None
            return PublishConflict(message, field=field, remedy=remedy, current=current)
        case HTTPStatus.NOT_FOUND:
            return _NotFound(message, field=field, remedy=remedy)
        case HTTPStatus.FORBIDDEN:
            return Refused(message, field=field, remedy=remedy)
        # A token is made anew for the next request, with what the clock says then.
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.TOO_MANY_REQUESTS:
            return Unavailable(message, field=field, remedy=remedy)
        case _ if 400 <= status < 500:
            return Rejected(message, field=field, remedy=remedy)
    return Unavailable(message, field=field, remedy=remedy)


def _plain(text: str | None) -> str | None:
    """Text of a stranger, fit for a terminal and a log line."""
    return None if text is None else "".join(c if c.isprintable() else "?" for c in text)


def _no_reference(field: str | None) -> Rejected:
    return Rejected(
        "is not a registry reference", field=field, remedy="write https://host:port#registry1..."
    )
