"""The registry without HTTP: it follows its store, takes documents and serves streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from overlay.documents.envelope import Envelope
from overlay.documents.trust import Verified
from overlay.errors import Unavailable
from overlay.peers import registry_wire as wire
from overlay.ports import Clock
from overlay.registry import admission
from overlay.registry.admission import Stored
from overlay.registry.directory import Directory
from overlay.registry.store import MAX_RANGE, Entry, Store
from overlay.registry.watchers import Watcher, Watchers

MAX_TRIES = 100  # decisions on one document while others keep changing what it depends on
FOLLOW_DEADLINE_S = 10.0  # for a committed revision to come back through the store's watch
HISTORY = 100_000  # revisions that stay when the store is compacted
COMPACT_EVERY_S = 3_600.0


class Service:
    """What the registry does. `follow` must run as long as it is used."""

    def __init__(self, store: Store, *, clock: Clock, watchers: Watchers) -> None:
        self.directory = Directory()
        self.watchers = watchers
        self.conflicts = 0
        self._store = store
        self._clock = clock
        self._floor = 0
        self._moved = asyncio.Event()

    async def load(self) -> None:
        """Hold what the store holds. Raises Unavailable."""
        entries: list[Entry] = []
        page = await self._store.range("")
        revision = page.revision
        while page.entries:
            entries += page.entries
            if len(page.entries) < MAX_RANGE:
                break
            page = await self._store.range("", after=page.entries[-1].key)
        self._floor = await self._store.floor()
        # Later pages may be newer than the first; what changed since comes again and is the same.
        self.directory.load(entries, revision=revision)

    async def follow(self) -> None:
        """Take every revision of the store and tell the watchers. Ends only with an error."""
        async for batch in self._store.watch(self.directory.revision):
            self.watchers.tell(self.directory.apply(batch))
            self._moved.set()
            self._moved = asyncio.Event()

    async def compact_forever(self) -> None:
        while True:
            await asyncio.sleep(COMPACT_EVERY_S)
            await self.compact(self.directory.revision - HISTORY)

    async def compact(self, revision: int) -> None:
        await self._store.compact(revision)
        self._floor = await self._store.floor()

    async def publish(self, verified: Verified, envelope: Envelope) -> int:
        """The revision at which the document is stored. Raises Refused, Conflict, Unavailable."""
        for _ in range(MAX_TRIES):
            seen = self.directory.revision
            decision = admission.decide(self.directory, verified, envelope, now=self._clock.now())
            if isinstance(decision, Stored):
                return decision.revision
            revision = await self._store.commit(decision)
            if revision is not None:
                await self._wait_until(revision)
                return revision
            # Somebody wrote what this was decided on; look at what they wrote.
            self.conflicts += 1
            await self._wait_until(seen + 1)
        raise Unavailable("too many others change the same; try again")

    async def _wait_until(self, revision: int) -> None:
        try:
            async with asyncio.timeout(FOLLOW_DEADLINE_S):
                while self.directory.revision < revision:
                    await self._moved.wait()
        except TimeoutError as exc:
            raise Unavailable("the store is slow; try again") from exc

    @contextmanager
    def watching(self, caller: str, *, after: int | None) -> Iterator[Watcher]:
        """A stream of all that the caller may see and does not have. Raises Unavailable.

        A revision that the store cannot vouch for, because it is older than its history or newer
        than all it has, is answered by a snapshot.
        """
        with self.watchers.watching(caller) as watcher:
            revision = self.directory.revision
            if after is not None and self._floor <= after <= revision:
                news = self.directory.news(caller, after=after)
            else:
                news = self.directory.news(caller, after=-1)
                watcher.put((wire.snapshot_line(revision, count=len(news)),))
            watcher.put(held.line for held in news)
            watcher.put((wire.bookmark_line(revision),))
            yield watcher
