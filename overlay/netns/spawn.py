"""The one place where overlay starts other processes: never through a shell, never with a secret.

Arguments and environment of a process can be read by others on the machine, so neither carries a
key. A process gets the environment it is given, the standard streams, and nothing else of ours.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from overlay.errors import Rejected, Unavailable
from overlay.netns import mounts
from overlay.netns.namespaces import hop
from overlay.netns.passing import signals_passed_on

ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
KILL_AFTER_S = 2.0  # between asking a process to end and making it end

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Completed:
    """What a process left behind."""

    code: int  # negative: the signal that ended it
    stdout: bytes
    stderr: bytes


async def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    netns: str | int | None = None,
    env: Mapping[str, str] = ENVIRONMENT,
) -> Completed:
    """Run `argv` to its end, in `netns` when given. Whatever its exit code, that is no error here.

    Raises Rejected when there is no such command, Unavailable when it takes longer than
    `timeout_s`. It is not left running then, nor when the caller is cancelled.
    """
    process = _start(
        argv, netns, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    # Shielded, because a thread that has not begun would otherwise never reap the process.
    reading = asyncio.get_running_loop().run_in_executor(
        None, partial(process.communicate, timeout=timeout_s)
    )
    try:
        stdout, stderr = await asyncio.shield(reading)
    except subprocess.TimeoutExpired as exc:
        _kill_session(process)
        await asyncio.to_thread(process.communicate)
        raise Unavailable(f"{argv[0]}: no end within {timeout_s:g} s") from exc
    except asyncio.CancelledError:
        _kill_session(process)
        await asyncio.wait({reading})
        raise
    return Completed(process.returncode, stdout, stderr)


def run_foreground(
    argv: Sequence[str],
    *,
    netns: str | int | None = None,
    env: Mapping[str, str],
    stdout: int | None = None,
    files: Mapping[str, str] | None = None,
    hide: Sequence[str] = (),
) -> int:
    """Run `argv` on this terminal until it ends; its exit code, negative for a signal.

    It sees `files` as they are given, and not what is to `hide`: see `mounts.see`.

    What a person types, Ctrl-C included, is the command's to answer: this process waits for it, and
    passes on what others send it. The command does not outlive this process, however that ends.
    Raises Rejected when there is no such command, Unavailable when it cannot be shown the files.
    """

    def prepare() -> None:
        _end_with_parent()
        if files is not None:
            mounts.see(files, hide=hide)

    # A terminal sends Ctrl-C to everybody on it, the command included.
    typed = frozenset((signal.SIGINT, signal.SIGQUIT)) if os.isatty(0) else frozenset[int]()
    with signals_passed_on(heard_anyway=typed) as adopt:
        process = _start(argv, netns, env, stdin=None, stdout=stdout, cwd=None, preexec_fn=prepare)
        adopt(process)
        return process.wait()


def start_daemon(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] = ENVIRONMENT,
    log_path: str | None = None,
    netns: str | int | None = None,
) -> int:
    """Start a process that outlives this one, in a session of its own; its pid.

    It reads nothing and writes to `log_path`, or nowhere. When it ends while this event loop runs
    it is reaped. Raises Rejected when there is no such command.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    output = subprocess.DEVNULL if log_path is None else os.open(log_path, flags, 0o600)
    try:
        process = _start(argv, netns, env, stdout=output, stderr=output, start_new_session=True)
    finally:
        if output != subprocess.DEVNULL:
            os.close(output)
    process.returncode = 0  # reaped by its pid: the object must neither wait for it nor complain
    _reap_at_end(process.pid)
    return process.pid


def is_running(pid: int) -> bool:
    """Whether there is a process `pid`; a zombie is one until it is reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def end(pidfd: int, *, patience_s: float) -> None:
    """The process has ended: it had `patience_s` to go by itself, was then asked, then made to.

    It may be anybody's child. It is named by a pidfd because its number may by now be another's.
    Raises Unavailable when it survives all that.
    """
    try:
        if await _has_ended(pidfd, patience_s):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(pidfd, number)
            if await _has_ended(pidfd, KILL_AFTER_S):
                return
    except ProcessLookupError:  # gone, and reaped by its parent, just before the signal
        return
    raise Unavailable("a process does not end, not even when it is killed")


async def end_found(pid: int, is_it: Callable[[int], bool], *, patience_s: float) -> None:
    """The process that was found by looking at `pid` has ended, as `end` does it.

    Between the look and the grip the number may have become another's: that one is left alone.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if is_it(pid):
            await end(pidfd, patience_s=patience_s)
    finally:
        os.close(pidfd)


def _start(
    argv: Sequence[str],
    netns: str | int | None,
    env: Mapping[str, str],
    *,
    stdin: int | None = subprocess.DEVNULL,
    cwd: str | None = "/",
    **options: Any,
) -> subprocess.Popen[bytes]:
    """A child is born in the netns of the thread that forks it."""
    with hop(netns) if netns is not None else nullcontext():
        try:
            return subprocess.Popen(list(argv), stdin=stdin, cwd=cwd, env=dict(env), **options)
        except OSError as exc:
            raise Rejected(f"{argv[0]} does not start: {exc.strerror}") from exc
        except subprocess.SubprocessError as exc:  # what is done before it starts
            raise Unavailable(f"{argv[0]} cannot have files of its own") from exc


def _reap_at_end(pid: int) -> None:
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(pid)  # cannot miss: nobody else waits for our children

    def reap() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        os.waitpid(pid, 0)

    loop.add_reader(pidfd, reap)


async def _has_ended(pidfd: int, wait_s: float) -> bool:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(wait_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
