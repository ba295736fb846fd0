"""A relay on real sockets: one UDP port, both families, many datagrams for every time it wakes up.

It runs in the event loop of its process and gives way to others after every batch.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from overlay.errors import Rejected, Unavailable
from overlay.model import Endpoint, WgPublicKey
from overlay.ports import Clock
from overlay.relay import trains
from overlay.relay.fate import Sending
from overlay.relay.limits import STREAM_PARTS, Place, data_rate
from overlay.relay.noise import StaticKey
from overlay.relay.roster import NO_HEIRS, Heirs, Membership
from overlay.relay.table import Bounds, Statistics, Table

BATCH = 64  # looks at one socket before anything else has its turn; some milliseconds
EXPIRE_EVERY_S = 5.0
BUFFER_BYTES = 4 << 20  # a quarter of a second at 100 Mbit/s

_SO_RCVBUFFORCE = 33
_UDP_SEGMENT, _UDP_GRO = 103, 104  # linux/udp.h
_TRAIN_BYTES = 65_535
_CONTROL_BYTES = 64
_INT, _SHORT = struct.Struct("@i"), struct.Struct("@H")

_log = logging.getLogger(__name__)


class Relay:
    """A relay that runs: who may use it can be replaced, and what it did can be looked at."""

    def __init__(
        self,
        table: Table,
        sockets: Sequence[socket.socket],
        clock: Clock,
        on_moved: Callable[[], None],
    ) -> None:
        self._table = table
        self._clock = clock
        self._sockets = {each.family: each for each in sockets}
        self._unsent = 0
        self._on_moved = on_moved
        self._moves = table.moves
        self._streams: dict[Place, Callable[[bytes], None]] = {}
        self._pending: list[Sending] = []

    @property
    def unsent(self) -> int:
        """How many datagrams the system did not take: no way there, or no room."""
        return self._unsent

    def allow(self, membership: Membership, heirs: Heirs = NO_HEIRS) -> None:
        """From now on these may use it; the others stop at once."""
        self._table.allow(membership, heirs)
        self._note_moves()

    def set_rate(self, rate_mbit: int) -> None:
        """From now on each member may send so much data; 0: as much as it likes."""
        self._table.set_rate(data_rate(rate_mbit), self._clock.monotonic())

    def where(self, key: WgPublicKey) -> Place | None:
        """The address from which a registered member is heard."""
        return self._table.where(key)

    def statistics(self) -> Statistics:
        return self._table.statistics()

    def is_heard(self, place: Place) -> bool:
        """Whether a registered member is heard from there."""
        return self._table.is_heard(place)

    def open_stream(self, place: Place, send: Callable[[bytes], None]) -> None:
        """What is for whoever is at `place` goes by `send` from now on."""
        self._streams[place] = send

    def close_stream(self, place: Place) -> None:
        """Nobody is at `place` any more."""
        self._streams.pop(place, None)
        self._table.leave(place)
        self._note_moves()

    def take(self, place: Place, packet: bytes) -> None:
        """A datagram came by a stream. What it leads to is sent soon, with what comes meanwhile."""
        sending = self._table.step(self._clock.monotonic(), place, packet)
        due = self._table.take_due()
        if sending is not None or due:
            if not self._pending:
                asyncio.get_running_loop().call_soon(self._send_pending)
            self._pending += due if sending is None else (sending, *due)
        self._note_moves()

    def receive(self, sock: socket.socket) -> None:
        """Take what waits at a socket, a batch at most, and send on what it leads to."""
        step, now = self._table.step, self._clock.monotonic()
        sendings: list[Sending] = []
        for _ in range(BATCH):
            try:
                train, ancillary, _, source = sock.recvmsg(_TRAIN_BYTES, _CONTROL_BYTES)
            except BlockingIOError:
                break
            except OSError:
                continue  # what the network said about a datagram that was sent before
            size = _INT.unpack(ancillary[0][2])[0] if ancillary else len(train)
            for packet in trains.cut(train, size or 1):
                sending = step(now, source, packet)
                if sending is not None:
                    sendings.append(sending)
        sendings += self._table.take_due()
        for place, cars in trains.join(sendings):
            self._send(place, cars)
        self._note_moves()

    def expire(self) -> None:
        """Forget what has had its time."""
        self._table.expire(self._clock.monotonic())
        self._note_moves()

    def _note_moves(self) -> None:
        if self._table.moves != self._moves:
            self._moves = self._table.moves
            self._on_moved()

    def _send_pending(self) -> None:
        pending, self._pending = self._pending, []
        for place, cars in trains.join(pending):
            self._send(place, cars)

    def _send(self, place: Place, cars: list[bytes]) -> None:
        if len(place) == STREAM_PARTS:
            if (send := self._streams.get(place)) is None:
                self._unsent += len(cars)
            else:
                for packet in cars:
                    send(packet)
            return
        sock = self._sockets[socket.AF_INET if len(place) == 2 else socket.AF_INET6]
        if len(cars) > 1:
            size = _SHORT.pack(len(cars[0]))
            try:
                sock.sendmsg(cars, [(socket.IPPROTO_UDP, _UDP_SEGMENT, size)], 0, place)
            except OSError:
                pass  # a way on which the kernel does not cut: one by one
            else:
                return
        for packet in cars:
            try:
                sock.sendto(packet, place)
            except OSError:
                self._unsent += 1


def open_sockets(
    addresses: Sequence[Endpoint], kind: socket.SocketKind = socket.SOCK_DGRAM
) -> list[socket.socket]:
    """One bound socket for each address, at most one of each family.

    Raises Rejected for two of a family, Unavailable when an address cannot be had.
    """
    families = [each.family for each in addresses]
    if not families or len(set(families)) < len(families):
        raise Rejected(
            "a relay listens on one address of each family",
            field="listen",
            remedy="give one IPv4 address, one IPv6 address, or both",
        )
    opened: list[socket.socket] = []
    try:
        for each in addresses:
            opened.append(_bound(each, kind))
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return opened


@asynccontextmanager
async def running(
    key: StaticKey,
    sockets: Sequence[socket.socket],
    clock: Clock,
    *,
    membership: Membership,
    bounds: Bounds | None = None,
    on_moved: Callable[[], None] = lambda: None,
) -> AsyncIterator[Relay]:
    """A relay serves on these sockets until the block ends; they are closed then.

    `on_moved` is told when a member is heard from elsewhere, or not any more.
    """
    own_ports = frozenset(sock.getsockname()[1] for sock in sockets)
    table = Table(
        key,
        random_bytes=os.urandom,
        now=clock.monotonic(),
        is_own=lambda place: (
            len(place) != STREAM_PARTS and place[1] in own_ports and _is_local(place)
        ),
        bounds=bounds,
    )
    table.allow(membership)
    relay = Relay(table, sockets, clock, on_moved)
    loop = asyncio.get_running_loop()
    try:
        for sock in sockets:
            sock.setblocking(False)
            with suppress(OSError):  # kernels before 5.0 hand over one by one
                sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
            loop.add_reader(sock, relay.receive, sock)
        async with asyncio.TaskGroup() as tasks:
            expiring = tasks.create_task(_expire(relay), name="relay-expiry")
            try:
                yield relay
            finally:
                expiring.cancel()
    finally:
        for sock in sockets:
            loop.remove_reader(sock)
            sock.close()


async def _expire(relay: Relay) -> None:
    while True:
        await asyncio.sleep(EXPIRE_EVERY_S)
        relay.expire()


def _is_local(place: Place) -> bool:
    """Whether an address is of this machine: to itself it would speak from that very address."""
    family = socket.AF_INET if len(place) == 2 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.setblocking(False)
            probe.connect(place)  # of UDP: nothing is sent
            return bool(probe.getsockname()[0] == place[0])
    except OSError:
        return False


def _bound(listen: Endpoint, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET if listen.family == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    except OSError as exc:
        raise Unavailable(f"no socket for {listen}: {exc.strerror}") from exc
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_DGRAM:
            _enlarge(sock)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listen.address, listen.port))
    except OSError as exc:
        sock.close()
        in_use = exc.errno == errno.EADDRINUSE
        remedy = "another program has this port; choose another" if in_use else None
        raise Unavailable(f"cannot listen on {listen}: {exc.strerror}", remedy=remedy) from exc
    return sock


def _enlarge(sock: socket.socket) -> None:
    """Room for what comes while others have their turn; as much as the system allows."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
    except PermissionError:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
