"""The owner's end of a lab: starts the keeper, talks to it, learns of its end.

Everything here happens in the event loop's thread. Its end, too, is the end of the lab: the
kernel sends a parent-death signal when the *thread* that started a process ends. Without the
right to make namespaces the keeper is a grandchild, by way of a gate (see keeper/gate.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from netlab.keeper import control, gate, linux
from netlab.pidfds import numbers_of
from overlay.errors import Rejected, Unavailable

_PACKAGES = str(Path(__file__).resolve().parent.parent)
_UNKNOWN = -1
NONE = -1  # instead of a descriptor


class Owner:
    """One keeper. Requests are answered in order; the end of processes is reported in between."""

    def __init__(self, *, log: Path) -> None:
        """Start a keeper in a PID namespace of its own, its output appended to `log`."""
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._requests = 0
        self._answers: dict[int, asyncio.Future[tuple[Any, list[int]]]] = {}
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._when_dead: dict[str, Callable[[], None]] = {}
        self._when_pump_replaced: Callable[[int], None] = lambda _: None
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._channel, theirs = control.pair()
        self._channel.setblocking(False)
        with theirs:
            self._child = os.pidfd_open(_start(theirs, log=log))
        self._keeper = self.keeper_pid = _UNKNOWN  # until it says hello
        self._is_child_gone = self._is_keeper_gone = False
        self._ended = self._loop.create_future()
        self._loop.add_reader(self._child, self._reap)
        self._loop.add_reader(self._channel, self._listen)

    @property
    def is_alive(self) -> bool:
        return not self._ended.done()

    async def request(self, verb: str, *arguments: Any, fds: tuple[int, ...] = ()) -> Any:
        answer, granted = await self._exchange(verb, arguments, fds)
        for fd in granted:
            os.close(fd)
        return answer

    async def request_fd(self, verb: str, *arguments: Any, fds: tuple[int, ...]) -> tuple[Any, int]:
        """For a verb that starts a process and answers with its pidfd, the caller's to close.

        NONE when there is no process; the answer says why.

        A caller that is cancelled has no process: it is killed as soon as it is there.
        """
        answer, granted = await self._exchange(verb, arguments, fds)
        return answer, granted[0] if granted else NONE

    def call_at_end(self, close: Callable[[], None]) -> None:
        """Call it once the keeper has ended, at once when it has."""
        self._ended.add_done_callback(lambda _: close())

    def exit_code(self, pid: int) -> asyncio.Future[int]:
        """Done when this process, started by request, has ended; negative for a signal."""
        return self._exits.setdefault(pid, self._loop.create_future())

    def forget(self, pid: int) -> None:
        self._exits.pop(pid, None)

    def call_when_pump_replaced(self, tell: Callable[[int], None]) -> None:
        """Call it whenever the pump of the impaired links has ended and been replaced."""
        self._when_pump_replaced = tell

    def call_when_dead(self, name: str, tell: Callable[[], None]) -> None:
        """Call it whenever this node's machine has ended, with everything that ran in it."""
        self._when_dead[name] = tell

    async def end(self) -> None:
        """Kill the keeper and with it everything. Returns when no process of the lab is left."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                known = self._child if self._keeper == _UNKNOWN else self._keeper
                signal.pidfd_send_signal(known, signal.SIGKILL)
            await asyncio.shield(self._ended)

    def request_now(self, verb: str, *arguments: Any) -> Any:
        """The same while everybody waits: for what takes milliseconds, where nobody can await."""
        return self._wait_for(self._post(verb, arguments, ()))[0]

    def grant_now(self, verb: str, *arguments: Any) -> int:
        """For a verb that answers with one descriptor, the caller's to close; everybody waits."""
        return self._wait_for(self._post(verb, arguments, ()))[1][0]

    def _wait_for(self, answer: asyncio.Future[tuple[Any, list[int]]]) -> tuple[Any, list[int]]:
        while not answer.done():
            select.select([self._channel], [self._channel] if self._unsent else [], [])
            self._send()
            if not self._receive() and not answer.done():
                self._bury_if_gone()
                raise self._gone()
        return answer.result()

    async def _exchange(
        self, verb: str, arguments: tuple[Any, ...], fds: tuple[int, ...]
    ) -> tuple[Any, list[int]]:
        answer = self._post(verb, arguments, fds)
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancelled() and not answer.exception():  # it came at the same moment
                _abandon(answer.result()[1])
            raise

    def _post(
        self, verb: str, arguments: tuple[Any, ...], fds: tuple[int, ...]
    ) -> asyncio.Future[tuple[Any, list[int]]]:
        if not self.is_alive:
            raise self._gone()
        self._requests += 1
        number = self._requests
        try:
            encoded = control.encode((number, verb, *arguments))
        except ValueError as exc:
            raise Rejected(f"{verb}: {exc}") from exc
        answer = self._answers[number] = self._loop.create_future()
        if self._unsent or not self._is_sent(encoded, fds):
            # Duplicates, because the caller may close its own before the queue is empty.
            self._unsent.append((encoded, tuple(os.dup(fd) for fd in fds)))
            self._loop.add_writer(self._channel, self._send)
        return answer

    def _send(self) -> None:
        while self._unsent:
            encoded, fds = self._unsent[0]
            if not self._is_sent(encoded, fds):
                return
            self._unsent.popleft()
            _close(fds)
        self._loop.remove_writer(self._channel)

    def _is_sent(self, encoded: bytes, fds: tuple[int, ...]) -> bool:
        """False: later. What a keeper that is gone does not take counts as sent."""
        try:
            control.send(self._channel, encoded, fds)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            return True  # its end is reported elsewhere
        return True

    def _listen(self) -> None:
        self._receive()
        self._bury_if_gone()

    def _receive(self) -> bool:
        """Take all that is there. Whether the keeper may say more."""
        while True:
            try:
                received = control.receive(self._channel)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                received = None
            if received is None:
                self._loop.remove_reader(self._channel)
                # One that has said nothing of itself yet is known by its channel alone.
                self._is_keeper_gone = self._is_keeper_gone or self._keeper == _UNKNOWN
                return False
            self._accept(*received)

    def _accept(self, message: tuple[Any, ...], fds: list[int]) -> None:
        number, outcome, content = message
        if number == 0:
            self._hear(outcome, content, fds)
            return
        answer = self._answers.pop(number)
        if answer.cancelled():
            _abandon(fds)
        elif outcome:
            answer.set_result((content, fds))
        else:
            answer.set_exception(Unavailable(f"keeper: {content}"))

    def _hear(self, kind: str, content: Any, fds: list[int]) -> None:
        if kind == control.HELLO:
            (self._keeper,) = fds
            self.keeper_pid, _ = numbers_of(self._keeper)
            self._loop.add_reader(self._keeper, self._miss)
        elif kind == control.EXIT:
            pid, code = content
            self.exit_code(pid).set_result(code)
        elif kind == control.OFF:
            self._when_dead[content]()
        elif kind == control.PUMP:
            self._when_pump_replaced(content)

    def _miss(self) -> None:
        """The keeper has ended and, with PID 1, every process of the lab."""
        self._loop.remove_reader(self._keeper)
        self._is_keeper_gone = True
        with contextlib.suppress(ProcessLookupError):
            # A gate that somebody has stopped would not reap it.
            signal.pidfd_send_signal(self._child, signal.SIGCONT)
        self._bury_if_gone()

    def _reap(self) -> None:
        os.waitid(os.P_PIDFD, self._child, os.WEXITED)
        self._loop.remove_reader(self._child)
        self._is_child_gone = True
        self._bury_if_gone()

    def _bury_if_gone(self) -> None:
        if not (self._is_child_gone and self._is_keeper_gone) or self._ended.done():
            return
        self._receive()
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()
        _close([self._child] if self._keeper == _UNKNOWN else [self._child, self._keeper])
        for _, fds in self._unsent:
            _close(fds)
        waiting: list[asyncio.Future[Any]] = [*self._answers.values(), *self._exits.values()]
        for each in waiting:
            if not each.done():
                each.set_exception(self._gone())
                each.exception()  # nobody may be waiting
        self._ended.set_result(None)

    def _gone(self) -> Unavailable:
        return Unavailable("the lab's keeper is gone", remedy=f"see {self._log}")


def _start(channel: socket.socket, *, log: Path) -> int:
    """A keeper, PID 1 of a new PID namespace, or the gate to one: a child of the calling thread."""
    through_gate = gate.is_needed()
    own = os.open("/proc/thread-self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not through_gate:
            linux.unshare(linux.CLONE_NEWPID)  # for children only, and only this thread's
        return os.posix_spawn(
            sys.executable,
            _interpret("gate" if through_gate else "keeper"),
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, fd, target)
                for target, fd in (
                    (0, null),
                    (1, out),
                    (2, out),
                    (control.KEEPER_FD, channel.fileno()),
                )
            ],
            setsid=True,
        )
    finally:
        if not through_gate:
            linux.setns(own, linux.CLONE_NEWPID)
        _close((own, out, null))


def try_namespaces(*further: str) -> str:
    """What the kernel says to whoever wants a lab's namespaces (see gate.py); empty: it lets."""
    tried = subprocess.run(
        _interpret("gate", "try", *further), env={}, capture_output=True, text=True, check=False
    )
    return tried.stderr.strip() if tried.returncode else ""


def _interpret(module: str, *arguments: str) -> tuple[str, ...]:
    """-I and -S: nothing of the environment, and none of the time that site-packages would take."""
    code = (
        f"import sys; sys.path.append({_PACKAGES!r}); import netlab.keeper.{module} as m; m.main()"
    )
    return (sys.executable, "-I", "-S", "-c", code, *arguments)


def _abandon(granted: list[int]) -> None:
    """Nobody waits any more for the process that was granted; all that is granted is processes."""
    for pidfd in granted:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def _close(fds: tuple[int, ...] | list[int]) -> None:
    for fd in fds:
        os.close(fd)
