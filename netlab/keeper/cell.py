"""The namespaces of one lab node, held as file descriptors: made, entered, left.

A cell has no name outside the lab and no process of its own; when the keeper's descriptors go, it
goes. It shares the machine's files except for those that make a machine of its own.
"""

from __future__ import annotations

import os
import socket

from netlab.keeper import linux, nftables
from netlab.keeper import rtnetlink as nl
from netlab.keeper import sysctls as settings

STATE_DIRECTORY = "/var/lib/zos"
WORKLOAD_DIRECTORY = "/run/netns"
LOOPBACK_IFINDEX = 1

_OVERLAID = ("/etc", "/var/lib")
_STAGING = "/run"


class Cell:
    """`netns` alone for what only routes; the rest too for what runs programs."""

    __slots__ = ("mounts", "netns", "root", "route_socket", "uts", "workloads")

    def __init__(self, *, netns: int, route_socket: socket.socket) -> None:
        self.netns = netns
        self.route_socket = route_socket
        self.mounts = self.uts = self.root = -1
        self.workloads: dict[str, int] = {}


class Home:
    """The keeper's own namespaces, to which it returns after every visit."""

    __slots__ = ("mounts", "netns", "uts")

    def __init__(self) -> None:
        self.mounts = _open_own("mnt")
        self.netns = _open_own("net")
        self.uts = _open_own("uts")

    def enter(self) -> None:
        linux.setns(self.mounts, linux.CLONE_NEWNS)
        linux.setns(self.uts, linux.CLONE_NEWUTS)
        linux.setns(self.netns, linux.CLONE_NEWNET)


def create_cell(*, ruleset: str, sysctls: tuple[tuple[str, str], ...]) -> Cell:
    """A new network namespace, which the caller is in afterwards."""
    linux.unshare(linux.CLONE_NEWNET)
    if ruleset:
        # First: where connection tracking is a module, its sysctls come with the first rule.
        nftables.load(ruleset)
    settings.write(sysctls)
    return Cell(netns=_open_own("net"), route_socket=nl.open_socket())


def furnish(cell: Cell, *, hostname: str, files: tuple[tuple[str, str], ...], state: str) -> None:
    """Make a machine of the cell that the caller is in: mounts, files and a name of its own.

    `state` is the directory outside that the node sees as its state directory.
    """
    linux.unshare(linux.CLONE_NEWUTS | linux.CLONE_NEWNS)
    socket.sethostname(hostname)
    # Found before anything is mounted over the way to it.
    outside = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # sysfs shows the network namespace in which it was mounted.
    linux.mount("sysfs", "/sys", kind="sysfs", flags=_PLAIN)
    linux.mount("tmpfs", _STAGING, kind="tmpfs", options="mode=755")
    for number, target in enumerate(_OVERLAID):
        _overlay(target, staging=f"{_STAGING}/{number}")
    os.makedirs(STATE_DIRECTORY, exist_ok=True)
    linux.mount(f"/proc/self/fd/{outside}", STATE_DIRECTORY, flags=linux.MS_BIND)
    os.close(outside)
    # Over the staging area, which the overlays keep alive: /run starts empty.
    linux.mount("tmpfs", "/run", kind="tmpfs", flags=linux.MS_NOSUID, options="mode=755")
    os.mkdir("/run/lock", 0o1777)
    for path, text in files:
        _write_anew(path, text)
    cell.uts = _open_own("uts")
    cell.mounts = _open_own("mnt")
    cell.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def add_workload(cell: Cell, name: str) -> int:
    """An empty network namespace with a name inside this node. Ends in that namespace."""
    linux.setns(cell.mounts, linux.CLONE_NEWNS)
    linux.unshare(linux.CLONE_NEWNET)
    with nl.open_socket() as channel:
        nl.send(channel, nl.link_up(LOOPBACK_IFINDEX))
    os.makedirs(WORKLOAD_DIRECTORY, exist_ok=True)
    path = f"{WORKLOAD_DIRECTORY}/{name}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o444))
    linux.mount("/proc/self/ns/net", path, flags=linux.MS_BIND)
    cell.workloads[name] = _open_own("net")
    return cell.workloads[name]


def enter(cell: Cell, *, workload: str) -> None:
    """Into a node, or into one of its workloads when `workload` is not empty."""
    linux.setns(cell.mounts, linux.CLONE_NEWNS)
    linux.setns(cell.uts, linux.CLONE_NEWUTS)
    linux.setns(cell.workloads[workload] if workload else cell.netns, linux.CLONE_NEWNET)


_PLAIN = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


def _overlay(target: str, *, staging: str) -> None:
    """The machine's files to read, the node's own to write."""
    upper, work = f"{staging}/upper", f"{staging}/work"
    os.makedirs(upper)
    os.mkdir(work)
    options = f"lowerdir={target},upperdir={upper},workdir={work}"
    linux.mount("overlay", target, kind="overlay", options=options)


def _write_anew(path: str, text: str) -> None:
    """Not through a link: /etc/resolv.conf often is one."""
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "w") as file:
        file.write(text)


def _open_own(kind: str) -> int:
    return os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
