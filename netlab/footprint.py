"""What is taken of this machine: by the kernel's own structures, and by a process and its children.

Read from proc(5).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Process:
    """A running program: what it has used of the processors, and has in memory.

    reaped_s   of the processors, by what it has started and has seen end
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


def processes_below(*roots: int) -> list[Process]:
    """These processes, and all that they have started; without what ends meanwhile."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, fields in _stats():
        children[int(fields[1])].append(pid)
    found, waiting, seen = [], list(roots), set[int]()
    while waiting:
        pid = waiting.pop()
        if pid in seen:
            continue
        seen.add(pid)
        waiting += children[pid]
        if (process := _read(pid)) is not None:
            found.append(process)
    return found


def _stats() -> Iterator[tuple[int, list[str]]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            yield int(path.parent.name), _fields(path)
        except OSError:
            continue  # it ended while we looked


def _read(pid: int) -> Process | None:
    proc = Path(f"/proc/{pid}")
    try:
        name = _text(proc / "comm").strip()
        fields = _fields(proc / "stat")
        sizes = {
            key: int(value.split()[0]) * _KIB
            for key, _, value in (
                line.partition(":") for line in (proc / "smaps_rollup").read_text().splitlines()[1:]
            )
        }
    except OSError:
        return None
    own, own_kernel, reaped, reaped_kernel = map(int, fields[11:15])
    cpu_s, reaped_s = (own + own_kernel) / _TICKS, (reaped + reaped_kernel) / _TICKS
    return Process(pid, name, cpu_s, reaped_s, sizes.get("Rss", 0), sizes.get("Pss", 0))


def _fields(stat: Path) -> list[str]:
    """From the state on."""
    return _text(stat).rpartition(")")[2].split()


def _text(path: Path) -> str:
    """A program may have any name, and the kernel cuts it in the middle of a character."""
    return path.read_text(errors="replace")
