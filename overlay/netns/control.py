"""The control sockets of wireguard-go processes: one request, one reply.

A connection is kept from one exchange to the next. Connecting costs three times the exchange
itself, because each of connecting, asking and closing wakes the other process.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from pathlib import Path

from overlay.errors import Unavailable
from overlay.netns import uapi_codec

SOCKET_DIR = Path("/var/run/wireguard")  # compiled into wireguard-go
EXCHANGE_TIMEOUT_S = 20.0
MAX_REPLY_BYTES = 256 * 1024 * 1024  # 65 536 peers need 40 MiB

_RECEIVE_BYTES = 256 * 1024
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Controls:
    """Connections by birth name, at most one kept for each."""

    def __init__(self) -> None:
        self._kept: dict[str, socket.socket] = {}

    def close(self) -> None:
        while self._kept:
            self._kept.popitem()[1].close()

    def forget(self, birth_name: str) -> None:
        """No connection to the process of that name is kept."""
        if (control := self._kept.pop(birth_name, None)) is not None:
            control.close()

    async def find_process(self, birth_name: str) -> int | None:
        """Who listens now, whoever listened before; None when nobody does."""
        self.forget(birth_name)
        try:
            control = await _connect(birth_name)
        except (FileNotFoundError, ConnectionError):
            return None
        self._keep(birth_name, control)
        credentials = control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(credentials)[0])

    async def exchange(self, birth_name: str, request: bytes) -> bytes | None:
        """What the process answers; None when there is none, or none any more.

        A request whose kept connection ends before the reply is whole is made once more. Raises
        Unavailable when the answer is too late or too large.
        """
        try:
            async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
                if (kept := self._kept.pop(birth_name, None)) is not None:
                    # Another process may have the name now, or this one closes after each reply.
                    with suppress(ConnectionError):
                        _refuse_leftovers(kept)
                        return await self._ask(birth_name, kept, request)
                    kept.close()
                return await self._ask(birth_name, await _connect(birth_name), request)
        except (FileNotFoundError, ConnectionError):
            return None
        except (OSError, TimeoutError) as exc:
            raise Unavailable(f"wireguard-go {birth_name} does not answer") from exc

    async def _ask(self, birth_name: str, control: socket.socket, request: bytes) -> bytes:
        """The reply. The connection is kept only when nothing is outstanding on it."""
        try:
            await asyncio.get_running_loop().sock_sendall(control, request)
            reply = await _receive(control)
        except BaseException:
            control.close()
            raise
        self._keep(birth_name, control)
        return reply

    def _keep(self, birth_name: str, control: socket.socket) -> None:
        self.forget(birth_name)  # of another exchange, at the same time
        self._kept[birth_name] = control


def socket_path(birth_name: str) -> Path:
    return SOCKET_DIR / f"{birth_name}.sock"


async def _connect(birth_name: str) -> socket.socket:
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        control.setblocking(False)
        await asyncio.get_running_loop().sock_connect(control, str(socket_path(birth_name)))
    except BaseException:
        control.close()
        raise
    return control


def _refuse_leftovers(control: socket.socket) -> None:
    """Raise ConnectionError unless the next bytes to come are those of the next reply."""
    with suppress(BlockingIOError):
        control.recv(1)
        raise ConnectionError("ended, or said more than was asked")


async def _receive(control: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    size, tail = 0, b""
    while tail != uapi_codec.REPLY_END:
        part = await loop.sock_recv(control, _RECEIVE_BYTES)
        if not part:
            raise ConnectionError("the process ended in the middle of its reply")
        parts.append(part)
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise Unavailable(f"wireguard-go answers more than {MAX_REPLY_BYTES} bytes")
        tail = (tail + part[-2:])[-2:]
    return b"".join(parts)
