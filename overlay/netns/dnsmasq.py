"""Name servers of tenant netns by dnsmasq: one process each, born in the netns, of no privileges.

It outlives this process, like the network that it serves. It is known by its command line, which
is all of its configuration, so there is no moment at which one that was started is lost.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from overlay.errors import Unavailable
from overlay.netns import dns, spawn
from overlay.netns.dns import NameService
from overlay.netns.ports import Pins
from overlay.netns.state import NETNS_PREFIX
from overlay.netns.waiting import Turns, in_thread

PROGRAM = "dnsmasq"
INSTALL_REMEDY = "apt-get install dnsmasq-base"
START_TIMEOUT_S = 15.0  # of a machine that has just booted, and reads it from disk

_FIRST_LOOK_S, _SLOWEST_LOOK_S = 0.001, 0.05
_DIRECTORY_MODE, _OWN_MODE, _FILE_MODE = 0o711, 0o750, 0o640


@dataclass(slots=True)
class _Server:
    pid: int
    pidfd: int
    argv: tuple[str, ...]
    service: NameService | None  # what it serves; None while that is not sure
    serves: bool  # it has begun to
    ended: asyncio.Event


class Dnsmasq:
    """Implements `NameServers`."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._servers: dict[str, _Server] = {}
        self._turns = Turns()
        self._on_end: Callable[[str], None] = lambda _: None

    def close(self) -> None:
        """Let go of all; they go on."""
        for netns in tuple(self._servers):
            self._let_go(netns)

    def follow(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end

    async def serve(self, netns: str, service: NameService) -> None:
        async with self._turns.of(netns):
            if self._pins.path(netns) is None:
                raise Unavailable(f"netns {netns} is gone")
            argv = _command_line(netns, service)
            if netns not in self._servers:
                await self._adopt(netns)
            server = self._servers.get(netns)
            if server is not None and not self._is_fit(netns, server, argv):
                await self._end(netns)
                server = None
            if server is not None and server.service == service:
                return
            if server is not None:
                server.service = None  # whoever is cancelled from here on leaves it to the next
            await in_thread(_write_files, netns, _files(service))
            if server is None or server.ended.is_set():
                server = await self._start(netns, argv)
            else:
                with suppress(ProcessLookupError):  # `follow` tells of it
                    signal.pidfd_send_signal(server.pidfd, signal.SIGHUP)
            server.service = service

    async def retire(self, netns: str) -> None:
        async with self._turns.of(netns):
            await self._end(netns)
            await in_thread(shutil.rmtree, _directory(netns), ignore_errors=True)

    def names(self) -> tuple[str, ...]:
        found: set[str] = set()
        with suppress(FileNotFoundError, NotADirectoryError):
            found.update(entry.name for entry in Path(dns.DIRECTORY).iterdir())
        return tuple(sorted(name for name in found if name.startswith(NETNS_PREFIX)))

    def _is_fit(self, netns: str, server: _Server, argv: tuple[str, ...]) -> bool:
        path = self._pins.path(netns)
        return (
            server.argv == argv
            and path is not None
            and _is_inside(server.pid, path)
            and not _is_outdated(server.pid)
        )

    async def _adopt(self, netns: str) -> None:
        """Hold the one that an earlier life started, if it got as far as to say that it serves."""
        if (argv := await in_thread(_read_started, netns)) is not None:
            pid, command_line = argv
            with suppress(ProcessLookupError):
                self._hold(netns, pid, command_line, serves=True)
                return
        await self._end(netns)

    async def _start(self, netns: str, argv: tuple[str, ...]) -> _Server:
        if (path := self._pins.path(netns)) is None:
            raise Unavailable(f"netns {netns} is gone")
        pid_file = _directory(netns) / dns.PID_FILE
        pid_file.unlink(missing_ok=True)
        pid = spawn.start_daemon(argv, netns=path)
        server = self._hold(netns, pid, argv, serves=False)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await _wait_serving(server, pid_file)
        except TimeoutError as exc:
            await self._end(netns)
            raise Unavailable(f"{PROGRAM} does not begin to serve") from exc
        if server.ended.is_set():
            await self._end(netns)  # what is in the way, if it is ours
            raise Unavailable(f"{PROGRAM}: {await _ask_why(argv, path)}")
        server.serves = True
        return server

    async def _end(self, netns: str) -> None:
        """Neither a server of this netns is left, nor what it has forked for a connection."""
        if (server := self._servers.get(netns)) is not None:
            pidfd = os.dup(server.pidfd)
            self._let_go(netns)
            try:
                await spawn.end(pidfd, patience_s=0)
            finally:
                os.close(pidfd)
        if not _directory(netns).exists():
            return
        for pid in await in_thread(lambda: list(_processes(netns))):
            await spawn.end_found(pid, lambda it: _is_of(netns, it, _argv(it)), patience_s=0)

    def _hold(self, netns: str, pid: int, argv: tuple[str, ...], *, serves: bool) -> _Server:
        pidfd = os.pidfd_open(pid)
        server = _Server(pid, pidfd, argv, service=None, serves=serves, ended=asyncio.Event())
        self._servers[netns] = server

        def note_end() -> None:
            server.ended.set()
            self._let_go(netns)
            if server.serves:
                self._on_end(netns)

        asyncio.get_running_loop().add_reader(server.pidfd, note_end)
        return server

    def _let_go(self, netns: str) -> None:
        if (server := self._servers.pop(netns, None)) is not None:
            asyncio.get_running_loop().remove_reader(server.pidfd)
            os.close(server.pidfd)


def find_program() -> str | None:
    """The path of dnsmasq; None when it is not installed."""
    return shutil.which(PROGRAM, path=spawn.ENVIRONMENT["PATH"])


def _directory(netns: str) -> Path:
    return Path(dns.DIRECTORY) / netns


def _command_line(netns: str, service: NameService) -> tuple[str, ...]:
    if (binary := find_program()) is None:
        raise Unavailable(f"there is no {PROGRAM}", remedy=INSTALL_REMEDY)
    group = grp.getgrgid(_group_id()).gr_name
    return (binary, *dns.arguments(service, directory=str(_directory(netns)), group=group))


@cache
def _group_id() -> int:
    try:
        return pwd.getpwnam(dns.USER).pw_gid
    except KeyError as exc:
        raise Unavailable(f"there is no user {dns.USER}") from exc


def _files(service: NameService) -> dict[str, str]:
    return {
        dns.HOSTS_FILE: service.hosts,
        dns.SERVERS_FILE: dns.format_servers(service.resolvers),
    }


def _write_files(netns: str, files: Mapping[str, str]) -> None:
    """The files say this, whole at any moment; only root and the server may read them.

    Raises Unavailable when they cannot be written.
    """
    try:
        _write_all(_directory(netns), files)
    except OSError as exc:
        raise Unavailable(f"{exc.filename or dns.DIRECTORY}: {exc.strerror}") from exc


def _write_all(directory: Path, files: Mapping[str, str]) -> None:
    directory.parent.mkdir(exist_ok=True)
    directory.parent.chmod(_DIRECTORY_MODE)
    directory.mkdir(exist_ok=True)
    group = _group_id()
    os.chown(directory, -1, group)
    directory.chmod(_OWN_MODE)
    for name, text in files.items():
        fresh = directory / f"{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.write_text(text)
        os.chown(fresh, -1, group)
        fresh.chmod(_FILE_MODE)
        fresh.replace(directory / name)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _read_started(netns: str) -> tuple[int, tuple[str, ...]] | None:
    """The server that has said in its pid file that it serves, and how it was started."""
    said = (_read(_directory(netns) / dns.PID_FILE) or "").strip()
    if not (said.isascii() and said.isdigit()):
        return None
    argv = _argv(int(said))
    return (int(said), argv) if _is_of(netns, int(said), argv) else None


def _processes(netns: str) -> Iterator[int]:
    """All servers of this netns, and their forks."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_of(netns, pid := int(entry.name), _argv(pid)):
            yield pid


def _is_of(netns: str, pid: int, argv: tuple[str, ...]) -> bool:
    """By its own pid file; another machine's, seen from here, has other files by that name."""
    return f"--pid-file={_directory(netns)}/{dns.PID_FILE}" in argv and _has_our_files(pid)


def _has_our_files(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/mnt").samefile("/proc/self/ns/mnt")
    return False


def _is_inside(pid: int, netns_path: str) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").samefile(netns_path)
    return False


def _is_outdated(pid: int) -> bool:
    """Whether its program was replaced since, by an update that wants to be run."""
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/exe").readlink()).endswith(" (deleted)")
    return False


def _argv(pid: int) -> tuple[str, ...]:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        return tuple(word.decode(errors="replace") for word in words)
    return ()


async def _wait_serving(server: _Server, pid_file: Path) -> None:
    """Until it has bound its sockets, which is when it writes its pid, or has ended."""
    pause_s = _FIRST_LOOK_S
    while not server.ended.is_set() and _read(pid_file) != f"{server.pid}\n":
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _SLOWEST_LOOK_S)


async def _ask_why(argv: tuple[str, ...], netns_path: str) -> str:
    """Why it ends at once. Running, it says what it says to nobody."""
    ended = await spawn.run(argv, timeout_s=START_TIMEOUT_S, netns=netns_path)
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix(f"{PROGRAM}: ") if lines else f"exit code {ended.code}"
