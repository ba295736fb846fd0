"""Every request the registry answers, as a table: what is not in it does not exist. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Literal

import msgspec

from overlay.documents import schema
from overlay.peers.registry_wire import DOCUMENTS_PATH, WATCH_PATH
from overlay.registry.problems import HttpProblem

MAX_QUERY_CHARS = 1_024


class Auth(StrEnum):
    """Who may send a request; there is no default."""

    PUBLIC = "public"  # anybody; the answer holds nothing about anybody
    LOCAL = "local"  # from this machine
    SIGNED = "signed"  # the holder of a key, who is then asked what they may see


Action = Literal["health", "metrics", "openapi", "put", "get", "list", "watch"]


class Route(msgspec.Struct, frozen=True):
    method: Literal["GET", "PUT"]
    path: str  # "{...}" stands for one segment
    action: Action
    auth: Auth
    summary: str
    kind: str = ""  # of the document
    query: tuple[str, ...] = ()


class Match(msgspec.Struct, frozen=True):
    route: Route
    ids: Mapping[str, str]
    query: Mapping[str, str]

    @property
    def key(self) -> str:
        """The document's key."""
        return "/".join((self.route.kind, *self.ids.values()))


_SUBJECTS = {
    "farm": "{farm}",
    "node": "{node}",
    "network": "{network}",
    "member": "{network}/{node}",
    "result": "{network}/{node}",
    "sighting": "{network}/{node}",
}


def _document_routes(kind: str, subject: str) -> tuple[Route, Route]:
    path = f"{DOCUMENTS_PATH}/{kind}/{subject}"
    return (
        Route("GET", path, "get", Auth.SIGNED, f"One {kind} document", kind),
        Route("PUT", path, "put", Auth.SIGNED, f"Publish a {kind} document", kind),
    )


ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", "health", Auth.PUBLIC, "Whether the registry answers"),
    Route("GET", "/metrics", "metrics", Auth.LOCAL, "Counters in Prometheus' text format"),
    Route("GET", "/v1/openapi.json", "openapi", Auth.PUBLIC, "This description"),
    Route(
        "GET",
        DOCUMENTS_PATH,
        "list",
        Auth.SIGNED,
        "Documents of one kind that the caller may see",
        query=("kind", "network", "limit", "after"),
    ),
    Route(
        "GET",
        WATCH_PATH,
        "watch",
        Auth.SIGNED,
        "A stream of everything the caller may see, from a revision onward",
        query=("from",),
    ),
    *(route for kind in schema.KINDS for route in _document_routes(kind, _SUBJECTS[kind])),
)


def match(method: str, target: str) -> Match:
    """The route of a request. Raises HttpProblem when there is none."""
    path, _, query = target.partition("?")
    segments = path.split("/")
    at_path = [(r, ids) for r in ROUTES if (ids := _ids(r.path, segments)) is not None]
    if not at_path:
        raise HttpProblem(HTTPStatus.NOT_FOUND, "there is nothing here")
    for route, ids in at_path:
        if route.method == method:
            return Match(route, ids, _parse_query(route, query))
    allowed = ", ".join(sorted(route.method for route, _ in at_path))
    raise HttpProblem(HTTPStatus.METHOD_NOT_ALLOWED, f"use {allowed}", headers={"Allow": allowed})


def _ids(template: str, segments: list[str]) -> dict[str, str] | None:
    parts = template.split("/")
    if len(parts) != len(segments):
        return None
    ids: dict[str, str] = {}
    for part, segment in zip(parts, segments, strict=True):
        if part.startswith("{"):
            ids[part[1:-1]] = segment
        elif part != segment:
            return None
    return ids


def _parse_query(route: Route, query: str) -> dict[str, str]:
    """Names and values of one meaning: known, once, and without percent signs."""
    found: dict[str, str] = {}
    if len(query) > MAX_QUERY_CHARS:
        raise HttpProblem(HTTPStatus.REQUEST_URI_TOO_LONG, "the query is too long")
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if not equals or name not in route.query or name in found or "%" in value:
            raise HttpProblem(
                HTTPStatus.BAD_REQUEST,
                "is unknown, given twice or not plain",
                field=name[:64],
                remedy="known are: " + (", ".join(route.query) or "none"),
            )
        found[name] = value
    return found
