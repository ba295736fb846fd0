"""Errors as RFC 9457 problem documents. Pure."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from overlay.errors import Conflict, OverlayError, Refused, Rejected
from overlay.peers import registry_wire as wire
from overlay.peers.registry_wire import DocumentFrame, Problem

TYPE_PREFIX = "urn:zos:problem:"


class HttpProblem(Rejected):
    """A request that HTTP has a status of its own for."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, field=field, remedy=remedy)
        self.status = status
        self.headers = headers or {}


def status_of(error: OverlayError) -> HTTPStatus:
    match error:
        case HttpProblem():
            return error.status
        case Conflict():
            return HTTPStatus.CONFLICT
        case Refused():
            return HTTPStatus.FORBIDDEN
        case Rejected():
            return HTTPStatus.BAD_REQUEST
        case _:
            return HTTPStatus.SERVICE_UNAVAILABLE


def problem_of(error: OverlayError, *, current: DocumentFrame | None = None) -> Problem:
    status = status_of(error)
    return Problem(
        type=type_of(status),
        title=status.phrase,
        status=status,
        detail=_cut(error.message),
        field=_cut(error.field) if error.field is not None else None,
        remedy=_cut(error.remedy) if error.remedy is not None else None,
        current=current,
    )


def type_of(status: HTTPStatus) -> str:
    return TYPE_PREFIX + status.phrase.lower().replace(" ", "-")


def encode(problem: Problem) -> bytes:
    return msgspec.json.encode(problem)


def _cut(text: str) -> str:
    return text[: wire.MAX_PROBLEM_CHARS]
