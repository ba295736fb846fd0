"""The namespaces of one lab node, held as file descriptors: made, and left again.

A cell has no name outside the lab and, until a program runs in it, no process and nothing but its
network; when the keeper's descriptors go, it goes.
"""

from __future__ import annotations

import os

from netlab.keeper import bare_socket as socket
from netlab.keeper import linux, nftables
from netlab.keeper import rtnetlink as nl
from netlab.keeper import sysctls as settings

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from netlab.keeper.machine import Machine

    Furniture = tuple[str, tuple[tuple[str, str], ...], str]

NO_ROOT = -1
LOOPBACK_IFINDEX = 1


class Cell:
    """`netns` alone for what only routes; `machine` from the first program on, while it is on.

    furniture  host name, files and state directory of the machine that it can be; None: it cannot
    ends       interface indexes of its cables, which stay when all else in the netns goes
    root       the machine's root directory: one number for good, on which nothing is while it is
               off; NO_ROOT before it has ever been on
    """

    __slots__ = ("ends", "furniture", "is_off", "machine", "netns", "root", "route_socket")

    def __init__(
        self, *, netns: int, route_socket: socket.socket, furniture: Furniture | None
    ) -> None:
        self.netns = netns
        self.route_socket = route_socket
        self.furniture = furniture
        self.ends: tuple[int, ...] = ()
        self.machine: Machine | None = None
        self.is_off = False
        self.root = NO_ROOT


class Home:
    """The keeper's own namespaces, to which it returns after every visit."""

    __slots__ = ("cgroups", "mounts", "netns", "pids", "proc", "uts")

    def __init__(self) -> None:
        self.mounts = open_own("mnt")
        self.netns = open_own("net")
        self.uts = open_own("uts")
        self.pids = open_own("pid")
        self.cgroups = open_own("cgroup")
        # A node's /proc does not show the keeper.
        self.proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def enter(self) -> None:
        linux.setns(self.mounts, linux.CLONE_NEWNS)
        linux.setns(self.uts, linux.CLONE_NEWUTS)
        linux.setns(self.pids, linux.CLONE_NEWPID)
        linux.setns(self.cgroups, linux.CLONE_NEWCGROUP)
        linux.setns(self.netns, linux.CLONE_NEWNET)


def create_cell(
    *, ruleset: str, sysctls: tuple[tuple[str, str], ...], furniture: Furniture | None
) -> Cell:
    """A new network namespace, which the caller is in afterwards."""
    linux.unshare(linux.CLONE_NEWNET)
    if ruleset:
        # First: where connection tracking is a module, its sysctls come with the first rule.
        nftables.load(ruleset)
    settings.write(sysctls)
    return Cell(netns=open_own("net"), route_socket=nl.open_socket(), furniture=furniture)


def close(cell: Cell) -> None:
    """The namespace is freed as soon as nobody else holds it."""
    cell.route_socket.close()
    os.close(cell.netns)
    if cell.root != NO_ROOT:
        os.close(cell.root)


def open_own(kind: str) -> int:
    return os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
