"""What dead labs have left on this machine, found and removed; what lives is left alone.

The kernel has ended all that belonged to them. What can be left is files, and a supervisor whose
directory somebody has removed under it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netlab import usage
from netlab.supervisor import places
from netlab.supervisor.places import Place
from overlay.errors import Conflict

MODULE = "netlab.supervisor"
_ARGUMENTS = 5  # PYTHON -m MODULE NAME LOCK


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that was found and removed."""

    lab: str
    kind: str  # "directory", "kept" or "supervisor"
    what: str  # a path, or a process


def collect(*, kept: bool) -> list[Leftover]:
    """Remove what is left; with `kept` also what was kept on purpose. What that was."""
    found = [each for place in places.list_places() for each in _collect(place)]
    found += _collect_supervisors()
    doomed = [(path, "directory") for path in places.list_gone()]
    if kept:
        doomed += ((path, "kept") for path in places.list_kept())
    for path, kind in doomed:
        places.remove_from_shelf(path)
        found.append(Leftover(path.name, kind, str(path)))
    return found


def _collect(place: Place) -> Iterator[Leftover]:
    if places.is_alive(place):
        return
    try:
        with places.taken(place) as lock:
            for path in places.clear(place, lock):
                yield Leftover(place.name, "directory", str(path))
    except Conflict:
        return  # somebody has just started one


def _collect_supervisors() -> Iterator[Leftover]:
    """Those whose lab nobody can reach or end any more: its directory is gone, or another lab's.

    One whose lab has ended, and who is removing it, has no keeper any more.
    """
    for each in list_supervisors():
        if not each.holds_its_place and any(stat.parent == each.pid for stat in usage.stats()):
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
                yield Leftover(each.lab, "supervisor", f"process {each.pid}")


def wake_supervisor(place: Place) -> None:
    """One that somebody has stopped goes on: it could neither answer nor end its lab."""
    for each in list_supervisors():
        if each.lab == place.name and each.holds_its_place:
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Supervisor:
    """A process of this user and root, by what it was started with."""

    pid: int
    lab: str
    lock: int  # the descriptor of its lock

    @property
    def holds_its_place(self) -> bool:
        """Whether its lock is the one that others find under the name of its lab."""
        try:
            held = Path(f"/proc/{self.pid}/fd/{self.lock}").stat()
            found = places.place_of(self.lab).lock.stat()
        except OSError:
            return False
        return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)


def list_supervisors() -> Iterator[Supervisor]:
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, UnicodeDecodeError):
            if directory.stat().st_uid != os.geteuid():
                continue
            argv = (directory / "cmdline").read_bytes().decode().split("\0")
            if argv[1:3] != ["-m", MODULE] or len(argv) < _ARGUMENTS:
                continue
            pid = int(directory.name)
            if _root_of(pid) == places.root():
                yield Supervisor(pid, argv[3], int(argv[4]))


def _root_of(pid: int) -> Path | None:
    """Where that process has its labs: others of this user may be of another root."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    environment = dict(
        entry.split("=", 1) for entry in os.fsdecode(raw).split("\0") if "=" in entry
    )
    return places.root(environment)
