"""All processes of the machine in whose mount namespace the caller is: stopped, or going on.

By the machine's own /proc, whose entries take a signal as a pidfd does.
"""

from __future__ import annotations

import os

from netlab.keeper import bare_signal as signal
from netlab.keeper.suppress import suppress

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

_INIT = "1"  # waits for ever anyway, and is not to be stopped by anybody
_AT_REST = "TtZX"  # states in proc_pid_stat(5): stopped, traced, ended
_STATUS_BYTES = 4096


def stop_all() -> int:
    """Stop everybody; the number of those who were still running when looked at.

    When it is 0, nobody ran who could have started somebody else behind our back.
    """
    running = 0
    for process, status in _residents():
        if not _is_halted(status):
            running += 1
            _send(process, signal.SIGSTOP)
    return running


def continue_all() -> None:
    for process, _ in _residents():
        _send(process, signal.SIGCONT)


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):  # ended since
        signal.pidfd_send_signal(process, number)


def _residents() -> Iterator[tuple[int, bytes]]:
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == _INIT:
            continue
        try:
            process = os.open(f"/proc/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # ended since
        try:
            yield process, _read(process, "status")
        except (FileNotFoundError, ProcessLookupError):
            continue
        finally:
            os.close(process)


def _is_halted(status: bytes) -> bool:
    fields = dict(line.split(":", 1) for line in status.decode().splitlines() if ":" in line)
    state = fields["State"].strip()[0]
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    # Who waits for a child of vfork, itself stopped, stops when that goes on.
    is_waiting = state == "D" and bool(pending & 1 << signal.SIGSTOP - 1)
    return state in _AT_REST or is_waiting


def _read(process: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    try:
        return os.read(fd, _STATUS_BYTES)
    finally:
        os.close(fd)
