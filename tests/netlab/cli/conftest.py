"""`zos lab` as a person runs it, beside a lab that answers but has no namespaces."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netlab.supervisor import places
from netlab.supervisor.journal import Journal
from netlab.supervisor.serve import listening
from netlab.supervisor.session import Session
from netlab.topology import Link, Node, Router, Topology
from zos_core.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        value = json.loads(self.out)
        assert value["schema"] == 1
        return value


Lab = Callable[..., Ran]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's labs are, and nobody else's."""
    monkeypatch.setenv(places.ROOT_VARIABLE, str(tmp_path / "labs"))
    monkeypatch.delenv("ZOS_LAB", raising=False)
    return tmp_path / "labs"


@pytest.fixture
def lab(capsys: pytest.CaptureFixture[str]) -> Lab:
    """Run one command of `zos lab` in this process."""

    def run(*argv: str) -> Ran:
        capsys.readouterr()
        try:
            code = main(["lab", *argv])
        except SystemExit as exc:  # click ends a completion this way
            code = int(exc.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ran(code, out, err)

    return run


TOPOLOGY = Topology(
    nodes=(Node("alice", (Link(to="home"),)), Node("bob")),
    routers=(Router("home"),),
    name="two-homes",
)


@contextmanager
def answering(topology: Topology = TOPOLOGY) -> Iterator[Session]:
    """A lab that is still being built, and answers from a thread until it is asked to end."""
    place = places.place_of(topology.name)
    with places.taken(place) as lock:
        place.workdir.mkdir(parents=True)
        opened: list[Session] = []
        ready = threading.Event()

        async def serve() -> None:
            session = Session(topology, place=place, journal=Journal(place.journal))
            async with listening(session, place.control):
                opened.append(session)
                loops.append(asyncio.get_running_loop())
                ready.set()
                await session.stopping.wait()
                session.journal.close()
            places.clear(place, lock)

        loops: list[asyncio.AbstractEventLoop] = []
        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            assert ready.wait(20)
            yield opened[0]
        finally:
            if not loops[0].is_closed():
                loops[0].call_soon_threadsafe(opened[0].end, "the test is over")
            thread.join(20)


@pytest.fixture
def two_homes() -> Iterator[Session]:
    with answering() as session:
        yield session
