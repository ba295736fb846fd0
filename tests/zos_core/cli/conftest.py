"""The command line as a person uses it: a home, a registry that runs, a node that answers."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from overlay.documents import envelope as dsse
from overlay.documents import schema
from overlay.documents.devices import NextDevice
from overlay.documents.exits import ExitService
from overlay.errors import Refused, Rejected
from overlay.keys import store
from overlay.keys.identity import Identity, Kind
from overlay.registry.serve import Config, running
from overlay.registry.store.sqlite import SqliteStore
from tests.zos_core import situation
from zos_core import status
from zos_core.cli.main import main
from zos_core.clock import SystemClock
from zos_core.local_api import listening
from zos_core.socket_http import NotFound
from zos_core.status import (
    AttachAnswer,
    AttachRequest,
    DetachRequest,
    Done,
    JoinAnswer,
    Plan,
    PlannedChange,
    RotateAnswer,
    RotateRequest,
    Rotation,
    Status,
    WhyInputs,
)

N1 = Identity.from_seed(Kind.NODE, b"1" * 32)
N2 = Identity.from_seed(Kind.NODE, b"2" * 32)


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON object of our schema."""
        value = json.loads(self.out)
        assert value["schema"] == 1
        return value


class Zos(Protocol):
    def __call__(self, *argv: str, stdin: str = "") -> Ran: ...


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's and a node's directories, empty, and no terminal."""
    monkeypatch.setenv("ZOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ZOS_SOCKET", str(tmp_path / "node.sock"))
    monkeypatch.delenv("ZOS_PASSPHRASE_FILE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def zos(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Zos:
    """Run one command in this process."""

    def run(*argv: str, stdin: str = "") -> Ran:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        try:
            code = main(argv)
        except SystemExit as exc:  # click ends a completion this way
            code = int(exc.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ran(code, out, err)

    return run


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The reference of a registry that serves."""
    path = tmp_path_factory.mktemp("registry")

    @asynccontextmanager
    async def serving() -> AsyncIterator[str]:
        database = await SqliteStore.open(path / "registry.db", born=1)
        config = Config(addresses=("127.0.0.1",), port=0, request_burst=1e6)
        identity = store.generate(Kind.REGISTRY)
        async with running(config, identity=identity, clock=SystemClock(), store=database) as it:
            yield it.reference("127.0.0.1")

    with in_thread(serving()) as reference:
        yield reference


class Owner:
    """Alice, with a network "home" at a registry."""

    def __init__(self, zos: Zos, home: Path, registry: str) -> None:
        self.zos = zos
        self.file = home / "networks" / "home.toml"
        self.registry = registry
        zos("id", "new", "tenant", "alice")
        made = zos(
            "network", "create", "home", "--range", "10.1.0.0/16", "--registry", registry, "--json"
        )
        assert made.code == 0, made.err
        self.network: str = made.json["network"]

    def add(self, name: str, node: Identity) -> None:
        assert self.zos("network", "add-node", "home", node.id, "--as", name).code == 0

    def publish_member(
        self,
        node: Identity,
        *,
        index: int,
        name: str,
        endpoint: str,
        exit_: ExitService | None = None,
        coming: Identity | None = None,
    ) -> Identity:
        """What the node does when it joins; gives its device key. `coming` is its next one."""
        device = store.generate(Kind.WG)
        member = schema.Member(
            network=self.network,
            node=node.id,
            version=1,
            name=name,
            index=index,
            device=device.id,
            joined=1,
            endpoints=(schema.EndpointCandidate(schema.CandidateKind.DECLARED, endpoint),),
            exit=exit_,
            next_device=NextDevice(coming.id, 9) if coming is not None else None,
        )
        self._publish(member, node, device, *((coming,) if coming is not None else ()))
        return device

    def publish_result(self, node: Identity, *, version: int, ok: bool, reason: str = "") -> None:
        self._publish(schema.Result(self.network, node.id, version, version, ok, 1, reason), node)

    def _publish(self, document: schema.Document, *signers: Identity) -> None:
        from zos_core.cli.directory import Directory

        kind = schema.payload_type(schema.kind_of(document))
        envelope = dsse.sign(schema.encode(document), kind, *signers)
        Directory(self.registry, caller=signers[0]).publish(envelope)


@pytest.fixture
def owner(zos: Zos, home: Path, registry: str) -> Owner:
    return Owner(zos, home, registry)


class FakeNode:
    """Answers on the real socket, by the real server, with a situation that a test chooses."""

    def __init__(self) -> None:
        self.answer = situation.node_status(situation.network())
        self.inputs = situation.why_inputs()
        self.changes: tuple[PlannedChange, ...] = ()
        self.asked: list[object] = []

    async def status(self) -> Status:
        return self.answer

    async def wait(self, generation: int) -> Status:
        await asyncio.sleep(0)
        return self.answer

    async def why(self, network: str) -> WhyInputs:
        if network not in (self.inputs.network.id, self.inputs.network.name):
            raise NotFound(f"no network {network}")
        return self.inputs

    async def plan(self) -> Plan:
        return Plan(status.SCHEMA, self.changes)

    async def plan_document(self, document: bytes) -> Plan:
        self.asked.append(json.loads(document))
        return Plan(status.SCHEMA, self.changes)

    async def join(self, token: str) -> JoinAnswer:
        self.asked.append(token)
        return JoinAnswer(1, situation.NET, "home", 4, "10.1.4.0/24", "fd00:1:2:4::/64", False)

    async def attach(self, request: AttachRequest) -> AttachAnswer:
        self.asked.append(request)
        if request.netns.startswith("/nowhere"):
            raise Rejected(f"{request.netns} is no network namespace", field="netns")
        return AttachAnswer(1, situation.NET, situation.workload(request.name, 3))

    async def detach(self, request: DetachRequest) -> Done:
        self.asked.append(request)
        return Done(1)

    async def rotate(self, request: RotateRequest) -> RotateAnswer:
        self.asked.append(request)
        if request.network == "held":
            raise Refused("access devices have this key in their configuration: laptop")
        begun = Rotation(situation.NET, "home", situation.NOW)
        return RotateAnswer(1, (begun, Rotation("net1y", "held", None, "laptop has this key")))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    """A node process on this machine."""
    fake = FakeNode()

    @asynccontextmanager
    async def answering() -> AsyncIterator[None]:
        async with listening(fake, tmp_path / "node.sock"):
            yield

    with in_thread(answering()):
        yield fake


@contextmanager
def in_thread(context: AbstractAsyncContextManager[Any]) -> Iterator[Any]:
    """An asynchronous context on an event loop of its own, as another process would be."""
    ready, outcome = threading.Event(), []
    stop: list[Callable[[], None]] = []

    async def hold() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with context as value:
            outcome.append(value)
            stop.append(lambda: loop.call_soon_threadsafe(done.set) and None)
            ready.set()
            await done.wait()

    def run() -> None:
        try:
            asyncio.run(hold())
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield outcome[0]
    finally:
        for each in stop:
            each()
        thread.join()
