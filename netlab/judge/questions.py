"""Questions from anywhere in a lab to its greeters: who is there?

One socket for each netns and family that asks, all in one event loop, so that a whole network may
ask a whole network. See netlab/fleet/greeter.py for the words.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Literal

from netlab.fleet.greeter import (
    ANSWER,
    GREETING_BYTES_MAX,
    NONCE_BYTES,
    PORT,
    QUESTION,
    RECEIVE_BYTES,
)
from netlab.judge.ends import End
from netlab.lab import Lab
from overlay.errors import OverlayError

Version = Literal[4, 6]

MEASURED_MAX = 3  # tries
MEASURED_WITHIN_S = 0.5
# Closed by a reset: nothing of a connection stays behind in the lab.
_AT_ONCE = struct.pack("ii", 1, 0)
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(slots=True, eq=False)
class Question:
    """Asked as often as it takes; `heard` answered last, at `heard_s` of the loop's clock.

    seen_as  the address that the one who asks has where it was answered
    rtt_s    of a question that was asked when all was there; None: that was not measured
    """

    source: End
    address: str
    version: Version
    nonce: bytes = b""
    heard: str = ""
    heard_s: float = 0.0
    seen_as: str = ""
    rtt_s: float | None = None
    is_connecting: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Questions:
    """Everything that is asked in one lab. Close it: its sockets keep netns alive."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[tuple[str, str, Version], socket.socket] = {}
        self._waiting: dict[bytes, Question] = {}
        lab.call_at_end(self.close)

    def ask(self, question: Question) -> None:
        """Send it, once; an answer is noted in it whenever it comes."""
        if not question.nonce:
            question.nonce = len(self._waiting).to_bytes(NONCE_BYTES, "big")
            self._waiting[question.nonce] = question
        # A network that is not there yet refuses at once, and so does a machine without power.
        with contextlib.suppress(OSError, OverlayError):
            sock = self._socket(question.source, question.version)
            sock.sendto(QUESTION + question.nonce, (question.address, PORT))

    async def measure(self, question: Question) -> None:
        """How long an answer takes, of one who has answered before, by UDP.

        A tunnel that takes another way at this moment may lose a question.
        """
        for _ in range(MEASURED_MAX):
            asked_s = self._loop.time()
            question.answered.clear()
            self.ask(question)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MEASURED_WITHIN_S):
                    await question.answered.wait()
                question.rtt_s = question.heard_s - asked_s
                return

    async def connect(self, question: Question, *, timeout_s: float) -> None:
        """The same by TCP: an answer is noted when there is one in time."""
        question.is_connecting = True
        try:
            with self.connection(question.source, question.version) as sock:
                async with asyncio.timeout(timeout_s):
                    await self._loop.sock_connect(sock, (question.address, PORT))
                    self._note(question, await self._greeting(sock))
        except (OSError, OverlayError, TimeoutError):
            return
        finally:
            question.is_connecting = False

    async def _greeting(self, sock: socket.socket) -> bytes:
        """What the other end says first."""
        said = b""
        while not said.endswith(b"\n"):
            more = await self._loop.sock_recv(sock, GREETING_BYTES_MAX + 1)
            if not more:
                break
            said += more
        return said.rstrip(b"\n")

    def connection(self, source: End, version: Version) -> socket.socket:
        """A TCP socket in the netns of one who asks, the caller's to close."""
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        node = self._lab.node(source.at)
        sock = node.socket(_FAMILIES[version], kind, netns=source.netns)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        return sock

    def close(self) -> None:
        """Nobody asks any more."""
        for sock in self._sockets.values():
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()
        self._waiting.clear()

    def _socket(self, source: End, version: Version) -> socket.socket:
        key = (source.at, source.netns, version)
        if key not in self._sockets:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            node = self._lab.node(source.at)
            sock = node.socket(_FAMILIES[version], kind, netns=source.netns)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            self._sockets[key] = sock
            self._loop.add_reader(sock, self._receive, sock)
        return self._sockets[key]

    def _receive(self, sock: socket.socket) -> None:
        while True:
            try:
                said = sock.recv(GREETING_BYTES_MAX + NONCE_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:  # what a router answers; the next question may fare better
                continue
            question = self._waiting.get(said[1 : 1 + NONCE_BYTES])
            if question is not None and said[:1] == ANSWER:
                self._note(question, said[1 + NONCE_BYTES :])

    def _note(self, question: Question, greeting: bytes) -> None:
        if greeting:
            question.heard, _, question.seen_as = greeting.decode(errors="replace").partition(" ")
            question.heard_s = self._loop.time()
            question.answered.set()
