"""What the registry and its callers send each other, as types: frames of the watch stream, pages,
problems, and the bounds on all of them. Both sides use this module; it does no IO.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from overlay.documents import schema
from overlay.documents.envelope import MAX_ENVELOPE_BYTES, MAX_PAYLOAD_BYTES
from overlay.errors import Rejected
from overlay.keys import identity
from overlay.keys.identity import Kind

DOCUMENTS_PATH: Final = "/v1/documents"
WATCH_PATH: Final = "/v1/watch"
HEARTBEAT_S: Final = 15.0
MISSED_HEARTBEATS: Final = 3  # a stream that is silent for so many is dead

MAX_KEY_CHARS: Final = 160  # "member/" and two ids of at most 66 characters
KEY_PATTERN: Final = "^[0-9a-z/]{1,160}$"
MAX_PAGE_DOCUMENTS: Final = 1_000
MAX_PAGE_BYTES: Final = 8 << 20  # a page ends with the document that passes this
MAX_LINE_BYTES: Final = MAX_ENVELOPE_BYTES + 1_024
MAX_PAGE_BODY_BYTES: Final = MAX_PAGE_BYTES + MAX_LINE_BYTES + 4_096
MAX_SNAPSHOT_DOCUMENTS: Final = 262_144
MAX_SNAPSHOT_BYTES: Final = 128 << 20
MAX_PROBLEM_BYTES: Final = MAX_LINE_BYTES + 16_384
MAX_PROBLEM_CHARS: Final = 1_024

Revision = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Key = Annotated[str, Meta(max_length=MAX_KEY_CHARS)]


class DocumentFrame(msgspec.Struct, frozen=True, tag_field="type", tag="document"):
    """A document as the registry holds it; the envelope is not verified."""

    revision: Revision
    key: Key
    envelope: msgspec.Raw


class BookmarkFrame(msgspec.Struct, frozen=True, tag_field="type", tag="bookmark"):
    """Everything up to this revision has been sent: where to resume from."""

    revision: Revision


class SnapshotFrame(msgspec.Struct, frozen=True, tag_field="type", tag="snapshot"):
    """The next `count` frames are documents, and all there is at `revision`."""

    revision: Revision
    count: Annotated[int, Meta(ge=0, le=MAX_SNAPSHOT_DOCUMENTS)]


Frame = DocumentFrame | BookmarkFrame | SnapshotFrame


class Accepted(msgspec.Struct, frozen=True):
    """The answer to a document that is stored."""

    key: Key
    revision: Revision


class Page(msgspec.Struct, frozen=True):
    """Some of the documents asked for; the next page starts after the key `next`."""

    revision: Revision
    documents: Annotated[tuple[DocumentFrame, ...], Meta(max_length=MAX_PAGE_DOCUMENTS)]
    next: Key | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457, with what is wrong, what helps, and what is there instead."""

    type: str
    title: Annotated[str, Meta(max_length=MAX_PROBLEM_CHARS)]
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: Annotated[str, Meta(max_length=MAX_PROBLEM_CHARS)] = ""
    field: Annotated[str, Meta(max_length=MAX_PROBLEM_CHARS)] | None = None
    remedy: Annotated[str, Meta(max_length=MAX_PROBLEM_CHARS)] | None = None
    current: DocumentFrame | None = None


PROBLEM_TYPE: Final = "application/problem+json"
NDJSON_TYPE: Final = "application/x-ndjson"

_FRAME: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)


def max_envelope_bytes(kind: str) -> int:
    """The largest envelope that may hold a document of this kind."""
    spare = MAX_PAYLOAD_BYTES - schema.MAX_BYTES[kind]
    return MAX_ENVELOPE_BYTES - 4 * (spare // 3)


def parse_key(key: str) -> tuple[str, ...]:
    """Kind and ids of a document key. Raises Rejected."""
    kind, *ids = key.split("/") if len(key) <= MAX_KEY_CHARS else ("",)
    match kind, ids:
        case "farm", [farm]:
            identity.parse_id(Kind.FARM, farm, field="key")
        case "node", [node]:
            identity.parse_id(Kind.NODE, node, field="key")
        case "network", [network]:
            identity.parse_network_id(network, field="key")
        case "member" | "result" | "sighting", [network, node]:
            identity.parse_network_id(network, field="key")
            identity.parse_id(Kind.NODE, node, field="key")
        case _:
            raise Rejected("is not a document key", field="key", remedy="write kind/id")
    return (kind, *ids)


def document_line(*, key: str, revision: int, envelope: bytes) -> bytes:
    """One frame of the stream, which is also the answer to a request for the document."""
    return msgspec.json.encode(DocumentFrame(revision, key, msgspec.Raw(envelope))) + b"\n"


def bookmark_line(revision: int) -> bytes:
    return msgspec.json.encode(BookmarkFrame(revision)) + b"\n"


def snapshot_line(revision: int, *, count: int) -> bytes:
    return msgspec.json.encode(SnapshotFrame(revision, count)) + b"\n"


def parse_frame(line: bytes) -> Frame:
    """Raises Rejected, and nothing else. Members added by a later registry are ignored."""
    try:
        return _FRAME.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise Rejected("the stream holds a malformed frame", field="frame") from exc


class Lines:
    """Bytes in, whole lines out; holds no more than one line of bounded length."""

    __slots__ = ("_max_bytes", "_parts", "_size")

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in `chunk`. Raises Rejected on one that is too long."""
        *complete, rest = chunk.split(b"\n")
        for end in complete:
            yield self._take(end)
        self._add(rest)

    def _take(self, end: bytes) -> bytes:
        self._add(end)
        line = b"".join(self._parts)
        self._parts, self._size = [], 0
        return line

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max_bytes:
            raise Rejected(f"a line is longer than {self._max_bytes} bytes", field="frame")
        if part:
            self._parts.append(part)
