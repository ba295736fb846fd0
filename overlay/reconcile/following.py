"""The registry is followed: what it sends is taken, and up to where is kept on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from overlay.errors import Unavailable
from overlay.peers.cache import Cache
from overlay.peers.registry import Bookmark, RegistryClient, Snapshot
from overlay.ports import Clock
from overlay.reconcile.acceptance import Acceptance
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.feed import BATCH_DOCUMENTS, Batch, Feed
from overlay.reconcile.journal import Journal
from overlay.reconcile.publisher import Publisher

log = logging.getLogger(__name__)

DISK_RETRY_S = 2.0
DISK = "disk"  # in the journal, what keeps documents from being stored


class Following:
    """`run` brings what the registry has into `feed`, `take_events` takes it from there.

    `own_keys` are those of documents that the registry should have from us.
    """

    def __init__(
        self,
        documents: Acceptance,
        *,
        cache: Cache,
        clock: Clock,
        random: Callable[[], float],
        publisher: Publisher,
        journal: Journal,
        own_keys: Callable[[], set[str]],
        on_change: Callable[[], None],
    ) -> None:
        self.client: RegistryClient | None = None
        self.feed = Feed(clock=clock, backoff=Backoff(random), resume=lambda: self.revision)
        self._documents = documents
        self._cache = cache
        self._clock = clock
        self._publisher = publisher
        self._journal = journal
        self._own_keys = own_keys
        self._on_change = on_change
        self._has_client = asyncio.Event()
        self._resync = asyncio.Event()
        self._asks_again = False  # for everything; until a snapshot comes no revision counts

    def connect(self, client: RegistryClient) -> None:
        """Use this registry from now on."""
        self.client = client
        self._has_client.set()

    @property
    def revision(self) -> int | None:
        """Up to where the registry has been followed."""
        stored = self._cache.setting(self._revision_name)
        return None if stored is None else int(stored)

    def ask_again(self) -> None:
        """Have the registry send everything."""
        self._cache.drop_setting(self._revision_name)
        self._asks_again = True
        self._resync.set()

    async def run(self) -> None:
        await self._has_client.wait()
        while (client := self.client) is not None:
            connected = partial(self._connected, client)
            async with asyncio.TaskGroup() as group:
                following = group.create_task(
                    self.feed.run(client, on_connected=connected), name="registry stream"
                )
                await self._resync.wait()
                self._resync.clear()
                following.cancel()

    def _connected(self, client: RegistryClient) -> None:
        self._publisher.connect(client)
        self._on_change()

    async def take_events(self) -> None:
        while True:
            for batch in await self.feed.next_batches():
                await self._take_surely(batch)

    async def _take_surely(self, event: Batch) -> None:
        """Nothing that came is forgotten because the disk takes nothing: it is taken again."""
        while True:
            try:
                await self._take_event(event)
            except Unavailable as exc:
                if self._journal.refuse(DISK, exc, now=self._clock.now()):
                    log.error("disk takes nothing", extra={"reason": str(exc)})
                self._on_change()
                await asyncio.sleep(DISK_RETRY_S)
            else:
                self._journal.accept(DISK)
                return

    async def _take_event(self, event: Batch) -> None:
        match event:
            case tuple():
                self._documents.take(event)
            case Snapshot(revision=revision, documents=documents):
                self._asks_again = False
                for start in range(0, len(documents), BATCH_DOCUMENTS):
                    self._documents.take(documents[start : start + BATCH_DOCUMENTS])
                    await asyncio.sleep(0)
                for key in self._own_keys() - {document.key for document in documents}:
                    self._publisher.offer(key)
                self._note_revision(revision)
            case Bookmark(revision=revision):
                self._note_revision(revision)
        self._on_change()

    @property
    def _revision_name(self) -> str:
        return f"revision/{self.client.ref.id}" if self.client else "revision"

    def _note_revision(self, revision: int) -> None:
        if self.revision != revision and not self._asks_again:
            self._cache.set_setting(self._revision_name, str(revision))
