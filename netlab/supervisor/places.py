"""Where labs that live are found: a directory for each with a lock, sockets and a work directory.

The lock is what says that a lab lives. The kernel lets go of it when the supervisor ends, however
that happens, so nothing here is ever believed because a file says so.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from overlay.errors import Conflict, Refused, Rejected, Unavailable

ROOT_VARIABLE = "ZOS_LAB_DIR"
KEPT, GONE = ".kept", ".gone"  # no lab can be called so
_DIRECTORY = "zos-lab"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TAKE_TRIES = 100

# struct flock of <fcntl.h>. Such a lock is the open file's: it goes with inherited descriptors.
_FLOCK = struct.Struct("@hhqqi0q")
_WHOLE_FILE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Place:
    """All paths of one lab. None of them need exist."""

    name: str
    directory: Path
    workdir: Path

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def control(self) -> Path:
        """The socket that answers questions."""
        return self.directory / "ctl"

    @property
    def starting(self) -> Path:
        """The socket that starts programs on the asker's descriptors."""
        return self.directory / "start"

    @property
    def journal(self) -> Path:
        return self.workdir / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.workdir / "supervisor.log"


def root(environment: Mapping[str, str] = os.environ) -> Path:
    """Of this user's labs. Only its path: see open_root."""
    if chosen := environment.get(ROOT_VARIABLE):
        return Path(chosen).absolute()
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / _DIRECTORY
    if os.geteuid() == 0:
        return Path("/run") / _DIRECTORY
    return Path(f"/tmp/{_DIRECTORY}-{os.geteuid()}")  # noqa: S108 - open_root checks whose it is


def state_root() -> Path | None:
    """Of work directories, when they are not next to the sockets."""
    state = os.environ.get("XDG_STATE_HOME")
    return Path(state) / _DIRECTORY if state and not os.environ.get(ROOT_VARIABLE) else None


def open_root() -> Path:
    """The root is there and this user's alone. Raises Refused when it is somebody else's."""
    path = root()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}", remedy=f"set {ROOT_VARIABLE}") from exc
    if not _is_there_and_ours(path):
        raise Unavailable(f"{path} does not stay where it is", remedy=f"set {ROOT_VARIABLE}")
    return path


def _is_there_and_ours(path: Path) -> bool:
    """False when nothing is there. Raises Refused when what is there is not this user's alone."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}", remedy=f"set {ROOT_VARIABLE}") from exc
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_ours or found.st_mode & 0o077:
        raise Refused(
            f"{path} is not a directory that is this user's alone",
            remedy=f"chmod 700 it, remove it, or set {ROOT_VARIABLE}",
        )
    return True


def place_of(name: str) -> Place:
    """Raises Rejected for what no lab can be called: it would lead elsewhere."""
    if not _NAME.fullmatch(name):
        raise Rejected(f"{name!r} is no name of a lab", field="LAB")
    directory = root() / name
    state = state_root()
    return Place(name, directory, state / name if state else directory / "work")


def list_places() -> list[Place]:
    """Every lab that has a directory, living or not, by name."""
    return sorted(_found(), key=lambda place: place.name)


def _found() -> Iterator[Place]:
    names = set()
    for parent in _parents():
        if parent.is_dir():
            names |= {
                path.name
                for path in parent.iterdir()
                if _NAME.fullmatch(path.name) and path.is_dir()
            }
    yield from map(place_of, names)


def list_living() -> list[Place]:
    return [place for place in list_places() if is_alive(place)]


def is_alive(place: Place) -> bool:
    """Whether somebody holds the lock: the lab's supervisor, or whoever is starting it."""
    try:
        fd = os.open(place.lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        # Asking must not take it: whoever starts a lab at this moment would believe it taken.
        (kind, *_) = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE_FILE))
    finally:
        os.close(fd)
    return bool(kind != fcntl.F_UNLCK)


def take(place: Place) -> int:
    """The lock, as a descriptor: the lab is the caller's until all copies of it are closed.

    Raises Conflict while somebody else has it, Unavailable when nothing can be written there.
    """
    open_root()
    try:
        return _take(place)
    except OSError as exc:
        remedy = f"make room there, or set {ROOT_VARIABLE}"
        raise Unavailable(f"{place.directory}: {exc.strerror}", remedy=remedy) from exc


def _take(place: Place) -> int:
    for _ in range(_TAKE_TRIES):
        with suppress(FileExistsError):
            place.directory.mkdir(mode=0o700)
        try:
            fd = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # whoever ended it has just removed the directory
        if not _lock(fd):
            os.close(fd)
            raise Conflict(
                f"a lab called {place.name!r} is up",
                field="name",
                remedy=f"end it with zos lab down {place.name}, or give another --name",
            )
        if _is_at(fd, place.lock):
            return fd
        os.close(fd)
    raise Unavailable(f"{place.lock} does not stay where it is")


def wait_free(place: Place, *, within_s: float) -> bool:
    """Whether nobody holds the lock before time is up."""
    deadline = time.monotonic() + within_s
    while is_alive(place):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def taken(place: Place) -> Iterator[int]:
    """The lock inside the block, as a descriptor. Raises Conflict."""
    lock = take(place)
    try:
        yield lock
    finally:
        os.close(lock)


def empty(place: Place) -> list[Path]:
    """Remove all that an earlier lab has left, but for what was kept, and for the lock.

    The caller holds it. What was there is returned.
    """
    found = [place.workdir, *(path for path in place.directory.glob("*") if path != place.lock)]
    removed = [path for path in dict.fromkeys(found) if path.exists()]
    for path in removed:
        remove(path)
    return removed


def clear(place: Place, lock: int) -> list[Path]:
    """Remove all that a lab has left; nothing, when the name is another's by now.

    The name is free long before that is done: to remove thousands of directories takes seconds.
    """
    if not _is_at(lock, place.lock):
        return []
    removed = [place.directory]
    if place.workdir.exists() and not place.workdir.is_relative_to(place.directory):
        removed.insert(0, place.workdir)
    # The lock goes last: until then nobody else takes the name.
    aside = [_aside_to_remove(path, place.name) for path in removed]
    for path, there in zip(aside, removed, strict=True):
        if path is None:
            remove(there)
        else:
            remove_from_shelf(path)
    return removed


def _aside_to_remove(path: Path, name: str) -> Path | None:
    """None on a full disk, which has no room for the shelf."""
    try:
        return _put_aside(path, GONE, name)
    except OSError:
        return None


def list_gone() -> list[Path]:
    """What somebody was about to remove, and is perhaps still at it."""
    return [path for parent in _parents() for path in sorted((parent / GONE).glob("*"))]


def keep(place: Place, *, now: float) -> Path:
    """Put the work directory aside, where `clear` does not look; its new path."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return _put_aside(place.workdir, KEPT, f"{place.name}-{stamp}")


def list_kept() -> list[Path]:
    return [path for parent in _parents() for path in sorted((parent / KEPT).glob("*"))]


def _parents() -> list[Path]:
    """Those that are there. Raises Refused when the root is not this user's alone.

    Anybody may have made it in /tmp before us: what is in it would be believed, entered, removed.
    """
    parents = [root()] if _is_there_and_ours(root()) else []
    state = state_root()
    return [*parents, state] if state is not None and state.is_dir() else parents


def _put_aside(path: Path, shelf: str, name: str) -> Path:
    """Below the directory of all labs, under a name that is not taken there."""
    parents = [each for each in (root(), state_root()) if each is not None]
    (parent,) = (each for each in parents if path.is_relative_to(each))
    for number in range(1, _TAKE_TRIES):
        target = parent / shelf / (name if number == 1 else f"{name}-{number}")
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # the shelf was empty, and somebody has removed it
            if not target.exists():
                path.rename(target)
                return target
    raise Unavailable(f"{parent / shelf} has {_TAKE_TRIES} of {name}", remedy="zos lab gc --kept")


def remove_from_shelf(path: Path) -> None:
    """What is kept or gone, and the shelf as well when nothing else is on it."""
    remove(path)
    with suppress(OSError):
        path.parent.rmdir()


def remove(path: Path) -> None:
    """A file, a link, or a directory with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lock(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    """Whether the file that is locked is the one that others will find."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
