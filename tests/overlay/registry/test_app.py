"""Requests as they come over the wire: who may send them, and what is answered (REG-010 .. 019)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from overlay.documents import envelope as dsse
from overlay.errors import Conflict, OverlayError, Refused, Unavailable
from overlay.keys.identity import Identity, Kind
from overlay.peers import registry_wire as wire
from overlay.peers.registry import PublishConflict
from overlay.peers.registry_auth import TOKEN_LIFETIME_S, sign_request
from overlay.peers.registry_wire import Problem
from overlay.registry import limits, openapi
from overlay.registry.routes import ROUTES, Auth
from overlay.registry.serve import Running
from tests.overlay.registry import kit

OWNER = kit.tenant()
NODE = kit.node("a")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Running]:
    async with kit.registry(tmp_path) as running:
        yield running


@asynccontextmanager
async def plain_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session of somebody who looks at no certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        yield session


async def send(
    at: Running,
    method: str,
    target: str,
    *,
    who: Identity | None = NODE,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    chunked: bool = False,
    token: dict[str, Any] | None = None,
) -> tuple[int, bytes, Any]:
    """Status, body and headers of one request; `token` says what is signed instead."""
    sent = {"Content-Type": "application/json"} if body else {}
    if who is not None:
        signed = {"registry": at.id, "method": method, "target": target, "body": body}
        sent["Authorization"] = sign_request(who, **{**signed, "now": kit.NOW, **(token or {})})
    url = URL(f"https://127.0.0.1:{at.port}{target}", encoded=True)
    content = _chunks(body) if chunked else body or None
    async with (
        plain_session() as session,
        session.request(method, url, data=content, headers={**sent, **(headers or {})}) as r,
    ):
        return r.status, await r.read(), r.headers


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


def problem(status: int, body: bytes, headers: Any) -> Problem:
    """The problem document of an answer, which every error must be."""
    assert headers["Content-Type"].split(";")[0] == wire.PROBLEM_TYPE
    found = msgspec.json.decode(body, type=Problem)
    assert found.status == status
    return found


def example(path: str) -> str:
    """A path of the route table with ids in it."""
    ids = {
        "farm": kit.farm().id,
        "node": NODE.id,
        "network": kit.network_id(kit.network(OWNER)),
    }
    return path.format(**ids)


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.path}")
async def test_every_route_asks_who_it_is(here: Running, route: Any) -> None:  # REG-011
    status, body, headers = await send(here, route.method, example(route.path), who=None)
    if route.auth is Auth.SIGNED:
        assert problem(status, body, headers).status == HTTPStatus.UNAUTHORIZED
        assert headers["WWW-Authenticate"] == "ZOS-EdDSA"
    else:
        assert status == HTTPStatus.OK
        assert route.path in ("/health", "/metrics", "/v1/openapi.json")


SIGNED_FOR = "/v1/documents?kind=node"


@pytest.mark.parametrize(
    "token",
    [
        {"registry": kit.key(Kind.REGISTRY, "other").id},
        {"method": "PUT"},
        {"target": "/v1/documents?kind=farm"},
        {"body": b"x"},
        {"now": kit.NOW.replace(minute=1, second=1)},
        {"now": kit.NOW.replace(year=2025)},
    ],
)
async def test_a_token_is_good_for_one_request_only(here: Running, token: dict[str, Any]) -> None:
    status, body, headers = await send(here, "GET", SIGNED_FOR, token=token)  # REG-010
    assert problem(status, body, headers).status == HTTPStatus.UNAUTHORIZED


async def test_a_token_is_good_as_long_as_it_lives(tmp_path: Path) -> None:  # REG-010
    clock = kit.Clock()
    async with kit.registry(tmp_path, clock=clock) as here:
        clock.advance(TOKEN_LIFETIME_S)
        assert (await send(here, "GET", SIGNED_FOR))[0] == HTTPStatus.OK
        clock.advance(0.001)
        answer = await send(here, "GET", SIGNED_FOR)
        assert problem(*answer).remedy == "set the clock"


@pytest.mark.parametrize("kind", [Kind.REGISTRY, Kind.WG])
async def test_some_keys_send_no_requests(here: Running, kind: Kind) -> None:
    answer = await send(here, "GET", SIGNED_FOR, who=kit.key(kind, "x"))
    assert problem(*answer).status == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize("action", ["put", "watch"])
async def test_a_token_of_invitation_only_reads(here: Running, action: str) -> None:
    method, target = (
        ("PUT", f"/v1/documents/node/{NODE.id}")
        if action == "put"
        else (
            "GET",
            "/v1/watch",
        )
    )
    answer = await send(here, method, target, who=kit.invite(), body=b"{}" * (action == "put"))
    assert problem(*answer).status == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/documents/", 404),
        ("GET", "/v1/documents/thing/x", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/v1/documents/node/%00", 400),
        ("GET", "/v1/documents/node/x", 400),
        ("GET", "/v1/documents/member/x/y", 400),
        ("DELETE", "/v1/watch", 405),
        ("POST", "/v1/documents", 405),
        ("OPTIONS", "/health", 405),
        ("HEAD", "/health", 405),
        ("GET", "/v1/documents", 400),
        ("GET", "/v1/documents?kind=x", 400),
        ("GET", "/v1/documents?kind=node&kind=node", 400),
        ("GET", "/v1/documents?kind=node&more=1", 400),
        ("GET", "/v1/documents?kind=node&limit=0", 400),
        ("GET", "/v1/documents?kind=node&limit=1001", 400),
        ("GET", "/v1/documents?kind=node&limit=01", 400),
        ("GET", "/v1/documents?kind=node&after=", 400),
        ("GET", "/v1/documents?kind=node&after=A", 400),
        ("GET", f"/v1/documents?kind=node&after={'a' * 161}", 400),
        ("GET", "/v1/documents?kind=member&network=net1x", 400),
        ("GET", "/v1/watch?from=-1", 400),
        ("GET", "/v1/watch?from=9007199254740992", 400),
        ("GET", "/v1/watch?from=\u0661", 400),
        ("GET", "/health?x=1", 400),
        ("GET", "/health?" + "x" * 1_025, 414),
        ("GET", "/" + "x" * 3_000, 400),
    ],
)
async def test_whatever_is_wrong_is_a_problem(
    here: Running, method: str, target: str, status: int
) -> None:  # REG-012
    target = str(URL(target)) if target.isascii() is False else target
    answer = await send(here, method, target)
    assert answer[0] == status
    if method != "HEAD":
        problem(*answer)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        assert answer[2]["Allow"]


async def test_a_mistake_of_ours_is_a_problem_and_says_nothing(
    here: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(here.service.directory, "readable", broken)
    answer = await send(here, "GET", SIGNED_FOR)
    assert problem(*answer).status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert b"secret" not in answer[1]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 5_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 80 + b"\r\n",
        b"GET /" + b"x" * 3_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_by_a_problem(here: Running, raw: bytes) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # REG-013
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port, ssl=tls)
    writer.write(raw)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert b"application/problem+json" in answer
    assert answer.split(b" ")[1] in (b"400", b"414", b"431")


async def test_who_never_asks_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRST_REQUEST_DEADLINE_S", 0.05)  # REG-013
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    async with kit.registry(tmp_path) as here, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port, ssl=tls)
        writer.write(b"GET /health HT")
        assert await reader.read() == b""
        writer.close()


async def test_connections_are_counted(tmp_path: Path) -> None:  # REG-013
    async with kit.registry(tmp_path, max_connections=1) as here, plain_session() as session:
        async with session.get(f"https://127.0.0.1:{here.port}/health") as kept:
            assert kept.status == HTTPStatus.OK
            await kept.read()
        with pytest.raises(aiohttp.ClientError):
            await send(here, "GET", "/health")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("above", [0, 1])
async def test_a_body_is_as_large_as_its_kind_may_be(
    here: Running, above: int, chunked: bool
) -> None:  # REG-013
    limit = wire.max_envelope_bytes("node")
    body = b" " * (limit + above)
    answer = await send(here, "PUT", f"/v1/documents/node/{NODE.id}", body=body, chunked=chunked)
    assert problem(*answer).status == (413 if above else 400)


@pytest.mark.parametrize("kind", ["farm", "network"])
async def test_the_largest_envelope_of_a_kind_fits(kind: str) -> None:
    from overlay.documents import schema

    payload = b"x" * schema.MAX_BYTES[kind]
    signers = [kit.tenant(f"{n}") for n in range(dsse.MAX_SIGNATURES)]
    envelope = dsse.sign(payload, schema.payload_type(kind), *signers)
    assert len(dsse.encode_envelope(envelope)) <= wire.max_envelope_bytes(kind)


async def test_a_body_is_json_and_says_so(here: Running) -> None:
    body = dsse.encode_envelope(kit.signed_node("a"))
    target = f"/v1/documents/node/{NODE.id}"
    headers = {"Content-Type": "text/plain"}
    assert (await send(here, "PUT", target, body=body, headers=headers))[0] == 415
    assert (await send(here, "PUT", target, body=body))[0] == HTTPStatus.OK


async def test_a_document_has_one_place(here: Running) -> None:
    body = dsse.encode_envelope(kit.signed_node("a"))
    answer = await send(here, "PUT", f"/v1/documents/node/{kit.node('b').id}", body=body)
    assert problem(*answer).field == "payload"


async def test_a_document_is_brought_by_who_signed_it(here: Running) -> None:  # REG-040
    body = dsse.encode_envelope(kit.signed_node("a"))
    answer = await send(here, "PUT", f"/v1/documents/node/{NODE.id}", body=body, who=OWNER)
    assert problem(*answer).status == HTTPStatus.FORBIDDEN


async def test_each_changed_byte_is_refused(here: Running) -> None:  # REG-040
    body = dsse.encode_envelope(kit.signed_node("a"))
    key = f"node/{NODE.id}"
    async with plain_session() as session:
        url = f"https://127.0.0.1:{here.port}/v1/documents/{key}"
        for at in range(len(body)):
            changed = bytearray(body)
            changed[at] ^= 1 << at % 7
            token = sign_request(
                NODE,
                registry=here.id,
                method="PUT",
                target=f"/v1/documents/{key}",
                body=bytes(changed),
                now=kit.NOW,
            )
            headers = {"Authorization": token, "Content-Type": "application/json"}
            async with session.put(url, data=bytes(changed), headers=headers) as answer:
                assert answer.status in (400, 403), bytes(changed[max(0, at - 9) : at + 9])
    assert here.service.directory.held(key) is None


async def test_a_caller_sends_so_many_requests(tmp_path: Path) -> None:  # REG-014
    clock = kit.Clock()
    async with kit.registry(tmp_path, clock=clock, requests_per_s=1, request_burst=2) as here:
        statuses = [(await send(here, "GET", SIGNED_FOR))[0] for _ in range(2)]
        status, body, headers = await send(here, "GET", SIGNED_FOR)
        assert statuses == [HTTPStatus.OK] * 2
        assert problem(status, body, headers).status == HTTPStatus.TOO_MANY_REQUESTS
        assert headers["Retry-After"] == "2"
        # Others are not held up, nor by tokens that nobody signed.
        for _ in range(5):
            await send(here, "GET", SIGNED_FOR, who=kit.node("b"), token={"target": "/"})
        assert (await send(here, "GET", SIGNED_FOR, who=kit.node("b")))[0] == HTTPStatus.OK
        clock.advance(1)
        token = {"now": clock.now()}
        assert (await send(here, "GET", SIGNED_FOR, token=token))[0] == HTTPStatus.OK


async def test_metrics_are_local_and_name_nobody(here: Running) -> None:  # REG-015
    async with kit.client(here, NODE) as mine:
        await mine.publish(kit.signed_node("a"))
    await send(here, "GET", "/x" * 5)
    status, body, _ = await send(here, "GET", "/metrics", who=None)
    assert status == HTTPStatus.OK
    assert b'zos_registry_documents{kind="node"} 1.0' in body
    assert b'status="404"' in body
    assert b"node1" not in body
    assert b"/x" not in body


async def test_metrics_are_refused_elsewhere(
    here: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp.web.BaseRequest, "remote", "192.0.2.1")
    answer = await send(here, "GET", "/metrics", who=None)
    assert problem(*answer).status == HTTPStatus.FORBIDDEN


async def test_health_says_where_it_is(here: Running) -> None:
    status, body, _ = await send(here, "GET", "/health", who=None)
    assert (status, msgspec.json.decode(body)) == (200, {"status": "ok", "revision": kit.UNIX})


async def test_pages_hold_everything_once(here: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_PAGE_BYTES", 2_000)  # REG-016
    names = [f"n{n}" for n in range(7)]
    network = kit.network(OWNER, *names)
    async with kit.client(here, OWNER) as owner:
        await owner.publish(kit.sign(network, OWNER))
        for index, name in enumerate(names, 1):
            async with kit.client(here, kit.node(name)) as mine:
                await mine.publish(kit.signed_member(network, name, index))
        found = await owner.list("member", kit.network_id(network))
    assert len({document.key for document in found}) == len(found) == 7


async def test_50_redeemers_of_one_use(here: Running) -> None:  # REG-044
    token = kit.invite()
    network = kit.network(OWNER, invitations=(kit.invitation(token),))

    async def redeem(name: str) -> bool:
        async with kit.client(here, kit.node(name)) as mine:
            try:
                await mine.publish(kit.signed_member(network, name, 100, by=token))
            except PublishConflict:
                return False
            return True

    async with kit.client(here, OWNER) as owner:
        await owner.publish(kit.sign(network, OWNER))
        joined = await asyncio.gather(*(redeem(f"n{n}") for n in range(50)))
        assert sum(joined) == 1
        assert len(await owner.list("member", kit.network_id(network))) == 1


async def test_50_networks_of_one_tenant_at_once(here: Running) -> None:
    """All charge one counter; each is decided again until it is its turn."""
    networks = [kit.network(OWNER, name=f"n{n}") for n in range(50)]
    async with kit.client(here, OWNER) as owner:
        await asyncio.gather(*(owner.publish(kit.sign(n, OWNER)) for n in networks))
        assert len(await owner.list("network")) == 50


async def test_a_conflict_shows_what_is_there_to_who_may_see_it(here: Running) -> None:
    network = kit.network(OWNER, "a", "b")  # REG-041
    async with kit.client(here, OWNER) as owner:
        await owner.publish(kit.sign(kit.network(OWNER, version=2), OWNER))
        with pytest.raises(PublishConflict) as refused:
            await owner.publish(kit.sign(network, OWNER))
        current = refused.value.current
        assert current is not None
        assert dsse.parse_envelope(current.envelope) == kit.sign(
            kit.network(OWNER, version=2), OWNER
        )
    with pytest.raises(Refused):
        async with kit.client(here, NODE) as stranger:
            await stranger.publish(kit.signed_member(network, "a", 1))


async def test_a_device_in_use_is_not_shown_to_a_stranger(here: Running) -> None:
    one, two = kit.network(OWNER, "a"), kit.network(kit.tenant("x"), "b")
    for network, owner in ((one, OWNER), (two, kit.tenant("x"))):
        async with kit.client(here, owner) as mine:
            await mine.publish(kit.sign(network, owner))
    async with kit.client(here, NODE) as mine:
        await mine.publish(kit.signed_member(one, "a", 1, device_name="shared"))
    async with kit.client(here, kit.node("b")) as mine:
        with pytest.raises(Conflict) as refused:
            await mine.publish(kit.signed_member(two, "b", 1, device_name="shared"))
    assert isinstance(refused.value, PublishConflict)
    assert refused.value.current is None


async def test_an_expired_invitation_is_told_why(here: Running) -> None:  # REG-046
    token = kit.invite()
    invitations = (kit.invitation(token, expires=kit.UNIX - 1),)
    network = kit.network(OWNER, invitations=invitations)
    async with kit.client(here, OWNER) as owner, kit.client(here, token) as guest:
        await owner.publish(kit.sign(network, OWNER))
        with pytest.raises(Refused, match="expired"):
            await guest.fetch(f"network/{kit.network_id(network)}")
        with pytest.raises(Refused, match="expired"):
            await guest.list("member", kit.network_id(network))


async def test_an_invitation_reads_what_it_needs_to_choose(here: Running) -> None:
    token = kit.invite()
    network = kit.network(OWNER, "a", invitations=(kit.invitation(token),))
    async with kit.client(here, OWNER) as owner, kit.client(here, token) as guest:
        await owner.publish(kit.sign(network, OWNER))
        async with kit.client(here, NODE) as mine:
            await mine.publish(kit.signed_member(network, "a", 1))
        assert await guest.fetch(f"network/{kit.network_id(network)}") is not None
        assert len(await guest.list("member", kit.network_id(network))) == 1
        assert await guest.list("result", kit.network_id(network)) == ()


def test_no_answer_has_a_place_for_a_private_key() -> None:  # REG-017
    description = openapi.describe().decode().lower()
    for word in ("private", "secret", "seed", "passphrase"):
        assert word not in description


async def test_a_store_that_fails_is_unavailable(
    here: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> int:
        raise Unavailable("disk full")

    monkeypatch.setattr(here.service._store, "commit", broken)
    async with kit.client(here, NODE) as mine:
        with pytest.raises(OverlayError) as failed:
            await mine.publish(kit.signed_node("a"))
    assert isinstance(failed.value, Unavailable)
