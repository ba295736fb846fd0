"""The socket that starts programs: what is no wish is answered with an error, and that is all."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from netlab.supervisor.starting import serve_starts
from overlay.errors import Rejected
from zos_core.socket_http import bind
from zos_core.socket_path import reachable

pytestmark = pytest.mark.blocking  # binds a socket file

WISH = {
    "wish": "start",
    "node": "a",
    "argv": ["true"],
    "env": {},
    "cwd": "/",
    "netns": "",
    "terminal": False,
}
PATIENCE_S = 20.0


class Stage:
    """Passes for a lab until a node of it is asked for."""

    def node(self, name: str) -> None:
        raise Rejected(f"there is no node {name!r}")


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """Where programs are started, longer than the address of a socket can be."""
    path = tmp_path / ("x" * 120) / "start"
    with bind(path, kind=socket.SOCK_SEQPACKET) as listener:
        listener.listen()
        async with asyncio.TaskGroup() as tasks:
            serving = serve_starts(listener, Stage)  # type: ignore[arg-type]
            task = tasks.create_task(serving, name="serve")
            yield path
            task.cancel()


async def ask(path: Path, message: bytes, *, descriptors: int) -> Any:
    """What is answered; None when the other end hangs up without a word."""
    loop = asyncio.get_running_loop()
    fds = [os.open(os.devnull, os.O_RDWR) for _ in range(descriptors)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        with reachable(path) as short:
            asking.connect(short)
        asking.setblocking(False)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        asking.sendmsg([message], rights)
        for fd in fds:
            os.close(fd)
        async with asyncio.timeout(PATIENCE_S):
            answer = await loop.sock_recv(asking, 65536)
    return json.loads(answer) if answer else None


@pytest.mark.parametrize(
    ("wish", "descriptors", "words"),
    [
        (b"no JSON", 3, "is no wish"),
        (b"{}", 3, "is no wish"),
        ({**WISH, "more": 1}, 3, "is no wish"),
        (WISH, 2, "2 descriptors"),
        (WISH, 0, "0 descriptors"),
        ({**WISH, "argv": []}, 3, "which program?"),
        (WISH, 3, "there is no node 'a'"),
    ],
)
async def test_what_cannot_be_started_is_answered_with_its_reason(  # LAB-248
    path: Path, wish: bytes | dict[str, Any], descriptors: int, words: str
) -> None:
    message = wish if isinstance(wish, bytes) else json.dumps(wish).encode()
    answer = await ask(path, message, descriptors=descriptors)
    assert words in answer["error"]["message"]


async def test_whoever_says_nothing_is_answered_nothing_and_others_are(path: Path) -> None:
    """LAB-248"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as idle:
        with reachable(path) as short:
            idle.connect(short)
        assert (await ask(path, b"{}", descriptors=0))["error"]["code"] == "rejected"
