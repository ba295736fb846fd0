"""What a lab could leave on the machine: one picture before, one after, and the difference.

Sees the calling process's own namespaces, children and descriptors, so labs of others that come
and go meanwhile are not blamed.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from netlab import usage

_PROC = Path("/proc/self")
# Descriptors that keep a namespace or a process's record alive.
_HOLDING = ("net:", "mnt:", "uts:", "pid:", "anon_inode:[pidfd]", "/memfd:netlab")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Facts by kind; equal pictures are equal values."""

    facts: tuple[tuple[str, str], ...]

    def difference(self, other: Footprint) -> list[str]:
        """What is here and not there, with '+', and what is there and not here, with '-'."""
        ours, theirs = Counter(self.facts), Counter(other.facts)
        more = [f"+ {kind} {fact}" for kind, fact in (ours - theirs).elements()]
        return more + [f"- {kind} {fact}" for kind, fact in (theirs - ours).elements()]


def observe_footprint() -> Footprint:
    """Links, addresses, routes, mounts, namespaces, children, threads and holding descriptors."""
    facts = [("link", name) for _, name in socket.if_nameindex()]
    facts += (("address", line) for line in _lines("net/if_inet6"))
    # Counters of use aside.
    facts += (("route", " ".join(line.split()[:6])) for line in _lines("net/ipv6_route"))
    facts += (("route", line) for line in _lines("net/fib_trie"))
    facts += (("mount", line) for line in _lines("mountinfo"))
    facts += (("namespace", str(link.readlink())) for link in (_PROC / "ns").iterdir())
    facts += (("child", child) for child in _children())
    facts += (("thread", thread.name) for thread in threading.enumerate())
    facts += (("descriptor", target) for target in _held())
    return Footprint(tuple(sorted(facts)))


def _lines(name: str) -> list[str]:
    path = _PROC / name
    return path.read_text().splitlines() if path.exists() else []


def _children() -> list[str]:
    own = os.getpid()
    return [f"{each.pid} ({each.name})" for each in usage.stats() if each.parent == own]


def _held() -> list[str]:
    targets = []
    for fd in (_PROC / "fd").iterdir():
        try:
            target = str(fd.readlink())
        except FileNotFoundError:
            continue  # the one with which we look
        if target.startswith(_HOLDING):
            targets.append(target)
    return targets
