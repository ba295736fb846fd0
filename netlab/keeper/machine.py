"""What makes a machine of a cell: its own mounts, files, names, processes; switched on and off.

It shares the machine's files except for those that make a machine of its own. Its first process
does nothing; whatever runs in it ends with that process, as on a power cut.
"""

from __future__ import annotations

import os

from netlab.keeper import bare_signal as signal
from netlab.keeper import bare_socket as socket
from netlab.keeper import linux
from netlab.keeper import rtnetlink as nl
from netlab.keeper.cell import LOOPBACK_IFINDEX, NO_ROOT, Cell, Home, open_own

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from typing import NoReturn

STATE_DIRECTORY = "/var/lib/zos"
WORKLOAD_DIRECTORY = "/run/netns"

# Waits for ever. With SIGCHLD ignored, which outlives exec, the kernel reaps what becomes its own.
_INIT = ("sleep", "infinity")

_OVERLAID = ("/etc", "/var/lib")
_STAGING = "/run"
_PLAIN = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_APART = linux.CLONE_NEWUTS | linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWCGROUP
_ERROR_BYTES = 4096


class Machine:
    """`init`, a pidfd, leads to all namespaces but those of `workloads`, which are here by name.

    `mounts` keeps the tree whole until the end of `init` was noticed: without it, whoever looks
    through the cell's root would suddenly see the files below.
    """

    __slots__ = ("init", "mounts", "pid", "workloads")

    def __init__(self, *, pid: int, mounts: int) -> None:
        self.pid = pid
        self.init = os.pidfd_open(pid)
        self.mounts = mounts
        self.workloads: dict[str, int] = {}


def switch_on(cell: Cell) -> Machine:
    """A machine with an empty /run and nothing running but its first process.

    Called at home, ends anywhere.
    """
    if cell.furniture is None:
        raise ValueError("no machine: it only routes")
    hostname, files, state = cell.furniture
    linux.setns(cell.netns, linux.CLONE_NEWNET)
    linux.unshare(_APART)
    socket.sethostname(hostname)
    # Made and found before anything is mounted over the way to it.
    for directory in (os.path.dirname(state), state):
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
    outside = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # sysfs shows the network namespace in which it was mounted.
    linux.mount("sysfs", "/sys", kind="sysfs", flags=_PLAIN)
    linux.mount("tmpfs", _STAGING, kind="tmpfs", options="mode=755")
    for number, target in enumerate(_OVERLAID):
        _overlay(target, staging=f"{_STAGING}/{number}")
    os.makedirs(STATE_DIRECTORY, exist_ok=True)
    linux.mount(f"/proc/self/fd/{outside}", STATE_DIRECTORY, flags=linux.MS_BIND)
    os.close(outside)
    staging = os.open(_STAGING, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.symlink(_find(_INIT[0]), "init", dir_fd=staging)
    # Over the staging area, which the overlays keep alive: /run starts empty.
    linux.mount("tmpfs", "/run", kind="tmpfs", flags=linux.MS_NOSUID, options="mode=755")
    os.mkdir("/run/lock", 0o1777)
    for path, text in files:
        _write_anew(path, text)
    mounts = open_own("mnt")
    try:
        machine = Machine(pid=_start_init(staging), mounts=mounts)
    except OSError:
        os.close(mounts)
        raise
    finally:
        os.close(staging)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if cell.root == NO_ROOT:
        cell.root = root
    else:
        os.dup2(root, cell.root, inheritable=False)
        os.close(root)
    cell.machine = machine
    return machine


def silence(cell: Cell) -> None:
    """Nothing is sent any more, and neighbours see the carrier go, as with a power cut."""
    nl.send(cell.route_socket, b"".join(nl.link_down(ifindex) for ifindex in cell.ends))


def switched_off(cell: Cell) -> None:
    """Its first process has ended, and everything with it. Let go of what is left."""
    machine, cell.machine, cell.is_off = cell.machine, None, True
    silence(cell)
    if machine is None:
        return
    nothing = os.open(os.devnull, os.O_PATH | os.O_CLOEXEC)
    os.dup2(nothing, cell.root, inheritable=False)
    for fd in (nothing, machine.mounts, machine.init, *machine.workloads.values()):
        os.close(fd)


def add_workload(machine: Machine, name: str, *, home: Home) -> int:
    """An empty network namespace with a name inside this node. Ends in that namespace."""
    linux.setns(machine.mounts, linux.CLONE_NEWNS)
    linux.unshare(linux.CLONE_NEWNET)
    with nl.open_socket() as channel:
        nl.send(channel, nl.link_up(LOOPBACK_IFINDEX))
    os.makedirs(WORKLOAD_DIRECTORY, exist_ok=True)
    path = f"{WORKLOAD_DIRECTORY}/{name}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o444))
    os.fchdir(home.proc)
    linux.mount("self/ns/net", path, flags=linux.MS_BIND)
    machine.workloads[name] = os.open("self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    return machine.workloads[name]


def enter(machine: Machine, *, workload: str) -> None:
    """Into a node, or into one of its workloads when `workload` is not empty.

    What is started from here is a process of the node.
    """
    linux.setns(machine.init, _APART | linux.CLONE_NEWNET)
    if workload:
        linux.setns(machine.workloads[workload], linux.CLONE_NEWNET)


def _start_init(staging: int) -> int:
    """The first process of the PID namespace that was unshared. Raises OSError when it fails."""
    complaints, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_init(staging, told)
    os.close(told)
    with os.fdopen(complaints, "rb") as opened:
        complaint = opened.read(_ERROR_BYTES)  # ends with the exec
    if complaint:
        raise OSError(complaint.decode(errors="replace"))
    return pid


def _become_init(staging: int, told: int) -> NoReturn:
    """Only a process inside can mount the /proc of its PID namespace. Never returns."""
    try:
        linux.mount("proc", "/proc", kind="proc", flags=_PLAIN)
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)
        os.fchdir(staging)
        os.execve("init", _INIT, {})  # noqa: S606 - no shell is what is wanted
    except OSError as exc:
        os.write(told, str(exc).encode())
    finally:
        os._exit(1)


def _find(program: str) -> str:
    for directory in os.defpath.split(os.pathsep):
        if os.access(f"{directory}/{program}", os.X_OK):
            return f"{directory}/{program}"
    raise FileNotFoundError(f"no program {program!r}, which is a node's first process")


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
