"""Messages between a lab's owner and its keeper: tuples of plain values, with file descriptors.

They travel over an inherited pair of sockets that has no name, between two processes of the same
interpreter. So marshal is safe here, and it costs the keeper's start nothing.
"""

from __future__ import annotations

import marshal
import struct

from netlab.keeper import bare_socket as socket

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from typing import Any

    Message = tuple[Any, ...]

KEEPER_FD = 3  # the keeper's end of the channel, in the keeper

# What the keeper says unasked, in a message with the number 0.
HELLO = "hello"  # the first message; with the keeper's own pidfd
EXIT = "exit"  # of a process that was started by request: its number and its exit code
OFF = "off"  # of a machine: its name
PUMP = "pump"  # it had ended, and another one has its place: how often so far

# Why a program does not start, as the exit code that a shell has for it.
NOT_EXECUTABLE, NOT_FOUND = 126, 127

# One datagram; a Linux socket takes 212 992 bytes by default.
MESSAGE_BYTES_MAX = 128 * 1024
FDS_MAX = 8
_FD = struct.Struct("=i")


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def encode(message: Message) -> bytes:
    """Raises ValueError for a message that is too long or holds anything but plain values."""
    encoded = marshal.dumps(message)
    if len(encoded) > MESSAGE_BYTES_MAX:
        raise ValueError(f"{len(encoded)} bytes, {MESSAGE_BYTES_MAX} is the most")
    return encoded


def decode(encoded: bytes) -> Message:
    message: Message = marshal.loads(encoded)  # noqa: S302 - see the module's docstring
    return message


def send(channel: socket.socket, encoded: bytes, fds: tuple[int, ...] = ()) -> None:
    packed = b"".join(map(_FD.pack, fds))  # array would do it, and costs the start 2 ms
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)] if fds else []
    channel.sendmsg([encoded], rights)


def receive(channel: socket.socket) -> tuple[Message, list[int]] | None:
    """One message and its descriptors, which are the caller's to close; None at the end."""
    space = socket.CMSG_SPACE(FDS_MAX * _FD.size)
    encoded, ancillary, _, _ = channel.recvmsg(MESSAGE_BYTES_MAX, space, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = payload[: len(payload) - len(payload) % _FD.size]
            fds += (fd for (fd,) in _FD.iter_unpack(whole))
    if not encoded:
        return None
    return decode(encoded), fds
