"""How fast bytes get from one to another: TCP for a second or two, counted where they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from netlab.fleet.greeter import PORT, Greeter
from netlab.judge.questions import Question, Questions

# A bucket that was full at the beginning, and TCP finding its pace, are no rate.
WARM_UP_S = 0.5
WINDOW_S = 1.5
CONNECT_S = 5.0
CHUNK = bytes(64 * 1024)
# What has left but not arrived says nothing, and must not take long to drain.
SEND_BUFFER_BYTES = 256 * 1024


async def measure(questions: Questions, greeter: Greeter, question: Question, name: str) -> float:
    """Bits a second that arrive at `name`; 0.0 when there is no connection."""
    loop = asyncio.get_running_loop()
    try:
        async with _sending(questions, question):
            await asyncio.sleep(WARM_UP_S)
            before, began = greeter.received_bytes(name), loop.time()
            await asyncio.sleep(WINDOW_S)
            arrived, lasted_s = greeter.received_bytes(name) - before, loop.time() - began
    except (OSError, TimeoutError):
        return 0.0
    return arrived * 8 / lasted_s


@contextlib.asynccontextmanager
async def _sending(questions: Questions, question: Question) -> AsyncIterator[None]:
    """Bytes are sent inside the block, as fast as they are taken."""
    loop = asyncio.get_running_loop()
    with questions.connection(question.source, question.version) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        async with asyncio.timeout(CONNECT_S):
            await loop.sock_connect(sock, (question.address, PORT))
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send(sock), name="send bytes")
            yield
            sender.cancel()


async def _send(sock: socket.socket) -> None:
    """Until it is cancelled or the connection breaks."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while True:
            await loop.sock_sendall(sock, CHUNK)
            await asyncio.sleep(0)  # a sendall that never waits would keep everybody else out
