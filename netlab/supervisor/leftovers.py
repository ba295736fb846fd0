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

from netlab.supervisor import places
from netlab.supervisor.places import Place
from overlay.errors import Conflict

MODULE = "netlab.supervisor"


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
    """Those whose lab nobody can reach or end any more: its directory is gone.

    One whose lab has ended, and who is removing it, has no keeper any more.
    """
    for pid, name in list_supervisors():
        is_lost = places.root() == _root_of(pid) and not places.is_alive(places.place_of(name))
        if is_lost and _has_child(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                yield Leftover(name, "supervisor", f"process {pid}")


def list_supervisors() -> Iterator[tuple[int, str]]:
    """Of this user: process and lab."""
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, UnicodeDecodeError):
            if directory.stat().st_uid != os.geteuid():
                continue
            argv = (directory / "cmdline").read_bytes().decode().split("\0")
            if argv[1:3] == ["-m", MODULE] and len(argv) > 3:
                yield int(directory.name), argv[3]


def _has_child(pid: int) -> bool:
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                return True
    return False


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
