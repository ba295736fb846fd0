"""The supervisor's life: take an order from `zos lab up`, build, answer, end, leave nothing.

The order comes over a pair of sockets that has no name, and `up` hears over it how far the build
is. Until `up` has said that it lets go, its end - however it comes - is the end of the lab.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from contextlib import AsyncExitStack, suppress
from typing import TypeVar

import msgspec

from netlab.fleet.opening import bring_up
from netlab.lab import Lab
from netlab.supervisor import places
from netlab.supervisor.journal import Journal
from netlab.supervisor.order import LET_GO, ORDER_BYTES_MAX, Order, Word
from netlab.supervisor.places import Place
from netlab.supervisor.serve import listening
from netlab.supervisor.session import Session
from netlab.supervisor.starting import ASKERS_WAITING_MAX, serve_starts
from netlab.supervisor.status import Build
from overlay.errors import OverlayError, Unavailable
from zos_core.socket_http import bind, error_of

E = TypeVar("E", bound=Exception)


async def supervise(channel: socket.socket, place: Place, *, lock: int) -> None:
    """Returns when the lab has ended and nothing of it is left but what is to be kept.

    `lock` is that of the place, whose work directory is there.
    """
    reader, writer = await asyncio.open_unix_connection(sock=channel, limit=ORDER_BYTES_MAX)
    try:
        line = await reader.readline()
        if not line:
            return  # `up` has ended before it said anything
        order = msgspec.json.decode(line, type=Order)
        up = Up(reader, writer)
        try:
            await _keep_journal(order, place, up)
        except OverlayError as error:  # of the place: no journal, no sockets
            up.hear(_word_of(error))
    finally:
        places.clear(place, lock)
        writer.close()


async def _keep_journal(order: Order, place: Place, up: Up) -> None:
    try:
        journal = Journal(place.journal)
    except OSError as exc:
        raise _unavailable(exc) from exc
    session = Session(order.topology, place=place, journal=journal)
    session.keeps_workdir = order.keep
    try:
        await _live(session, up)
    finally:
        journal.close()
        if session.keeps_workdir:
            places.keep(place, now=time.time())


class Up:
    """The other end: `zos lab up`, for as long as it holds on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def hear(self, word: Word) -> None:
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(word) + b"\n")

    async def wait_gone(self) -> bool:
        """Whether it let go, rather than ended, which it does with the lab in its hand."""
        with suppress(ConnectionResetError):
            if await self._reader.readline() == LET_GO:
                self._writer.close()
                return True
        return False


async def _live(session: Session, up: Up) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, session.end, f"signal {number}")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(listening(session, session.place.control))
        listener = bind(session.place.starting, kind=socket.SOCK_SEQPACKET)
        stack.enter_context(listener)
        listener.listen(ASKERS_WAITING_MAX)
        async with asyncio.TaskGroup() as tasks:
            holding = _Holding(session, up)
            lab = tasks.create_task(holding.run(), name="lab")
            others = [
                tasks.create_task(_heed(session, up), name="up"),
                tasks.create_task(
                    serve_starts(listener, lambda: session.lab), name="programs for askers"
                ),
            ]
            await session.stopping.wait()
            for task in others if holding.is_leaving else [lab, *others]:
                task.cancel()
        # Those who follow the journal hear the end of it, so that they let go of the socket.
        session.journal.close()


async def _heed(session: Session, up: Up) -> None:
    if not await up.wait_gone():
        session.end("zos lab up has ended")


class _Holding:
    """The lab itself: built, there until this is cancelled or fails, and gone afterwards."""

    def __init__(self, session: Session, up: Up) -> None:
        self.is_leaving = False  # its end is under way, and must not be cut short
        self._session = session
        self._up = up

    async def run(self) -> None:
        try:
            await self._build_and_wait()
        except* OverlayError as group:
            self._fail(_first(group))
        except* OSError as group:  # a full disk, as a rule
            self._fail(_unavailable(_first(group)))

    def _fail(self, error: OverlayError) -> None:
        self._up.hear(_word_of(error))
        self._session.end(f"failed: {error}")

    async def _build_and_wait(self) -> None:
        topology = self._session.topology
        self._note("namespaces", 0, len(topology.nodes))
        async with Lab.create(topology, workdir=self._session.place.workdir) as lab:
            try:
                lab.call_at_end(self._note_end)
                await self._session.note_lab(lab)
                self._note("namespaces", len(topology.nodes), len(topology.nodes))
                await self._fill_and_wait(lab)
            finally:
                self.is_leaving = True

    async def _fill_and_wait(self, lab: Lab) -> None:
        session = self._session
        opening = bring_up(lab, progress=self._note, tell=session.journal.tell)
        async with opening as crew, asyncio.TaskGroup() as tasks:
            session.note_ready(crew)
            self._up.hear(Word(ready_after_s=session.journal.age_s))
            for node in session.topology.nodes:
                if node.role == "node":
                    following = session.zos.follow(lab.node(node.name))
                    tasks.create_task(following, name=f"zos of {node.name}")
            await asyncio.Event().wait()

    def _note(self, phase: str, done: int, total: int) -> None:
        self._session.note_progress(phase, done, total)
        self._up.hear(Word(build=Build(phase, done, total)))

    def _note_end(self) -> None:
        if not self.is_leaving:
            self._session.end("the lab's keeper has ended")


def _word_of(error: OverlayError) -> Word:
    _, body = error_of(error)
    return Word(error=body)


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _first(group: ExceptionGroup[E]) -> E:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first
