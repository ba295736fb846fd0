"""The registry's stream, for ever: connect, resume, wait longer after every failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Literal

import msgspec

from overlay.errors import OverlayError
from overlay.peers.registry import Bookmark, Document, RegistryClient, Snapshot, WatchEvent
from overlay.ports import Clock
from overlay.reconcile.backoff import Backoff

log = logging.getLogger(__name__)

MAX_WAITING_EVENTS = 1_024
BATCH_DOCUMENTS = 64  # verified, stored and acted on together; others get a turn in between

Batch = tuple[Document, ...] | Bookmark | Snapshot

FeedState = Literal["connected", "connecting", "unreachable", "none"]


class Connection(msgspec.Struct, frozen=True):
    """How we stand with the registry."""

    state: FeedState
    since: datetime
    verified_at: datetime | None = None  # when it last showed that what we hold is current
    error: str | None = None


class Feed:
    """Puts what the registry sends into `events`, where the node's loop takes it from."""

    def __init__(self, *, clock: Clock, backoff: Backoff, resume: Callable[[], int | None]) -> None:
        self._clock = clock
        self._backoff = backoff
        self._resume = resume
        self.events: asyncio.Queue[WatchEvent] = asyncio.Queue(MAX_WAITING_EVENTS)
        self.connection = Connection("none", clock.now())

    async def run(self, client: RegistryClient, *, on_connected: Callable[[], None]) -> None:
        while True:
            self._note("connecting")
            try:
                async for event in client.watch(self._resume()):
                    if self.connection.state != "connected":
                        self._note("connected")
                        log.info("registry connected", extra={"registry": client.ref.origin})
                        self._backoff.reset()
                        on_connected()
                    if isinstance(event, Bookmark | Snapshot):
                        self._note("connected")
                    await self.events.put(event)
            except OverlayError as exc:
                wait_s = self._backoff.next_s()
                if self.connection.state == "connected" or self.connection.error is None:
                    log.warning("registry unreachable", extra={"reason": str(exc)})
                self._note("unreachable", error=str(exc))
                await asyncio.sleep(wait_s)

    async def next_batches(self) -> tuple[Batch, ...]:
        """What is waiting, at least one event; documents that came together, together."""
        events = [await self.events.get()]
        with suppress(asyncio.QueueEmpty):
            while len(events) < BATCH_DOCUMENTS:
                events.append(self.events.get_nowait())
        return tuple(_grouped(events))

    def _note(self, state: FeedState, *, error: str | None = None) -> None:
        known, now = self.connection, self._clock.now()
        if state == "connecting" and known.state == "unreachable":
            return  # a try that has not succeeded changes nothing for anybody
        self.connection = Connection(
            state,
            known.since if known.state == state else now,
            now if state == "connected" else known.verified_at,
            error,
        )


def _grouped(events: Iterable[WatchEvent]) -> Iterator[Batch]:
    """Documents that came together, together."""
    run: list[Document] = []
    for event in events:
        if isinstance(event, Document):
            run.append(event)
            continue
        if run:
            yield tuple(run)
            run = []
        yield event
    if run:
        yield tuple(run)
