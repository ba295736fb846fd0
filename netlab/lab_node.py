"""A node of a running lab, from outside: programs, files, sockets and namespaces in it; its power.

A node is a machine of its own from the first program on; until then it is a network alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path, PurePosixPath
from socket import SOCK_NONBLOCK, SOCK_STREAM
from socket import socket as Socket  # noqa: N812 - a method here has its name
from typing import Any, Literal

from netlab.keeper import linux
from netlab.keeper.machine import STATE_DIRECTORY
from netlab.not_started import NotStarted
from netlab.owner import NONE, Owner
from netlab.process import CommandFailed, Completed, LabProcess
from netlab.wiring.wiring import Station
from overlay.errors import Rejected, Unavailable

TIMEOUT_S = 30.0
STATE = "state"  # the subdirectory, of a node's own one, that is its disk

_HALT_POLL_S = 0.002

NodeState = Literal["running", "paused", "dead"]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What gives a node's network what the topology says, and what to wait for then."""

    program: bytes
    sysctls: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, int], ...]
    addresses: tuple[tuple[str, int, bytes], ...]


class LabNode:
    """A machine of its own: network, files, host name, processes."""

    def __init__(
        self,
        name: str,
        *,
        stations: tuple[Station, ...],
        owner: Owner,
        directory: Path,
        netns: int,
        rebuild: Callable[[str], Rebuilt],
    ) -> None:
        self.name = name
        self.directory = directory
        self._stations = stations
        self._owner = owner
        self._root: int | None = None
        self._netns = {"": netns}
        self._rebuild = rebuild
        self._state: NodeState = "running"
        self._died = asyncio.Event()
        self._at_boot: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        owner.call_when_dead(name, self._is_dead)
        owner.call_at_end(self._died.set)  # nobody else says so then

    @property
    def state(self) -> NodeState:
        """As far as it was heard: a machine whose first process is killed from outside is dead."""
        return self._state

    @property
    def ipv4(self) -> str | None:
        """The underlay address of the first link that has one."""
        return next((str(each.ipv4) for each in self._stations if each.ipv4), None)

    @property
    def ipv6(self) -> str | None:
        return next((str(each.ipv6) for each in self._stations if each.ipv6), None)

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Of all links, in order; link-local ones aside."""
        found = (each for station in self._stations for each in (station.ipv4, station.ipv6))
        return tuple(address for address in found if address is not None)

    @property
    def netns_path(self) -> Path:
        return self._held(self._netns[""])

    def workload_netns_path(self, name: str) -> Path:
        """Where the owner finds a workload's namespace; the node has it in /run/netns."""
        return self._held(self._netns[name])

    def path(self, inside: str | PurePosixPath) -> Path:
        """Where the owner finds a file of the node, also after a restart.

        Links with absolute targets lead out of the node: write /run, not /var/run. While the node
        is dead it has its disk, /var/lib/zos, and no other file.
        """
        inside = PurePosixPath(inside)
        if inside.is_relative_to(STATE_DIRECTORY):
            return self._made(STATE) / inside.relative_to(STATE_DIRECTORY)
        if self._root is None:
            self._refuse_when_dead()
            self._root = int(self._owner.request_now("root", self.name))
        return self._held(self._root) / inside.relative_to("/")

    def _made(self, part: str = "") -> Path:
        """The node's own directory, or a part of it, which is there from its first use on.

        A lab of thousands of nodes would else wait a second for those of whom none is used.
        """
        path = self.directory / part
        if not path.exists():
            self.directory.mkdir(mode=0o700, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        return path

    def rewire(self, stations: tuple[Station, ...]) -> None:
        """It has these links now."""
        self._stations = stations

    async def kill(self) -> None:
        """As a power cut: nothing more is sent, and nothing that ran or was pinned is left.

        The disk, /var/lib/zos, stays as it is. Nothing happens when it is dead.
        """
        if self._state != "dead":
            await self._owner.request("kill", self.name)
            await self._died.wait()

    async def restart(self) -> list[LabProcess]:
        """Killed and started again: same cables, addresses and disk, everything else anew.

        Returns what was spawned with `boot` and has been spawned again.
        """
        await self.kill()
        rebuilt = self._rebuild(self.name)
        await self._owner.request(
            "restart",
            self.name,
            rebuilt.program,
            rebuilt.sysctls,
            rebuilt.links,
            rebuilt.addresses,
        )
        self._died.clear()
        self._state = "running"
        return [await self.spawn(*argv, **options) for argv, options in self._at_boot]

    async def pause(self) -> None:
        """Every process in it is stopped; the kernel answers for it all the same."""
        self._refuse_when_dead()
        self._state = "paused"
        while await self._owner.request("pause", self.name):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(_HALT_POLL_S)

    async def resume(self) -> None:
        """Every process in it goes on."""
        self._refuse_when_dead()
        await self._owner.request("resume", self.name)
        self._state = "running"

    async def run(
        self,
        *argv: str,
        timeout_s: float = TIMEOUT_S,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        netns: str = "",
        check: bool = True,
    ) -> Completed:
        """Run a program to its end. `env` is added to the owner's environment.

        Raises CommandFailed when `check` is set and it fails, Unavailable when it does not start or
        not end in time. It is killed when it is late and when the caller is cancelled.
        """
        with (
            anonymous_file(input or b"") as stdin,
            anonymous_file() as stdout,
            anonymous_file() as stderr,
        ):
            stdio = (stdin, stdout, stderr)
            process = await self.start(*argv, stdio=stdio, env=env, cwd=cwd, netns=netns)
            returncode = await self._end_of(process, timeout_s=timeout_s)
            completed = Completed(argv, returncode, _read_all(stdout), _read_all(stderr))
        if check and returncode != 0:
            raise CommandFailed(self.name, completed)
        return completed

    async def spawn(
        self,
        *argv: str,
        log: str,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        netns: str = "",
        boot: bool = False,
    ) -> LabProcess:
        """Start a program and leave it running, its output appended to LOG.log of the node.

        With `boot` every restart of the node starts it again. Raises Rejected when that was asked
        for a namespace that a restart ends.
        """
        if boot and netns:
            raise Rejected(f"{netns!r} is gone after a restart", field="netns")
        path = self._made() / f"{log}.log"
        with anonymous_file() as nothing, _opened_log(path) as out:
            stdio = (nothing, out, out)
            process = await self.start(*argv, stdio=stdio, env=env, cwd=cwd, netns=netns, log=path)
        if boot:
            self._at_boot.append((argv, {"log": log, "env": env, "cwd": cwd}))
        return process

    def socket(
        self, family: int, kind: int = SOCK_STREAM, protocol: int = 0, *, netns: str = ""
    ) -> Socket:
        """A socket of the node's (or of a workload's) network, the caller's to close."""
        self._refuse_when_dead()
        return granted_socket(self._owner, self.name, netns, family, kind, protocol)

    @contextlib.contextmanager
    def in_netns(self, netns: str = "") -> Iterator[None]:
        """The calling thread is in the node's (or a workload's) network namespace.

        Never await inside: other tasks share the thread. Only root may move about: raises
        Unavailable elsewhere, where `socket` does for sockets.
        """
        with inside(self._held(self._netns[netns])):
            yield

    async def add_namespace(self, name: str) -> None:
        """An empty network namespace, loopback up, at /run/netns/NAME inside the node."""
        if name != PurePosixPath(name).name:
            raise Rejected(f"{name!r} is no file name")
        self._refuse_when_dead()
        self._netns[name] = await self._owner.request("workload", self.name, name)

    async def start(
        self,
        *argv: str,
        stdio: tuple[int, int, int],
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        netns: str = "",
        terminal: bool = False,
        log: Path | None = None,
    ) -> LabProcess:
        """Start a program on these descriptors, which stay the caller's, and leave it running.

        With `terminal` the first one is a terminal that nobody controls yet; the program does then.
        Raises NotStarted, and Rejected for a netns that the node has not got.
        """
        self._refuse_when_dead()
        if self._state == "paused":
            raise Unavailable(f"{self.name} is paused", remedy="resume it")
        self._check_netns(netns)
        environment = {**os.environ, **(env or {})}
        answer, pidfd = await self._owner.request_fd(
            "spawn", self.name, netns, argv, environment, cwd, terminal, fds=stdio
        )
        if pidfd == NONE:
            code, why = answer
            raise NotStarted(f"{self.name}: {argv[0]}: {why}", code=code)
        number = answer
        return LabProcess(self._owner, argv=argv, number=number, pidfd=pidfd, log=log)

    def _refuse_when_dead(self) -> None:
        if self._state == "dead":
            raise Unavailable(f"{self.name} is dead", remedy="restart it")

    def _check_netns(self, netns: str) -> None:
        """Raises Rejected, naming the nearest one."""
        if netns in self._netns:
            return
        known = [name for name in self._netns if name]
        nearest = difflib.get_close_matches(netns, known, n=1, cutoff=0.0)
        raise Rejected(
            f"{self.name} has no netns {netns!r}",
            field="netns",
            remedy=f"did you mean {nearest[0]!r}?" if nearest else "it has none of its own",
        )

    def _is_dead(self) -> None:
        self._state = "dead"
        self._netns = {"": self._netns[""]}
        self._root = None  # asking for it anew switches the machine on
        self._died.set()

    async def _end_of(self, process: LabProcess, *, timeout_s: float) -> int:
        try:
            async with asyncio.timeout(timeout_s):
                return await process.wait()
        except TimeoutError as exc:
            raise Unavailable(f"{self.name}: {process.argv[0]}: no end in {timeout_s} s") from exc
        finally:
            process.kill()

    def _held(self, fd: int) -> Path:
        """By way of the keeper, so that the owner never holds what must die with the keeper."""
        return Path(f"/proc/{self._owner.keeper_pid}/fd/{fd}")


def granted_socket(
    owner: Owner, name: str, workload: str, family: int, kind: int, protocol: int
) -> Socket:
    fd = owner.grant_now("socket", name, workload, int(family), int(kind), protocol)
    opened = Socket(fileno=fd)
    if kind & SOCK_NONBLOCK:
        opened.setblocking(False)  # the object does not know it of a descriptor
    return opened


@contextlib.contextmanager
def inside(netns: Path) -> Iterator[None]:
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.setns(there, linux.CLONE_NEWNET)
        except PermissionError as exc:
            raise Unavailable(
                "only root may enter a namespace of a lab", remedy="use LabNode.socket or .run"
            ) from exc
        finally:
            os.close(there)
        try:
            yield
        finally:
            linux.setns(own, linux.CLONE_NEWNET)
    finally:
        os.close(own)


@contextlib.contextmanager
def anonymous_file(content: bytes = b"") -> Iterator[int]:
    """A file in memory: a program's output is there when it ends, with no reader in between."""
    fd = os.memfd_create("netlab", os.MFD_CLOEXEC)
    try:
        if content:  # a file object costs as much as a wake-up
            with open(fd, "r+b", closefd=False) as file:
                file.write(content)
            os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened_log(path: Path) -> Iterator[int]:
    with path.open("ab") as log:
        yield log.fileno()


def _read_all(fd: int) -> bytes:
    if os.lseek(fd, 0, os.SEEK_END) == 0:
        return b""
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()
