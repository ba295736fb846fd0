"""The shipped `zos` in a lab: a registry, nodes, and the people who use them.

Everything is done by the installed command in a lab node, unchanged: it runs there, or it is asked
over the node's socket as its own commands ask it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from netlab.fleet import node_socket
from netlab.fleet.greeter import Greeter
from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.process import CommandFailed, Completed, LabProcess
from netlab.topology import Node
from overlay.errors import Unavailable
from overlay.model import NetworkId
from zos_core.cli.exits import Exit
from zos_core.status import AttachAnswer, AttachRequest, Status

T = TypeVar("T")

ZOS = str(Path(sys.executable).parent / "zos")
REGISTRY_PORT = 4430
REGISTRY_STATE = "/var/lib/zos/registry"
STARTUP_TIMEOUT_S = 60.0
WG_QUICK = "/etc/wireguard"
POLL_S = 0.02
CONNECT_S = 0.2
RETRY_S = 0.25

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

    def file(self, name: str) -> Path:
        """Where the owner finds a file of theirs, "networks/home.toml"."""
        return self.at.path(f"{self.home}/{name}")

    async def zos(self, *argv: str, timeout_s: float = 30.0) -> Answer:
        """One command in this person's name. Raises CommandFailed when it fails."""
        env = {"ZOS_HOME": self.home}
        return await self.fleet.zos(self.at, *argv, speaker=self.name, env=env, timeout_s=timeout_s)

    async def try_zos(self, *argv: str, timeout_s: float = 30.0) -> Completed:
        """The same, with the exit code and the words instead of an exception."""
        return await self.at.run(
            ZOS, *argv, env={"ZOS_HOME": self.home}, timeout_s=timeout_s, check=False
        )


@dataclass(frozen=True, slots=True)
class Inside:
    """Somebody inside a tenant network: who answers there, where it runs, its addresses.

    `name` is what it answers with; `netns` is "" for a machine of its own, an access device.
    """

    name: str
    network: str  # "tenant/network"
    at: str
    netns: str
    v4: str
    v6: str


@dataclass(slots=True)
class Fleet:
    """A registry and nodes that run zos, in one lab; `inside`, by name, is who answers on them."""

    lab: Lab
    registry_at: str = "registry"
    registry: str = ""  # its reference, once it serves
    node_ids: dict[str, str] = field(default_factory=dict)
    network_ids: dict[str, NetworkId] = field(default_factory=dict)
    inside: dict[str, Inside] = field(default_factory=dict)
    access: dict[str, dict[str, str]] = field(default_factory=dict)  # client, link, its conf
    greeter: Greeter = field(default_factory=Greeter)
    on_command: Callable[[str, tuple[str, ...]], None] = lambda _speaker, _argv: None
    _registry: LabProcess | None = None
    _nodes: dict[str, LabProcess] = field(default_factory=dict)
    _options: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lab.call_at_end(self.greeter.close)

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
        completed = await at.run(ZOS, *_with_json(argv), timeout_s=timeout_s, **options)
        self.on_command(speaker or at.name, ("zos", *argv))
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
        self.registry = shown["reference"]
        return self.registry

    async def stop_registry(self, number: int = signal.SIGKILL) -> None:
        if self._registry is not None:
            self._registry.kill(number)
            await self._registry.wait()

    async def start_node(self, name: str, *options: str, wait: bool = True) -> LabProcess:
        """The node runs and answers on its socket when this returns."""
        node = self.lab.node(name)
        self._options[name] = options
        argv = ("node", "run", "--registry", self.registry, "--name", name, *options)
        process = self._nodes[name] = await node.spawn(ZOS, *argv, log="node")
        if wait:
            self.node_ids[name] = (await self._first_answer(node, process)).node.id
        return process

    async def attach(self, network: str, name: str, *, at: str) -> None:
        """A workload of "tenant/network" on a node, with a netns of its own, answers. Idempotent.

        Raises Rejected when the node is not in the network.
        """
        node, full = self.lab.node(at), f"{network}/{name}"
        netns = full.replace("/", "-")
        path = f"/run/netns/{netns}"
        if not node.path(path).exists():
            await node.add_namespace(netns)
        await self.greeter.listen(node, full, netns=netns)
        wish = AttachRequest(self.network_ids[network], name, path)
        made = await until_granted(
            lambda: node_socket.ask(node, "/v1/attach", AttachAnswer, wish=wish)
        )
        conf = node.path(f"/etc/netns/{netns}/resolv.conf")  # for ip-netns(8)
        conf.parent.mkdir(parents=True, exist_ok=True)
        conf.write_text(made.resolv_conf)
        v4, v6 = map(host_of, (made.attachment.address_v4, made.attachment.address_v6))
        self.inside[full] = Inside(full, network, at, netns, v4, v6)

    async def connect_client(self, name: str, link: str, conf: str) -> None:
        """A stock wg-quick brings up a link with this file."""
        self.access.setdefault(name, {})[link] = conf
        client = self.lab.node(name)
        path = client.path(WG_QUICK) / f"{link}.conf"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(conf)
        await client.run("wg-quick", "up", link)
        self.on_command(name, ("wg-quick", "up", link))

    async def start(self, name: str) -> None:
        """All that the node's role and its `run` ask for runs on it again.

        As before, with what is on its disk; workloads that are gone are made anew.
        """
        self.greeter.leave_workloads(name)
        declared = next(node for node in self.lab.topology.nodes if node.name == name)
        if declared.role == "registry":
            await self.start_registry()
        elif name in self._options:
            await self.start_node(name, *self._options[name])
        for link, conf in self.access.get(name, {}).items():
            await self.connect_client(name, link, conf)
        for full, each in tuple(self.inside.items()):
            if each.at == name and each.netns:
                await self.attach(each.network, full.rpartition("/")[2], at=name)
        await self.start_programs(declared)

    async def start_programs(self, node: Node) -> None:
        """What the node's `run` says; the n-th one's words are in run-n.log."""
        for number, argv in enumerate(node.run, start=1):
            await self.lab.node(node.name).spawn(*argv, log=f"run-{number}")

    def runs(self, name: str) -> bool:
        """Whether the node was started here and has not ended."""
        return name in self._nodes and self._nodes[name].returncode is None

    async def stop_node(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self._nodes.pop(name)
        process.kill(number)
        await process.wait()

    async def restart_node(self, name: str) -> None:
        """Killed, and started again as before; what it had made stays in between."""
        await self.stop_node(name)
        await self.start_node(name, *self._options[name])

    def process(self, name: str) -> LabProcess:
        """The running `zos node run` of a node."""
        return self._nodes[name]

    def person(self, name: str, *, at: str = "desk") -> Person:
        return Person(name, self, self.lab.node(at))

    async def operator(self, *, farm: str = "basement", at: str = "desk") -> tuple[Person, str]:
        """Somebody with a farm, and the farm's id."""
        person = self.person("operator", at=at)
        made = await person.zos("id", "new", "farm", farm)
        await person.zos("farm", "create", farm, "--key", farm, "--registry", self.registry)
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
        first = node.addresses[0]
        address, family = str(first), socket.AF_INET if first.version == 4 else socket.AF_INET6
        for _ in _attempts(f"{self.registry_at}: registry", process):
            with contextlib.suppress(OSError):
                with node.socket(family) as probe:
                    probe.settimeout(CONNECT_S)
                    probe.connect((address, REGISTRY_PORT))
                return
            await asyncio.sleep(POLL_S)

    async def _first_answer(self, node: LabNode, process: LabProcess) -> Status:
        for _ in _attempts(f"{node.name}: zos node run", process):
            # A killed node leaves its socket behind.
            with contextlib.suppress(Unavailable):
                if node_socket.is_there(node):
                    return await node_socket.ask(node, "/v1/status", Status)
            await asyncio.sleep(POLL_S)
        raise AssertionError("attempts end with an answer or an error")


async def until_granted(wish: Callable[[], Awaitable[T]]) -> T:
    """What becomes of a wish once whoever grants it is there."""
    while True:
        try:
            return await wish()
        except CommandFailed as exc:
            if exc.completed.returncode != Exit.UNAVAILABLE:
                raise
        except Unavailable:
            pass
        await asyncio.sleep(RETRY_S)


def host_of(interface_address: str) -> str:
    return interface_address.partition("/")[0]


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


def _with_json(argv: tuple[str, ...]) -> tuple[str, ...]:
    """--json belongs before a `--` that starts somebody else's command."""
    if "--" in argv:
        cut = argv.index("--")
        return (*argv[:cut], "--json", *argv[cut:])
    return (*argv, "--json")


def _host_port(address: str) -> str:
    return f"[{address}]:{REGISTRY_PORT}" if ":" in address else f"{address}:{REGISTRY_PORT}"
