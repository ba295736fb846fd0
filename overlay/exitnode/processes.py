"""The daemons that an egress netns needs: found by what they are, started, ended.

Nothing is written down about them: one that was started in an earlier life of the node is found in
the same way as one of this life. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from overlay.exitnode.daemons import LOG, MARKS, NAMES, Argv
from overlay.netns import spawn
from overlay.netns.waiting import in_thread

PATIENCE_S = 0.0  # what is to end is asked at once
_PROC = Path("/proc")
_UNDERLAY = Path("/proc/self/ns/net")


def observe(netns: str | None) -> dict[Argv, int]:
    """Those of the egress netns at this path, and of our underlay netns: pids by arguments."""
    places = {_identity(_UNDERLAY)} | ({_identity(Path(netns))} if netns is not None else set())
    return {argv: pid for pid, argv in _marked() if _place(pid) in places}


def start(argv: Argv, *, netns: str | None) -> None:
    """It runs from now on, here or in `netns`. Raises Rejected when there is no such daemon."""
    Path(LOG).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    spawn.start_daemon(argv, netns=netns)


async def stop(argv: Argv, *, netns: str | None) -> None:
    """It has ended, if it was there."""
    if (pid := (await in_thread(observe, netns)).get(argv)) is None:
        return
    await spawn.end_found(pid, lambda it: _argv(it) == argv, patience_s=PATIENCE_S)


def _marked() -> Iterator[tuple[int, Argv]]:
    for entry in _PROC.iterdir():
        argv = _argv(int(entry.name)) if entry.name.isdigit() else ()
        if argv and argv[0] in NAMES and not MARKS.isdisjoint(argv):
            yield int(entry.name), argv


def _argv(pid: int) -> Argv:
    """Empty for what has ended, and for the kernel's own."""
    with suppress(OSError):
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
        return tuple(raw.decode(errors="replace").rstrip("\0").split("\0"))
    return ()


def _place(pid: int) -> tuple[int, int] | None:
    with suppress(OSError):
        return _identity(_PROC / str(pid) / "ns/net")
    return None


def _identity(netns: Path) -> tuple[int, int]:
    found = netns.stat()
    return found.st_dev, found.st_ino
