"""Programs in a lab's nodes: how they end, where their output goes, how to kill them."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netlab.owner import Owner
from netlab.pidfds import numbers_of
from overlay.errors import Unavailable

_QUOTED_CHARACTERS_MAX = 2000


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program left behind."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode()


class CommandFailed(Unavailable):
    """A program in a node ended with an error."""

    def __init__(self, where: str, completed: Completed) -> None:
        words = (completed.stderr or completed.stdout).decode(errors="replace").strip()
        super().__init__(
            f"{where}: {shlex.join(completed.argv)}: exit code {completed.returncode}"
            f"\n{words[-_QUOTED_CHARACTERS_MAX:]}"
        )
        self.completed = completed


class LabProcess:
    """A program that runs in a node until it ends, is killed, or the node or the lab ends.

    pid       its number in the node
    host_pid  its number where the lab's owner runs
    """

    def __init__(
        self, owner: Owner, *, argv: Sequence[str], number: int, pidfd: int, log: Path | None
    ) -> None:
        """`number`: what the keeper calls it."""
        self.argv = tuple(argv)
        self.log = log
        self.host_pid, self.pid = numbers_of(pidfd)
        self._owner = owner
        self._number = number
        self._pidfd = pidfd
        self._ended = owner.exit_code(number)
        self._ended.add_done_callback(self._close)

    @property
    def returncode(self) -> int | None:
        """None while it runs or when the lab ended first; -n when signal n ended it."""
        if not self._ended.done() or self._ended.exception():
            return None
        return self._ended.result()

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Send a signal to this process alone; nothing happens when it has ended."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal_number)
            except ProcessLookupError:
                return

    async def wait(self) -> int:
        """The exit code. Raises Unavailable when the lab ends first."""
        return await asyncio.shield(self._ended)

    def _close(self, _: asyncio.Future[int]) -> None:
        self._owner.forget(self._number)
        os.close(self._pidfd)
        self._pidfd = -1
