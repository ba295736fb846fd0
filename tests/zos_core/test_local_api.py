"""The local socket: who is answered, what errors become, what is never repeated (NODE-05x)."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from overlay.errors import Conflict, Diverged, OverlayError, Refused, Rejected, Unavailable
from zos_core import local_api, socket_http
from zos_core.local_api import listening
from zos_core.socket_http import NotFound
from zos_core.status import SCHEMA, AttachRequest, Done, ErrorAnswer, JoinAnswer, Plan

pytestmark = pytest.mark.blocking  # binds a socket file

JOINED = JoinAnswer(SCHEMA, "net1x", "home", 7, "10.1.7.0/24", "fd00::/64", False)


class Answers:
    """A node that answers what the test says, or raises it."""

    def __init__(self, error: OverlayError | OSError | None = None) -> None:
        self.error = error
        self.asked: list[Any] = []

    async def _answer(self, what: Any, answer: Any) -> Any:
        self.asked.append(what)
        if self.error is not None:
            raise self.error
        return answer

    async def plan(self) -> Plan:
        return await self._answer("plan", Plan(SCHEMA, ()))

    async def plan_document(self, document: bytes) -> Plan:
        return await self._answer(document, Plan(SCHEMA, ()))

    async def join(self, token: str) -> JoinAnswer:
        return await self._answer(token, JOINED)

    async def detach(self, request: Any) -> Done:
        return await self._answer(request, Done(SCHEMA))

    async def rotate(self, request: Any) -> Done:
        return await self._answer(request, Done(SCHEMA))

    async def attach(self, request: AttachRequest) -> Done:
        return await self._answer(request, Done(SCHEMA))

    async def wait(self, generation: int) -> Plan:
        return await self._answer(generation, Plan(SCHEMA, ()))

    async def why(self, network: str) -> Plan:
        return await self._answer(network, Plan(SCHEMA, ()))

    async def status(self) -> Plan:
        return await self._answer("status", Plan(SCHEMA, ()))


@asynccontextmanager
async def served(answers: Answers, path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        listening(answers, path),  # type: ignore[arg-type]
        aiohttp.ClientSession("http://node", connector=aiohttp.UnixConnector(str(path))) as session,
    ):
        yield session


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "node.sock"


async def test_questions_are_answered(path: Path) -> None:
    answers = Answers()
    async with served(answers, path) as session:
        async with session.post("/v1/join", json={"token": "zosjoin1x"}) as response:
            assert msgspec.json.decode(await response.read(), type=JoinAnswer) == JOINED
        for target in ("/v1/status", "/v1/plan", "/v1/wait?generation=3", "/v1/why?network=home"):
            async with session.get(target) as response:
                assert response.status == 200
        document = {"name": "home"}
        async with session.post("/v1/plan", json={"document": document}) as response:
            assert response.status == 200
    assert answers.asked == ["zosjoin1x", "status", "plan", 3, "home", b'{"name": "home"}']


async def test_the_socket_is_private_and_goes_with_the_node(path: Path) -> None:
    # NODE-051
    async with served(Answers(), path):
        assert _mode(path) == 0o600
        assert _mode(path.parent) == 0o711
    assert _mode(path) is None


async def test_a_socket_left_by_a_killed_node_is_replaced(path: Path) -> None:
    _leave_behind(path)
    async with served(Answers(), path) as session, session.get("/v1/plan") as response:
        assert response.status == 200


async def test_others_are_not_answered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # NODE-051
    answers = Answers()
    for uid, status in ((0, 200), (os.geteuid(), 200), (os.geteuid() + 4_711, 403), (-1, 403)):
        monkeypatch.setattr(socket_http, "_caller_uid", lambda _, uid=uid: uid)
        async with served(answers, path) as session, session.get("/v1/plan") as response:
            assert response.status == status
    assert answers.asked == ["plan", "plan"]


async def test_the_kernel_says_who_calls(path: Path) -> None:
    # NODE-051
    seen = []
    real = socket_http._caller_uid

    def note(request: Any) -> int:
        seen.append(real(request))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket_http, "_caller_uid", note)
        async with served(Answers(), path) as session, session.get("/v1/plan"):
            pass
    assert seen == [os.geteuid()]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Rejected("no"), 400, "rejected"),
        (Refused("no"), 403, "refused"),
        (NotFound("no"), 404, "not-found"),
        (Conflict("no"), 409, "conflict"),
        (Unavailable("no"), 503, "unavailable"),
        (Diverged("no"), 500, "diverged"),
    ],
)
async def test_an_error_says_what_now(
    path: Path, error: OverlayError, status: int, code: str
) -> None:
    error.field, error.remedy = "network", "look again"
    async with served(Answers(error), path) as session, session.get("/v1/plan") as response:
        body = msgspec.json.decode(await response.read(), type=ErrorAnswer).error
        assert (response.status, body.code) == (status, code)
        assert (body.message, body.field, body.remedy) == ("no", "network", "look again")


async def test_a_full_disk_is_said_with_its_path(path: Path) -> None:  # LAB-253
    full = OSError(errno.ENOSPC, "No space left on device", "/var/lib/zos/x")
    async with served(Answers(full), path) as session, session.get("/v1/status") as response:
        assert response.status == 503
        answer = msgspec.json.decode(await response.read(), type=ErrorAnswer)
    assert answer.error.code == "unavailable"
    assert answer.error.message == "/var/lib/zos/x: No space left on device"


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/v1/nothing", b"", 404),
        ("GET", "/", b"", 404),
        ("DELETE", "/v1/status", b"", 405),
        ("POST", "/v1/join", b"", 400),
        ("POST", "/v1/join", b"{", 400),
        ("POST", "/v1/join", b'{"token": 1}', 400),
        ("POST", "/v1/join", b'{"token": "x", "more": 1}', 400),
        ("POST", "/v1/attach", b'{"network": "home"}', 400),
        ("POST", "/v1/join", b" " * (local_api.MAX_BODY_BYTES + 1), 413),
        ("GET", "/v1/wait", b"", 400),
        ("GET", "/v1/wait?generation=-1", b"", 400),
        ("GET", "/v1/wait?generation=" + "9" * 40, b"", 400),
        ("GET", "/v1/why", b"", 400),
    ],
)
async def test_what_is_asked_wrongly_is_refused_in_the_same_form(
    path: Path, method: str, target: str, body: bytes, status: int
) -> None:
    answers = Answers()
    async with (
        served(answers, path) as session,
        session.request(method, target, data=io.BytesIO(body) if body else None) as response,
    ):
        assert response.status == status
        assert msgspec.json.decode(await response.read(), type=ErrorAnswer).error.message
    assert answers.asked == []


async def test_a_token_is_never_repeated(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # NODE-052
    caplog.set_level("DEBUG")
    async with served(Answers(), path) as session:
        for body in (b'{"token": "zosjoin1secret"', b'{"token": ["zosjoin1secret"]}'):
            async with session.post("/v1/join", data=body) as response:
                assert response.status == 400
                assert "secret" not in await response.text()
    assert "secret" not in caplog.text


async def test_a_wait_is_shorter_than_the_patience_of_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_api, "MAX_WAIT_S", 0.01)
    never = asyncio.Event()

    async def wait() -> None:
        await never.wait()

    await local_api.wait_at_most(wait())


def _mode(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def _leave_behind(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
