"""What is taken of this machine: by the kernel's own structures, and by a process and its children.

Read from proc(5).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024


class Stat(NamedTuple):
    """A process in proc_pid_stat(5).

    cpu_s     what it has used of the processors
    reaped_s  the same, by what it has started and has seen end
    """

    pid: int
    name: str
    parent: int
    cpu_s: float
    reaped_s: float


@dataclass(frozen=True, slots=True)
class Process:
    """A running program: what it has used of the processors (see `Stat`), and has in memory.

    rss_bytes  all that it sees, with what it shares
    pss_bytes  its own, and its part of what it shares
    """

    pid: int
    name: str
    cpu_s: float
    reaped_s: float
    rss_bytes: int
    pss_bytes: int


def kernel_kib() -> int:
    """What the kernel keeps in structures of its own, of whatever: slabs and per-CPU memory."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(fields[name].split()[0]) for name in ("Slab", "Percpu"))


def stats() -> Iterator[Stat]:
    """Every process of this PID namespace; without what ends meanwhile."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # A program may have any name, and the kernel cuts it in the middle of a character.
            text = path.read_text(errors="replace")
        except OSError:
            continue
        before, _, after = text.rpartition(")")
        _, parent, *fields = after.split()
        own, own_kernel, reaped, reaped_kernel = map(int, fields[9:13])
        yield Stat(
            int(path.parent.name),
            before.partition("(")[2],
            int(parent),
            (own + own_kernel) / _TICKS,
            (reaped + reaped_kernel) / _TICKS,
        )


def processes_below(*roots: int) -> list[Process]:
    """These processes, and all that they have started; without what ends meanwhile."""
    known: dict[int, Stat] = {}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for stat in stats():
        known[stat.pid] = stat
        children[stat.parent].append(stat.pid)
    found, waiting, seen = [], list(roots), set[int]()
    while waiting:
        pid = waiting.pop()
        if pid in seen or pid not in known:
            continue
        seen.add(pid)
        waiting += children[pid]
        if (process := _with_memory(known[pid])) is not None:
            found.append(process)
    return found


def _with_memory(stat: Stat) -> Process | None:
    try:
        lines = Path(f"/proc/{stat.pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    sizes = {
        key: int(value.split()[0]) * _KIB
        for key, _, value in (line.partition(":") for line in lines)
    }
    rss_bytes, pss_bytes = sizes.get("Rss", 0), sizes.get("Pss", 0)
    return Process(stat.pid, stat.name, stat.cpu_s, stat.reaped_s, rss_bytes, pss_bytes)
