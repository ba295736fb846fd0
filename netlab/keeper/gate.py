"""The way to a keeper without root: a user namespace, whose root is whoever runs the lab.

A process that has gone there cannot come back, and only its children are in the PID namespace that
it makes. So this one goes, lets a child be the keeper, and waits: it ends with its parent, and the
keeper with it.
"""

from __future__ import annotations

import os
import select
import sys

from netlab.keeper import bare_signal as signal
from netlab.keeper import control, keeper, linux, traffic
from netlab.keeper import rtnetlink as nl
from netlab.keeper.cell import LOOPBACK_IFINDEX

CAP_SYS_ADMIN = 21

# The keeper returns home after every visit, and nobody may return to what is not theirs.
_HOME = linux.CLONE_NEWPID | linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP


def is_needed() -> bool:
    """Whether the calling process may not make namespaces as it is."""
    with open("/proc/self/status") as status:
        effective = next(line for line in status if line.startswith("CapEff:"))
    return not int(effective.split()[1], 16) & 1 << CAP_SYS_ADMIN


def enter_user_namespace() -> None:
    """The caller, single-threaded, is root of a new one that holds nobody else.

    Raises OSError where that is forbidden.
    """
    user, group = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER)
    _write("setgroups", "deny")  # what the kernel wants before it lets a plain user map groups
    _write("uid_map", f"0 {user} 1")
    _write("gid_map", f"0 {group} 1")


def main() -> None:
    """Wait for a keeper. With the argument `try`: say what is in the way of one (see `_try`)."""
    linux.die_with_parent(signal.SIGKILL)
    if sys.argv[1:2] == ["try"]:
        _try(sys.argv[2:])
        return
    enter_user_namespace()
    linux.unshare(_HOME)
    alive, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        linux.die_with_parent(signal.SIGKILL)
        # Had the parent ended before that line, the signal would never come.
        if not select.select([alive], [], [], 0)[0]:
            keeper.main()
        os._exit(0)
    os.close(control.KEEPER_FD)
    os.waitpid(child, 0)


def _try(wanted: list[str]) -> None:
    """Whether there can be namespaces and, for `netem`, that. Exits with the kernel's words."""
    try:
        if is_needed():
            enter_user_namespace()
        linux.unshare(_HOME | linux.CLONE_NEWNS)
        if "netem" in wanted:
            with nl.open_socket() as channel:
                nl.send(channel, traffic.netem(LOOPBACK_IFINDEX))
    except OSError as exc:
        sys.exit(str(exc))


def _write(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
