"""Programs in nodes on the asker's own terminal: descriptors come with the wish, over a socket.

A conversation: one StartRequest with three descriptors, then numbers of signals as long as the
program runs. Answers are {"pid": n} and at last {"exit_code": n}, or {"not_started": a shell's exit
code, "why": ...}, or {"error": ...}. Whoever hangs
up ends the program: it does not outlive the command that it was started with.
"""

from __future__ import annotations

import array
import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from netlab.capture.taps import open_taps
from netlab.lab import Lab
from netlab.not_started import NotStarted
from netlab.process import LabProcess
from netlab.supervisor.status import StartRequest, TapRequest
from overlay.errors import OverlayError, Rejected
from zos_core.socket_http import check_caller, error_of

STANDARD_FDS = 3
MESSAGE_BYTES_MAX = 128 * 1024
ASKERS_WAITING_MAX = 64


async def serve_starts(listener: socket.socket, lab: Callable[[], Lab]) -> None:
    """Until cancelled; then all programs that were started here are killed."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        while True:
            asker, _ = await loop.sock_accept(listener)
            asker.setblocking(False)
            tasks.create_task(_converse(asker, lab), name="program for an asker")


async def _converse(asker: socket.socket, lab: Callable[[], Lab]) -> None:
    with asker:
        try:
            check_caller(asker)
            message, fds = await _receive(asker)
            try:
                if not message:
                    return
                asked = _parse(message)
                if isinstance(asked, TapRequest):
                    await _lend_taps(asker, lab(), asked)
                    return
                process = await _start(lab(), asked, fds)
            finally:
                for fd in fds:
                    os.close(fd)
            await _until_end(asker, process)
        except NotStarted as exc:
            _send(asker, {"not_started": exc.code, "why": exc.message})
        except OverlayError as exc:
            _, body = error_of(exc)
            _send(asker, {"error": msgspec.to_builtins(body)})
        except ConnectionResetError:
            return


def _parse(message: bytes) -> StartRequest | TapRequest:
    try:
        return msgspec.json.decode(message, type=StartRequest | TapRequest)
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise Rejected(f"is no wish to start a program: {exc}") from exc


async def _lend_taps(asker: socket.socket, lab: Lab, asked: TapRequest) -> None:
    """The asker has them from here on, and learns of the lab's end by this conversation's."""
    opened = await open_taps(lab, asked.name)
    try:
        taps = [{"name": tap.name, "about": tap.about} for tap, _ in opened]
        fds = array.array("i", [each.fileno() for _, each in opened])
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)
        asker.sendmsg([msgspec.json.encode({"taps": taps})], [rights])
    finally:
        for _, each in opened:
            each.close()
    await _receive(asker)


async def _start(lab: Lab, asked: StartRequest, fds: list[int]) -> LabProcess:
    if len(fds) != STANDARD_FDS:
        raise Rejected(f"{len(fds)} descriptors came with it, not {STANDARD_FDS}")
    if not asked.argv:
        raise Rejected("which program?", field="argv")
    node = lab.node(asked.node)
    stdin, stdout, stderr = fds
    return await node.start(
        *asked.argv,
        stdio=(stdin, stdout, stderr),
        env=asked.env,
        cwd=asked.cwd,
        netns=asked.netns,
        terminal=asked.terminal,
    )


async def _until_end(asker: socket.socket, process: LabProcess) -> None:
    _send(asker, {"pid": process.pid})
    try:
        async with asyncio.TaskGroup() as tasks:
            passing = tasks.create_task(_pass_signals(asker, process), name="signals")
            code = await process.wait()
            passing.cancel()
        _send(asker, {"exit_code": code})
    finally:
        _signal(process, signal.SIGKILL)


async def _pass_signals(asker: socket.socket, process: LabProcess) -> None:
    """To all that the program has started and that still belongs to it, as a terminal would."""
    while True:
        message, fds = await _receive(asker)
        for fd in fds:
            os.close(fd)
        if not message:
            _signal(process, signal.SIGKILL)
            return
        _signal(process, msgspec.json.decode(message, type=int))


def _signal(process: LabProcess, number: int) -> None:
    # It leads a session and with it a group, whose number is its own.
    if process.returncode is None and process.host_pid > 0:
        with suppress(ProcessLookupError):
            os.killpg(process.host_pid, number)


async def _receive(asker: socket.socket) -> tuple[bytes, list[int]]:
    """One message and its descriptors; empty when the asker has hung up."""
    await _until_readable(asker)
    space = socket.CMSG_SPACE(STANDARD_FDS * array.array("i").itemsize)
    message, ancillary, _, _ = asker.recvmsg(MESSAGE_BYTES_MAX, space, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return message, fds.tolist()


async def _until_readable(asker: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(asker, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(asker)


def _send(asker: socket.socket, answer: dict[str, Any]) -> None:
    with suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
        asker.send(msgspec.json.encode(answer))
