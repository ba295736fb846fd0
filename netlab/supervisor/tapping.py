"""A command's end of a capture: packet sockets that the supervisor opened inside the lab."""

from __future__ import annotations

import array
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from netlab.capture.taps import Heard, Tap, hear
from netlab.keeper.packets import take_missed
from netlab.supervisor.asking import MESSAGE_BYTES_MAX, connect, raised
from netlab.supervisor.places import Place
from netlab.supervisor.status import TapRequest
from overlay.errors import Unavailable
from zos_core.status import ErrorBody

_FDS_MAX = 64


class Tapped:
    """What passes a node, a router or a link. Close it: the sockets keep namespaces alive."""

    def __init__(self, place: Place, name: str) -> None:
        """Raises NotRunning, or what the supervisor answers instead."""
        self._channel = connect(place, place.starting, socket.SOCK_SEQPACKET)
        self._sockets: list[socket.socket] = []
        self._missed: list[int] = []
        try:
            self._channel.send(msgspec.json.encode(TapRequest(name)))
            self.taps = self._receive_taps(place.name)
        except BaseException:
            self.close()
            raise

    def hear(self, *, until: float | None = None, stopping: int = -1) -> Iterator[Heard]:
        """As it passes, until the lab ends, `time.monotonic()` is `until`, or `stopping` is ready.

        `stopping`: a descriptor.
        """
        ends = {self._channel.fileno(), stopping}
        poll = select.poll()
        for fd in (*(ends - {-1}), *(each.fileno() for each in self._sockets)):
            poll.register(fd, select.POLLIN)
        numbers = {each.fileno(): number for number, each in enumerate(self._sockets)}
        while True:
            left_ms = None if until is None else max(0, (until - time.monotonic()) * 1000)
            ready = poll.poll(left_ms)
            for fd, _ in ready:
                if fd in numbers:
                    yield from hear(numbers[fd], self._sockets[numbers[fd]])
            is_over = until is not None and time.monotonic() >= until
            if is_over or ends & dict(ready).keys():
                return

    def missed(self) -> list[int]:
        """Of every tap, how many packets came faster than they were read so far."""
        for number, each in enumerate(self._sockets):
            self._missed[number] += take_missed(each)
        return list(self._missed)

    def close(self) -> None:
        for each in (self._channel, *self._sockets):
            each.close()

    def _receive_taps(self, lab: str) -> list[Tap]:
        space = socket.CMSG_SPACE(_FDS_MAX * array.array("i").itemsize)
        raw, ancillary, _, _ = self._channel.recvmsg(MESSAGE_BYTES_MAX, space)
        fds = array.array("i")
        for _, _, payload in ancillary:
            fds.frombytes(payload)
        self._sockets = [socket.socket(fileno=fd) for fd in fds]
        self._missed = [0] * len(self._sockets)
        if not raw:
            raise Unavailable(f"{lab} has ended")
        word: dict[str, Any] = msgspec.json.decode(raw)
        if "error" in word:
            raise raised(msgspec.convert(word["error"], ErrorBody))
        return [Tap(each["name"], each["about"]) for each in word["taps"]]
