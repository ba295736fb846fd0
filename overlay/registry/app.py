"""The registry's HTTP side: who sends a request, what it asks for, and the answer.

Every error is a problem document. Nothing that is answered here was ever a secret: the registry
holds none but its own key.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from overlay.documents import envelope as dsse
from overlay.documents import schema, trust
from overlay.documents.envelope import Envelope
from overlay.documents.trust import Verified
from overlay.errors import OverlayError, Refused, Rejected, Unavailable
from overlay.keys.identity import Kind
from overlay.peers import registry_auth as auth
from overlay.peers import registry_wire as wire
from overlay.ports import Clock
from overlay.registry import admission, limits, openapi, problems
from overlay.registry.admission import AlreadyThere
from overlay.registry.limits import Buckets
from overlay.registry.metrics import Metrics
from overlay.registry.problems import HttpProblem
from overlay.registry.routes import Action, Auth, Match, Route, match
from overlay.registry.service import Service
from overlay.registry.watchers import Closed, Watcher

log = logging.getLogger(__name__)

_JSON = "application/json"
_NO_BODY = hashlib.sha256(b"").digest()


class Call(msgspec.Struct, frozen=True):
    """One request whose sender is known."""

    request: web.BaseRequest
    match: Match
    caller: str
    body: bytes


class App:
    """Answers requests. One per registry."""

    def __init__(
        self,
        service: Service,
        *,
        registry: str,
        clock: Clock,
        buckets: Buckets,
        heartbeat_s: float,
    ) -> None:
        self._service = service
        self._registry = registry
        self._clock = clock
        self._buckets = buckets
        self._heartbeat_s = heartbeat_s
        self._large_bodies = asyncio.Semaphore(limits.MAX_LARGE_BODIES)
        self._actions: dict[Action, Callable[[Call], Awaitable[web.StreamResponse]]] = {
            "health": self._health,
            "metrics": self._metrics,
            "openapi": self._openapi,
            "put": self._put,
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
        }
        self.metrics = Metrics(service)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request, whatever happens."""
        started = self._clock.monotonic()
        route: Route | None = None
        try:
            found = match(request.method, request.raw_path)
            route = found.route
            response = await self._actions[route.action](await self._admit(request, found))
        except OverlayError as exc:
            response = problem_response(exc)
        except Exception:  # one bad request never ends the registry
            log.exception("request failed", extra={"route": route.path if route else None})
            response = problem_response(
                HttpProblem(HTTPStatus.INTERNAL_SERVER_ERROR, "the registry made a mistake")
            )
        if route is None or route.action != "watch":
            elapsed_s = self._clock.monotonic() - started
            self.metrics.count(route, response.status, elapsed_s=elapsed_s)
        return response

    async def _admit(self, request: web.BaseRequest, found: Match) -> Call:
        """The request and its sender. Raises with the status that says why not."""
        match found.route.auth:
            case Auth.PUBLIC:
                return Call(request, found, "", b"")
            case Auth.LOCAL:
                if not _is_local(request.remote):
                    raise Refused("is answered on the registry's own machine only")
                return Call(request, found, "", b"")
            case Auth.SIGNED:
                return await self._admit_signed(request, found)

    async def _admit_signed(self, request: web.BaseRequest, found: Match) -> Call:
        try:
            token = auth.parse_token(request.headers.get("Authorization", ""))
            auth.check_fresh(token, now=self._clock.now())
            body = await self._read_body(request, found.route)
            kind = auth.verify_token(
                token,
                registry=self._registry,
                method=request.method,
                target=request.raw_path,
                body_sha256=hashlib.sha256(body).digest() if body else _NO_BODY,
            )
        except HttpProblem:
            raise
        except Rejected as exc:
            raise HttpProblem(
                HTTPStatus.UNAUTHORIZED,
                exc.message,
                field=exc.field,
                remedy=exc.remedy,
                headers={"WWW-Authenticate": auth.SCHEME},
            ) from exc
        wait_s = self._buckets.take(token.id, now=self._clock.monotonic())
        if wait_s > 0:
            raise HttpProblem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many requests",
                remedy="send fewer",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )
        if kind is Kind.INVITE and found.route.action not in ("get", "list"):
            raise Refused("an invitation reads one network and its members, no more")
        return Call(request, found, token.id, body)

    async def _read_body(self, request: web.BaseRequest, route: Route) -> bytes:
        limit = wire.max_envelope_bytes(route.kind) if route.action == "put" else 0
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        if not request.body_exists:
            return b""
        await _continue(request)
        if limit <= limits.LARGE_BODY_BYTES:
            return await _read(request, limit)
        async with self._large_bodies:
            return await _read(request, limit)

    async def _health(self, _: Call) -> web.StreamResponse:
        return _json({"status": "ok", "revision": self._service.directory.revision})

    async def _openapi(self, _: Call) -> web.StreamResponse:
        return web.Response(body=openapi.describe(), content_type=_JSON)

    async def _metrics(self, _: Call) -> web.StreamResponse:
        body, content_type = self.metrics.render()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _put(self, call: Call) -> web.StreamResponse:
        wire.parse_key(call.match.key)
        if call.request.content_type != _JSON:
            raise HttpProblem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {_JSON}")
        # Verifying a large document takes long enough to be felt by everybody else.
        if len(call.body) > limits.LARGE_BODY_BYTES:
            envelope, verified = await asyncio.to_thread(_verify, call.body)
        else:
            envelope, verified = _verify(call.body)
        if verified.key != call.match.key:
            raise Rejected(f"the document is {verified.key}", field="payload")
        if not admission.may_publish(call.caller, envelope):
            raise Refused(f"{call.caller} did not sign this document", field="Authorization")
        try:
            revision = await self._service.publish(verified, envelope)
        except AlreadyThere as exc:
            return problem_response(exc, current=self._visible(call.caller, exc))
        log.info(
            "document stored",
            extra={"document": verified.key, "version": verified.version, "revision": revision},
        )
        return _json(wire.Accepted(verified.key, revision))

    def _visible(self, caller: str, conflict: AlreadyThere) -> bytes | None:
        held = conflict.current
        now = self._clock.now()
        if held is None or not self._service.directory.may_read(caller, held.key, now=now):
            return None
        return held.line

    async def _get(self, call: Call) -> web.StreamResponse:
        key = call.match.key
        wire.parse_key(key)
        directory = self._service.directory
        may_read = directory.may_read(call.caller, key, now=self._clock.now())
        # What a caller may not see does not exist for them; else ids could be probed.
        if not may_read or (held := directory.held(key)) is None:
            raise HttpProblem(HTTPStatus.NOT_FOUND, f"there is no {key}, or not for you")
        return web.Response(body=held.line, content_type=_JSON)

    async def _list(self, call: Call) -> web.StreamResponse:
        kind, network, limit, after = _parse_listing(call.match)
        directory = self._service.directory
        found = directory.readable(call.caller, kind, network=network, now=self._clock.now())
        keys = sorted(key for key in found if key > after)
        lines: list[bytes] = []
        size = 0
        for key in keys[:limit]:
            lines.append(found[key].line.rstrip())
            size += len(lines[-1])
            if size > wire.MAX_PAGE_BYTES:
                break
        following = keys[len(lines) - 1] if len(lines) < len(keys) else None
        documents = msgspec.Raw(b"[" + b",".join(lines) + b"]")
        return _json({"revision": directory.revision, "documents": documents, "next": following})

    async def _watch(self, call: Call) -> web.StreamResponse:
        after = _parse_number(call.match.query, "from", 0, 2**53 - 1)
        with self._service.watching(call.caller, after=after) as watcher:
            response = web.StreamResponse(
                headers={"Content-Type": wire.NDJSON_TYPE, "Cache-Control": "no-store"}
            )
            self.metrics.count(call.match.route, response.status)
            await response.prepare(call.request)
            try:
                await self._stream(watcher, response)
                await response.write_eof()
            except (ConnectionError, TimeoutError):
                # The caller is gone or does not read; it will come back.
                response.force_close()
                if call.request.transport is not None:
                    call.request.transport.abort()
            return response

    async def _stream(self, watcher: Watcher, response: web.StreamResponse) -> None:
        while not watcher.closed:
            if not await watcher.wait(self._heartbeat_s):
                watcher.put((wire.bookmark_line(self._service.directory.revision),))
            async with asyncio.timeout(limits.WRITE_DEADLINE_S):
                await response.write(watcher.take())
        if watcher.closed is Closed.STOPPING:
            # Whoever got this far resumes from here at the next registry.
            watcher.put((wire.bookmark_line(self._service.directory.revision),))
            async with asyncio.timeout(limits.WRITE_DEADLINE_S):
                while watcher:
                    await response.write(watcher.take())


def problem_response(error: OverlayError, *, current: bytes | None = None) -> web.Response:
    frame = wire.parse_frame(current) if current is not None else None
    problem = problems.problem_of(
        error, current=frame if isinstance(frame, wire.DocumentFrame) else None
    )
    headers = error.headers if isinstance(error, HttpProblem) else {}
    if isinstance(error, Unavailable):
        headers = {"Retry-After": "1"}
    return web.Response(
        body=problems.encode(problem),
        status=problem.status,
        headers=headers,
        content_type=wire.PROBLEM_TYPE,
    )


def _verify(body: bytes) -> tuple[Envelope, Verified]:
    envelope = dsse.parse_envelope(body)
    return envelope, trust.verify(envelope)


async def _continue(request: web.BaseRequest) -> None:
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def _read(request: web.BaseRequest, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.REQUEST_DEADLINE_S):
            async for part in request.content.iter_any():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError as exc:
        raise HttpProblem(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from exc
    except (HttpProcessingError, web.RequestPayloadError) as exc:
        raise Rejected("the body is broken", field="body") from exc
    return b"".join(parts)


def _too_large(limit: int) -> HttpProblem:
    return HttpProblem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {limit} bytes", field="body"
    )


def _parse_listing(found: Match) -> tuple[str, str | None, int, str]:
    kind = found.query.get("kind", "")
    if kind not in schema.KINDS:
        raise Rejected("is none of " + ", ".join(schema.KINDS), field="kind")
    network = found.query.get("network")
    if network is not None:
        schema.parse_network_id(network, field="network")
    limit = _parse_number(found.query, "limit", 1, wire.MAX_PAGE_DOCUMENTS)
    after = found.query.get("after", "")
    if "after" in found.query and re.fullmatch(wire.KEY_PATTERN, after) is None:
        raise Rejected("is no document key", field="after")
    return kind, network, limit or wire.MAX_PAGE_DOCUMENTS, after


def _parse_number(query: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (re.fullmatch("0|[1-9][0-9]{0,15}", text) and least <= int(text) <= most):
        raise Rejected(f"is no number from {least} to {most}", field=name)
    return int(text)


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type=_JSON)


def _is_local(remote: str | None) -> bool:
    return remote is not None and ipaddress.ip_address(remote.partition("%")[0]).is_loopback
