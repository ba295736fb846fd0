"""Network namespaces: enter and come back, make, pin by name, notice when a pin goes.

Every call here is short and never awaits: a netns belongs to a thread, and the event loop's thread
is shared by everybody. A thread that cannot come back ends the process.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import re
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from overlay.errors import Rejected, Unavailable

PIN_DIR = "/run/netns"  # where iproute2 looks too
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
EXIT_LOST = 70  # EX_SOFTWARE of sysexits.h

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_MS_BIND = 4096  # linux/mount.h
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
_READ = os.O_RDONLY | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def hop(netns: str | int) -> Iterator[None]:
    """The calling thread is in `netns` (a path or an fd) inside the block, and back after it.

    Nothing in the block may await: another task would run in the wrong netns. Raises Unavailable
    when there is no such netns.
    """
    home = _open_own()
    try:
        _enter(netns)
        try:
            yield
        finally:
            _come_back(home)
    finally:
        os.close(home)


def anonymous() -> int:
    """An fd that holds a new netns. It lives as long as the fd, a pin, or a process in it."""
    home = _open_own()
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            return _open_own()
        finally:
            _come_back(home)
    finally:
        os.close(home)


def create(name: str) -> None:
    """A netns is pinned under `name`: a new one, unless there is one already."""
    if (pinned := open_pinned(name)) is not None:
        os.close(pinned)
        return
    fd = anonymous()
    try:
        pin(fd, name)
    finally:
        os.close(fd)


def pin(fd: int, name: str) -> None:
    """The netns held by `fd` has the name `name`; a plain file in the way is replaced.

    Nothing but this one mount is made: iproute2's shared bind mount of the directory onto itself
    would stay on the node for good.
    """
    path = pin_path(name)
    Path(PIN_DIR).mkdir(mode=0o755, parents=True, exist_ok=True)
    remove(name)
    os.close(os.open(path, os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | _READ, 0o444))
    try:
        _call("mount", f"/proc/self/fd/{fd}".encode(), path.encode(), b"none", _MS_BIND, None)
    except OSError as exc:
        Path(path).unlink()
        raise Unavailable(f"netns {name} cannot be pinned: {exc.strerror}") from exc


def remove(name: str) -> None:
    """Nothing is pinned under `name` and the file is gone. Idempotent.

    The first `ip netns add` mounts the directory over itself. Where mounts are private, pins that
    were there before are copied, and the original below stays out of reach: a plain file is left.
    """
    path = pin_path(name)
    while True:  # one round per mount: pins may lie on top of each other
        try:
            _call("umount2", path.encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW)
        except OSError as exc:
            if exc.errno in (errno.EINVAL, errno.ENOENT):
                break
            raise Unavailable(f"netns {name} cannot be unpinned: {exc.strerror}") from exc
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise Unavailable(f"{path} is in the way: {exc.strerror}") from exc


def open_pinned(name: str) -> int | None:
    """An fd of the netns pinned under `name`; None when nothing is, or only a plain file."""
    try:
        fd = os.open(pin_path(name), _READ | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if _is_netns(fd):
        return fd
    os.close(fd)
    return None


def list_pinned() -> tuple[str, ...]:
    """Names of all pinned netns, sorted, whoever made them."""
    return tuple(sorted(name for name in _names() if _is_pinned(name)))


def list_unfinished() -> tuple[str, ...]:
    """Names under which there is the empty file of a pin and no netns, sorted.

    So ends what was killed between the two steps of pinning or unpinning.
    """
    return tuple(sorted(name for name in _names() if _is_unfinished(name)))


def pin_path(name: str) -> str:
    """Path of the pin of `name`. Raises Rejected when `name` cannot be one file's name."""
    if not NAME_PATTERN.fullmatch(name):
        raise Rejected(f"{name!r} is not a netns name")
    return f"{PIN_DIR}/{name}"


def identity(fd: int) -> tuple[int, int]:
    """What tells one netns from another while it lives: device and inode number."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def open_socket(
    netns: str | int | None, family: int, kind: int, protocol: int = 0
) -> socket.socket:
    """A socket that belongs to `netns` for life, whoever uses it; None: the caller's own netns."""
    if netns is None:
        return socket.socket(family, kind, protocol)
    with hop(netns):
        return socket.socket(family, kind, protocol)


def has_link(netns: str | int | None, link: str) -> bool:
    """Whether `netns` exists and has a link of that name; None: the caller's own netns."""
    try:
        if netns is None:
            return socket.if_nametoindex(link) > 0
        with hop(netns):
            return socket.if_nametoindex(link) > 0
    except (OSError, Unavailable):
        return False


class MountWatch:
    """Wakes its reader when a mount of this mount namespace appears or goes.

    `async with MountWatch() as watch: async for _ in watch: ...`. Changes while the reader is busy
    become one wake-up. `on_change`, if given, is called as well. The kernel signals a change of
    mountinfo as EPOLLPRI, which the event loop does not ask for; an epoll of its own in between
    turns it into plain readability. (inotify sees no mounts, and a machine has few of its
    instances.)
    """

    def __init__(self, on_change: Callable[[], None] | None = None) -> None:
        self._on_change = on_change
        self._mountinfo = -1
        self._epoll: select.epoll | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._mountinfo = os.open("/proc/self/mountinfo", _READ)
        self._epoll = select.epoll()
        self._epoll.register(self._mountinfo, select.EPOLLPRI)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._wake)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            os.close(self._mountinfo)
            self._epoll = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def _wake(self) -> None:
        if self._epoll is not None:
            self._epoll.poll(0)
        self._changed.set()
        if self._on_change is not None:
            self._on_change()


def _open_own() -> int:
    return os.open("/proc/thread-self/ns/net", _READ)


def _enter(netns: str | int) -> None:
    try:
        if isinstance(netns, int):
            _call("setns", netns, _CLONE_NEWNET)
            return
        fd = os.open(netns, _READ | os.O_NONBLOCK)
        try:
            _call("setns", fd, _CLONE_NEWNET)
        finally:
            os.close(fd)
    except OSError as exc:
        raise Unavailable(f"netns {netns} cannot be entered: {exc.strerror}") from exc


def _come_back(home: int) -> None:
    try:
        _call("setns", home, _CLONE_NEWNET)
    except OSError as exc:
        _give_up(exc)


def _give_up(exc: OSError) -> NoReturn:
    # Whatever this thread did next would happen in a tenant's netns.
    sys.stderr.write(f"zos: a thread cannot leave a netns: {exc.strerror}\n")
    sys.stderr.flush()
    os._exit(EXIT_LOST)


def _names() -> list[str]:
    try:
        with os.scandir(PIN_DIR) as entries:
            return [entry.name for entry in entries if NAME_PATTERN.fullmatch(entry.name)]
    except FileNotFoundError:
        return []


def _is_unfinished(name: str) -> bool:
    try:
        found = os.lstat(pin_path(name))
    except FileNotFoundError:
        return False
    # A pinned netns is an empty regular file as well, of another file system.
    return stat.S_ISREG(found.st_mode) and found.st_size == 0 and not _is_pinned(name)


def _is_pinned(name: str) -> bool:
    if (fd := open_pinned(name)) is None:
        return False
    os.close(fd)
    return True


def _is_netns(fd: int) -> bool:
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


def _call(function: str, *arguments: bytes | int | None) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
