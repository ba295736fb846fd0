"""The keeper: PID 1 of a lab's own PID namespace, holder of all that the lab consists of.

Every namespace is a file descriptor here and every process a descendant: its end, however it comes,
is the end of the lab, and it ends when its owner does. Single-threaded on purpose: it moves itself
from namespace to namespace, and nothing else may be looking. It decides nothing.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import sys

from netlab.keeper import bare_signal as signal
from netlab.keeper import bare_socket as socket
from netlab.keeper import cell as cells
from netlab.keeper import conntrack, control, linux, machine, nftables, readback, residents
from netlab.keeper import rtnetlink as nl
from netlab.keeper import sysctls as settings
from netlab.keeper.pump_house import PumpHouse
from netlab.keeper.suppress import suppress
from netlab.keeper.sweep import sweep

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WAKE_UPS_BYTES = 4096  # read at once; what is left wakes it again
# Those that are not named are each asked for first, sixty system calls before a program begins.
_SIGNALS = frozenset(range(1, signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP}
DIFFERENCES_MAX = 20  # told; the first one is enough to see that something is wrong


class Keeper:
    """Answers requests one at a time, in order, and reports the end of processes."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._home = cells.Home()
        self._cells: dict[str, cells.Cell] = {}
        self._processes: set[int] = set()
        self._pump_house = PumpHouse()
        self._pumps_reported = 0
        self._inits: dict[int, str] = {}
        self._verbs: dict[str, Callable[..., tuple[object, list[int]]]] = {
            "build": self._build,
            "compare": self._compare,
            "filter": self._filter,
            "kill": self._kill,
            "open": self._open,
            "pause": self._pause,
            "program": self._program,
            "listen": self._listen,
            "carry": self._carry,
            "counts": self._counts,
            "restart": self._restart,
            "remove": self._remove,
            "resume": self._resume,
            "root": self._root,
            "socket": self._socket,
            "spawn": self._spawn,
            "workload": self._workload,
        }

    def serve(self, *, child_ended: int) -> None:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(child_ended, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if child_ended in ready:
                os.read(child_ended, _WAKE_UPS_BYTES)
                self._report_ended()
            if self._channel.fileno() in ready:
                request = control.receive(self._channel)
                if request is None:
                    return
                self._answer(*request)

    def _answer(self, request: control.Message, fds: list[int]) -> None:
        number, verb, *arguments = request
        granted: list[int] = []
        try:
            answer, granted = self._verbs[str(verb)](*arguments, *fds)
            message = control.encode((number, True, answer))
        except (OSError, KeyError, ValueError) as exc:
            message = control.encode((number, False, f"{type(exc).__name__}: {exc}"))
        finally:
            self._home.enter()
            for fd in fds:
                os.close(fd)
        control.send(self._channel, message, tuple(granted))
        for fd in granted:
            os.close(fd)
        self._report_pump()

    def _build(self, specification: int) -> tuple[object, list[int]]:
        """Namespaces, then cables, then what is inside. Answers with the new descriptors' numbers.

        Among namespaces that are there already when it is not the first one.
        """
        namespaces, pairs, renewed, programs, links, addresses = control.decode(
            _read_all(specification)
        )
        made = {}
        for name, sysctls, ruleset, furniture in namespaces:
            cell = cells.create_cell(ruleset=ruleset, sysctls=sysctls, furniture=furniture)
            made[name] = self._cells[name] = cell
        self._lay_cables(pairs)
        for name, ruleset, sysctls in renewed:
            self._filter(name, ruleset, bool(ruleset))
            settings.write(sysctls)
        for name, program in programs:
            nl.send(self._cells[name].route_socket, program)
        self._wait_operational(links)
        self._wait_local(addresses)
        return {name: cell.netns for name, cell in made.items()}, []

    def _remove(self, specification: int) -> tuple[object, list[int]]:
        """Facts, links and namespaces, in this order; a node among them is dead already."""
        programs, links, ends, names = control.decode(_read_all(specification))
        for name, program in programs:
            nl.send(self._cells[name].route_socket, program)
        for name, ifindexes in links:
            nl.send(self._cells[name].route_socket, nl.remove_links(ifindexes))
        for name, ifindex in ends:
            cell = self._cells[name]
            cell.ends = tuple(each for each in cell.ends if each != ifindex)
        for name in names:
            cell = self._cells.pop(name)
            self._pump_house.forget(cell)
            cells.close(cell)
        return None, []

    def _compare(self, specification: int) -> tuple[object, list[int]]:
        """What should be there and is not, and what should not and is, by namespace."""
        found = []
        for name, wanted, unwanted in control.decode(_read_all(specification)):
            actual = set(readback.read(self._cells[name].route_socket))
            found += [(name, "missing", *fact) for fact in wanted if fact not in actual]
            found += [(name, "left", *fact) for fact in unwanted if fact in actual]
        return found[:DIFFERENCES_MAX], []

    def _lay_cables(self, pairs: dict[str, list[tuple[str, dict[str, Any]]]]) -> None:
        """`pairs`: by the name of the namespace of one end, then that of the other."""
        for far, cables in pairs.items():
            messages = [
                nl.veth(**ends, peer_netns_fd=self._cells[near].netns) for near, ends in cables
            ]
            nl.send(self._cells[far].route_socket, b"".join(messages))
            for near, ends in cables:
                self._cells[near].ends += (ends["peer_ifindex"],)
                self._cells[far].ends += (ends["ifindex"],)

    def _program(
        self,
        name: str,
        program: bytes,
        links: tuple[tuple[str, int], ...],
        addresses: tuple[tuple[str, int, bytes], ...] = (),
    ) -> tuple[object, list[int]]:
        nl.send(self._cells[name].route_socket, program)
        self._wait_operational(links)
        self._wait_local(addresses)
        return None, []

    def _filter(self, name: str, ruleset: str, forget: bool) -> tuple[object, list[int]]:
        """Load rules; with `forget`, connections and translations are as after a power cut."""
        linux.setns(self._cells[name].netns, linux.CLONE_NEWNET)
        if ruleset:
            nftables.load(ruleset)
        if forget:
            conntrack.flush()
        return None, []

    def _listen(self, *places: tuple[str, str]) -> tuple[object, list[int]]:
        for name, link in places:
            self._pump_house.listen(name, self._cells[name], link)
        return None, []

    def _carry(self, *orders: tuple[Any, ...]) -> tuple[object, list[int]]:
        """Each order: number, seed, terms, is_up, and namespace and link of what is new."""
        for number, seed, terms, is_up, name, link in orders:
            cell = self._cells[name] if name else None
            self._pump_house.carry(number, seed, terms, is_up, cell, link)
        return None, []

    def _counts(self, *numbers: int) -> tuple[object, list[int]]:
        return self._pump_house.counts(*numbers), []

    def _wait_operational(self, links: tuple[tuple[str, int], ...]) -> None:
        for name, ifindex in links:
            nl.wait_operational(self._cells[name].route_socket, ifindex)

    def _wait_local(self, addresses: tuple[tuple[str, int, bytes], ...]) -> None:
        for name, ifindex, packed in addresses:
            nl.wait_local(self._cells[name].route_socket, ifindex, packed=packed)

    def _socket(
        self, name: str, workload: str, family: int, kind: int, protocol: int
    ) -> tuple[object, list[int]]:
        self._visit(name, workload)
        return None, [socket.socket(family, kind, protocol).detach()]

    def _open(self, name: str, file: str) -> tuple[object, list[int]]:
        """A file of /proc/net to read; it keeps telling of that namespace."""
        self._visit(name, "")
        return None, [os.open(f"/proc/thread-self/net/{file}", os.O_RDONLY | os.O_CLOEXEC)]

    def _visit(self, name: str, workload: str) -> None:
        """The network alone, for which no machine has to be on."""
        cell = self._cells[name]
        netns = self._machine(name).workloads[workload] if workload else cell.netns
        linux.setns(netns, linux.CLONE_NEWNET)

    def _workload(self, name: str, workload: str) -> tuple[object, list[int]]:
        return machine.add_workload(self._machine(name), workload, home=self._home), []

    def _root(self, name: str) -> tuple[object, list[int]]:
        self._machine(name)
        return self._cells[name].root, []

    def _machine(self, name: str) -> machine.Machine:
        """Switched on when this is the first use. Ends at home."""
        cell = self._cells[name]
        if cell.is_off:
            raise OSError(f"{name} is off")
        if cell.machine is None:
            running = machine.switch_on(cell)
            self._inits[running.pid] = name
            self._home.enter()
            return running
        return cell.machine

    def _kill(self, name: str) -> tuple[object, list[int]]:
        """Silent at once; when nothing of it is left, its end is reported."""
        cell = self._cells[name]
        if cell.machine is None:
            self._report_off(name)
        else:
            machine.silence(cell)
            signal.pidfd_send_signal(cell.machine.init, signal.SIGKILL)
        return None, []

    def _restart(
        self,
        name: str,
        program: bytes,
        sysctls: tuple[tuple[str, str], ...],
        links: tuple[tuple[str, int], ...],
        addresses: tuple[tuple[str, int, bytes], ...],
    ) -> tuple[object, list[int]]:
        """A node that is off is as new, but for its disk; nothing runs in it yet."""
        cell = self._cells[name]
        sweep(cell)
        settings.write(sysctls)
        nl.send(cell.route_socket, program)
        self._wait_operational(links)
        self._wait_local(addresses)
        cell.is_off = False
        return None, []

    def _pause(self, name: str) -> tuple[object, list[int]]:
        """Answers with the number of processes that still ran: until it is 0, ask again."""
        running = self._cells[name].machine
        if running is None:
            return 0, []
        linux.setns(running.mounts, linux.CLONE_NEWNS)
        return residents.stop_all(), []

    def _resume(self, name: str) -> tuple[object, list[int]]:
        running = self._cells[name].machine
        if running is not None:
            linux.setns(running.mounts, linux.CLONE_NEWNS)
            residents.continue_all()
        return None, []

    def _spawn(
        self,
        name: str,
        workload: str,
        argv: tuple[str, ...],
        env: dict[str, str],
        cwd: str,
        terminal: bool,
        *standard: int,
    ) -> tuple[object, list[int]]:
        """`standard`: input, output, error. Answers with the pid and a pidfd.

        What the node has not got, or does not let anybody run, is an answer too: (code, why), as a
        shell would end.
        """
        running = self._machine(name)
        # A terminal's name is found in /proc, and the node's does not show the keeper.
        actions = _take_terminal(standard) if terminal else _take_over(standard)
        machine.enter(running, workload=workload)
        try:
            os.chdir(cwd)
        except OSError as exc:
            return (control.NOT_EXECUTABLE, f"its directory would be {cwd}: {exc.strerror}"), []
        try:
            pid = os.posix_spawn(
                _find_program(argv[0], env),
                argv,
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        except (FileNotFoundError, NotADirectoryError) as exc:
            return (control.NOT_FOUND, exc.strerror), []
        except OSError as exc:
            return (control.NOT_EXECUTABLE, exc.strerror), []
        self._processes.add(pid)
        return pid, [os.pidfd_open(pid)]

    def _report_ended(self) -> None:
        """Reap everything, as PID 1 must; report what was started by request, and machines."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._processes:
                self._processes.discard(pid)
                self._report(control.EXIT, (pid, os.waitstatus_to_exitcode(status)))
            elif pid == self._pump_house.pid:
                self._replace_pump()
            elif pid in self._inits:
                # The kernel gives the first process up last, so all others are reported.
                self._report_off(self._inits.pop(pid))

    def _replace_pump(self) -> None:
        # Whoever asks for it hears that there is none any more.
        with suppress(OSError):
            self._pump_house.replace()
        self._home.enter()
        self._report_pump()

    def _report_pump(self) -> None:
        """For the packets that the one that ended held are lost."""
        if self._pumps_reported != self._pump_house.replaced:
            self._pumps_reported = self._pump_house.replaced
            self._report(control.PUMP, self._pumps_reported)

    def _report_off(self, name: str) -> None:
        machine.switched_off(self._cells[name])
        self._report(control.OFF, name)

    def _report(self, kind: str, what: object) -> None:
        control.send(self._channel, control.encode((0, kind, what)))


def main() -> None:
    """Become a keeper. The owner has put this process into a PID namespace of its own."""
    # An owner that ended before the next line has closed its end of the channel: seen as its end.
    linux.die_with_parent(signal.SIGKILL)
    if os.getpid() != 1:
        sys.exit("a keeper must be PID 1 of a PID namespace of its own")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("proc", "/proc", kind="proc")
    child_ended, wake_up = os.pipe()
    os.set_blocking(wake_up, False)
    signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.set_inheritable(control.KEEPER_FD, False)
    channel = socket.socket(fileno=control.KEEPER_FD)
    own = os.pidfd_open(os.getpid())
    try:
        # Who it is where the owner runs only the owner can see.
        control.send(channel, control.encode((0, control.HELLO, None)), (own,))
        os.close(own)
        Keeper(channel).serve(child_ended=child_ended)
    except (BrokenPipeError, ConnectionResetError):
        return  # the owner is gone


def _take_over(standard: tuple[int, ...]) -> list[tuple[Any, ...]]:
    return [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(standard)]


def _take_terminal(standard: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """The leader of a new session controls the first terminal that it opens itself."""
    opened = (os.POSIX_SPAWN_OPEN, 0, os.ttyname(standard[0]), os.O_RDWR, 0)
    return [opened, *((os.POSIX_SPAWN_DUP2, 0, target) for target in range(1, len(standard)))]


def _find_program(name: str, env: dict[str, str]) -> str:
    """As execvp would, but with the node's files and the program's own PATH."""
    if "/" in name:
        return name
    forbidden = ""
    for directory in env.get("PATH", os.defpath).split(os.pathsep):
        candidate = f"{directory}/{name}"
        # What is not there, the usual case, is told faster by access than by an exception of stat.
        if os.access(candidate, os.F_OK) and os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            forbidden = forbidden or candidate
    if forbidden:
        raise PermissionError(errno.EACCES, "not executable", forbidden)
    raise FileNotFoundError(errno.ENOENT, "not found")


def _read_all(fd: int) -> bytes:
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        return file.read()


if __name__ == "__main__":
    main()
