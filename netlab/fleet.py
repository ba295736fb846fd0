"""The shipped `zos` in a lab: a registry, nodes, and the people who use them.

Everything is done by running the installed command in a lab node, unchanged. Nothing here knows
how zos works inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from netlab.lab import Lab, LabNode
from netlab.process import Completed, LabProcess
from overlay.errors import Unavailable

ZOS = str(Path(sys.executable).parent / "zos")
REGISTRY_PORT = 4430
REGISTRY_STATE = "/var/lib/zos/registry"
STARTUP_TIMEOUT_S = 20.0
POLL_S = 0.02

Answer: TypeAlias = dict[str, Any]  # what --json printed


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with keys and files of their own on a machine of the lab."""

    name: str
    fleet: Fleet
    at: LabNode

    @property
    def home(self) -> str:
        return f"/var/lib/zos/people/{self.name}"

    async def zos(self, *argv: str, timeout_s: float = 30.0) -> Answer:
        """One command in this person's name. Raises CommandFailed when it fails."""
        env = {"ZOS_HOME": self.home}
        return await self.fleet.zos(self.at, *argv, speaker=self.name, env=env, timeout_s=timeout_s)

    async def try_zos(self, *argv: str, timeout_s: float = 30.0) -> Completed:
        """The same, with the exit code and the words instead of an exception."""
        return await self.at.run(
            ZOS, *argv, env={"ZOS_HOME": self.home}, timeout_s=timeout_s, check=False
        )


@dataclass(slots=True)
class Fleet:
    """A registry and nodes that run zos, in one lab."""

    lab: Lab
    registry_at: str = "registry"
    registry_ref: str = ""
    node_ids: dict[str, str] = field(default_factory=dict)
    on_command: Callable[[str, tuple[str, ...]], None] = lambda _speaker, _argv: None
    _registry: LabProcess | None = None
    _nodes: dict[str, LabProcess] = field(default_factory=dict)

    async def zos(
        self,
        node: LabNode | str,
        *argv: str,
        speaker: str = "",
        timeout_s: float = 30.0,
        **options: Any,
    ) -> Answer:
        """What `zos ARGV --json` printed on a node. Raises CommandFailed when it fails."""
        at = self.lab.node(node) if isinstance(node, str) else node
        self.on_command(speaker or at.name, argv)
        completed = await at.run(ZOS, *_with_json(argv), timeout_s=timeout_s, **options)
        answer: Answer = json.loads(completed.stdout or b"{}")
        return answer

    async def start_registry(self, *, binary: tuple[str, ...] = (ZOS,)) -> str:
        """The registry serves when this returns; gives its reference."""
        node = self.lab.node(self.registry_at)
        addresses = [_host_port(str(address)) for address in node.addresses]
        listen = [word for address in addresses for word in ("--listen", address)]
        argv = ("registry", "serve", "--state", REGISTRY_STATE, *listen)
        self._registry = await node.spawn(*binary, *argv, log="registry")
        await self._until_connectable(node, self._registry)
        shown = await self.zos(
            node, "registry", "show", "--state", REGISTRY_STATE, "--advertise", addresses[0]
        )
        self.registry_ref = shown["reference"]
        return self.registry_ref

    async def stop_registry(self, number: int = signal.SIGKILL) -> None:
        if self._registry is not None:
            self._registry.kill(number)
            await self._registry.wait()

    async def start_node(self, name: str, *options: str, wait: bool = True) -> LabProcess:
        """The node runs and answers on its socket when this returns."""
        node = self.lab.node(name)
        argv = ("node", "run", "--registry", self.registry_ref, "--name", name, *options)
        process = self._nodes[name] = await node.spawn(ZOS, *argv, log="node")
        if wait:
            await self._until_socket(node, process)
            shown = await self.zos(node, "id", "show", "node")
            self.node_ids[name] = shown["id"]
        return process

    async def stop_node(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self._nodes.pop(name)
        process.kill(number)
        await process.wait()

    def process(self, name: str) -> LabProcess:
        """The running `zos node run` of a node."""
        return self._nodes[name]

    def person(self, name: str, *, at: str = "desk") -> Person:
        return Person(name, self, self.lab.node(at))

    async def operator(self, *, farm: str = "basement", at: str = "desk") -> tuple[Person, str]:
        """Somebody with a farm, and the farm's id."""
        person = self.person("operator", at=at)
        made = await person.zos("id", "new", "farm", farm)
        await person.zos("farm", "create", farm, "--key", farm, "--registry", self.registry_ref)
        return person, made["id"]

    async def tenant(self, name: str, *, at: str = "desk") -> Person:
        person = self.person(name, at=at)
        await person.zos("id", "new", "tenant", name)
        return person

    async def status(self, name: str) -> Answer:
        """What the node says about itself, healthy or not."""
        completed = await self.lab.node(name).run(ZOS, "status", "--json", check=False)
        answer: Answer = json.loads(completed.stdout)
        return answer

    async def _until_connectable(self, node: LabNode, process: LabProcess) -> None:
        address = str(node.addresses[0])
        for _ in _attempts(f"{self.registry_at}: registry", process):
            with contextlib.suppress(OSError):
                with node.in_netns():
                    probe = _connect(address, REGISTRY_PORT)
                probe.close()
                return
            await asyncio.sleep(POLL_S)

    async def _until_socket(self, node: LabNode, process: LabProcess) -> None:
        for _ in _attempts(f"{node.name}: zos node run", process):
            if node.path("/run/zos/node.sock").exists():
                return
            await asyncio.sleep(POLL_S)


async def until_says(process: LabProcess, word: str) -> None:
    """Returns when the word stands in the log of a program that was spawned."""
    for _ in _attempts(process.argv[0], process):
        if process.log is not None and word in process.log.read_text():
            return
        await asyncio.sleep(POLL_S)


def _attempts(what: str, process: LabProcess) -> Iterator[None]:
    began = time.monotonic()
    while time.monotonic() - began < STARTUP_TIMEOUT_S:
        if process.returncode is not None:
            words = process.log.read_text()[-2000:] if process.log else ""
            raise Unavailable(f"{what} ended with {process.returncode}\n{words}")
        yield
    raise Unavailable(
        f"{what} is not there after {STARTUP_TIMEOUT_S} s", remedy=f"see {process.log}"
    )


def _connect(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=0.2)


def _with_json(argv: tuple[str, ...]) -> tuple[str, ...]:
    """--json belongs before a `--` that starts somebody else's command."""
    if "--" in argv:
        cut = argv.index("--")
        return (*argv[:cut], "--json", *argv[cut:])
    return (*argv, "--json")


def _host_port(address: str) -> str:
    return f"[{address}]:{REGISTRY_PORT}" if ":" in address else f"{address}:{REGISTRY_PORT}"
