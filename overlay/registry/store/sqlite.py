"""The embedded store: one SQLite file in WAL mode, used by one thread of one process.

All commits that wait when the thread comes round share one transaction of the file, and so one
fsync; each keeps a revision of its own. Readers are served between two of them.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from overlay.errors import Rejected, Unavailable
from overlay.registry import store
from overlay.registry.store import Batch, Change, Compacted, Entry, Page, Txn

SCHEMA_VERSION = 1
MAX_GROUP = 256  # commits that share one fsync; bounds how long a reader waits
WATCH_BATCH = 64
BUSY_DEADLINE_S = 1.0  # for another process to let go of the file

# `version` keeps every value since the floor; a NULL value is a deletion. `entry` says which is
# the one that is there.
_SCHEMA = """
CREATE TABLE version (revision INTEGER NOT NULL, key TEXT NOT NULL, value BLOB);
CREATE UNIQUE INDEX version_key ON version (key, revision);
CREATE INDEX version_revision ON version (revision);
CREATE TABLE entry (key TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_ENTRY = (
    "SELECT entry.key, version.value, entry.revision FROM entry JOIN version USING (key, revision) "
)

T = TypeVar("T")


class _Pending:
    """A commit that waits for the thread, then its outcome."""

    __slots__ = ("error", "revision", "txn")

    def __init__(self, txn: Txn) -> None:
        self.txn = txn
        self.revision: int | None = None
        self.error: Exception | None = None


class SqliteStore:
    """`Store` in one file. A second process that opens the file gets Unavailable."""

    def __init__(self, path: Path, *, born: int) -> None:
        self._path = path
        self._born = born
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry store")
        self._pending: deque[_Pending] = deque()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._revision = 0
        self._floor = 0
        self._db: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path, *, born: int) -> Self:
        """The store at `path`, made when absent. Raises Unavailable, or Rejected when damaged.

        A new store counts from `born`, in Unix seconds: no revision of a lost store can be taken
        for one of its successor, because nobody commits more than once a second for years.
        """
        self = cls(path, born=born)
        try:
            await self._run(self._open)
        except BaseException:
            await self.close()
            raise
        return self

    async def get(self, key: str) -> Entry | None:
        def read(db: sqlite3.Connection) -> Entry | None:
            row = db.execute(_ENTRY + "WHERE entry.key = ?", (key,)).fetchone()
            return Entry(*row) if row else None

        return await self._run(read)

    async def range(self, prefix: str, *, limit: int = store.MAX_RANGE, after: str = "") -> Page:
        def read(db: sqlite3.Connection) -> Page:
            rows = db.execute(
                _ENTRY + "WHERE entry.key >= ? AND entry.key > ? AND entry.key < ? "
                "ORDER BY entry.key LIMIT ?",
                (prefix, after, store.prefix_end(prefix), min(limit, store.MAX_RANGE)),
            )
            return Page(self._revision, tuple(Entry(*row) for row in rows))

        return await self._run(read)

    async def commit(self, txn: Txn) -> int | None:
        store.check(txn)
        pending = _Pending(txn)
        self._pending.append(pending)
        # Whichever job runs first takes all that wait; when ours has run, ours is done.
        # Cancelled or not, it runs: a commit that was left waiting would ride on a later one.
        await asyncio.shield(self._run(self._flush))
        if pending.error is not None:
            raise Unavailable(f"{self._path}: {pending.error}") from pending.error
        return pending.revision

    async def watch(self, after: int, *, prefix: str = "") -> AsyncIterator[Batch]:
        while True:
            news = self._news
            batches, reached = await self._run(partial(self._history, after=after, prefix=prefix))
            for batch in batches:
                yield batch
            caught_up = reached == after
            after = reached
            if caught_up:
                await news.wait()

    async def compact(self, revision: int) -> None:
        def forget(db: sqlite3.Connection) -> None:
            upto = min(revision, self._revision)
            if upto <= self._floor:
                return
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(
                    "DELETE FROM version WHERE revision <= ? AND NOT EXISTS (SELECT 1 FROM entry "
                    "WHERE entry.key = version.key AND entry.revision = version.revision)",
                    (upto,),
                )
                db.execute("UPDATE meta SET value = ? WHERE name = 'floor'", (upto,))
            self._floor = upto

        await self._run(forget)

    async def floor(self) -> int:
        return await self._run(lambda _: self._floor)

    async def close(self) -> None:
        with suppress(RuntimeError):  # the thread has ended already
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._with_connection, job
            )
        except (sqlite3.Error, OSError) as exc:
            raise Unavailable(f"{self._path}: {exc}") from exc
        except RuntimeError as exc:
            raise Unavailable(f"{self._path}: the store is closed") from exc

    def _with_connection(self, job: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            if job != self._open:
                raise RuntimeError("closed")
            # The log files that SQLite makes beside it get the same mode.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            # Transactions are begun by hand; WAL with FULL makes every commit durable.
            self._db = sqlite3.connect(
                self._path,
                isolation_level=None,
                check_same_thread=False,
                timeout=BUSY_DEADLINE_S,
            )
        return job(self._db)

    def _open(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise Rejected(
                f"{self._path} was written by a newer version ({version})", remedy="upgrade zos"
            )
        with db:
            db.execute("BEGIN EXCLUSIVE")
            if version == 0:
                for statement in _SCHEMA.strip().split(";\n"):
                    db.execute(statement)
                for name in ("revision", "floor"):
                    db.execute("INSERT INTO meta VALUES (?, ?)", (name, self._born))
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        meta: dict[str, int] = dict(db.execute("SELECT name, value FROM meta").fetchall())
        self._revision, self._floor = meta["revision"], meta["floor"]

    def _flush(self, db: sqlite3.Connection) -> None:
        group = [self._pending.popleft() for _ in range(min(MAX_GROUP, len(self._pending)))]
        if not group:
            return
        reached = self._revision
        try:
            with db:
                db.execute("BEGIN IMMEDIATE")
                for pending in group:
                    pending.revision = _apply(db, pending.txn, reached)
                    reached = max(reached, pending.revision or 0)
                db.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (reached,))
        except sqlite3.Error as exc:
            for pending in group:
                pending.revision, pending.error = None, exc
            return
        self._revision = reached
        # From here and not from the committer, who may have been cancelled meanwhile.
        self._loop.call_soon_threadsafe(self._wake)

    def _history(self, db: sqlite3.Connection, after: int, prefix: str) -> tuple[list[Batch], int]:
        """The next batches after `after`, and up to where history was looked through."""
        if after < self._floor:
            raise Compacted(f"revision {after} is older than {self._floor}", field="from")
        rows = db.execute(
            "SELECT revision, key, value FROM version WHERE revision > ? AND revision <= ? "
            "ORDER BY revision, key",
            (after, last := min(self._revision, after + WATCH_BATCH)),
        )
        found: dict[int, list[Change]] = {}
        for revision, key, value in rows:
            if key.startswith(prefix):
                found.setdefault(revision, []).append(Change(key, value))
        batches = [Batch(revision, tuple(changes)) for revision, changes in found.items()]
        return batches, max(after, last)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _close(self) -> None:
        if self._db is not None:
            while self._pending:
                self._flush(self._db)
            self._db.close()
            self._db = None


def _apply(db: sqlite3.Connection, txn: Txn, reached: int) -> int | None:
    for key, expected in txn.compares:
        row = db.execute("SELECT revision FROM entry WHERE key = ?", (key,)).fetchone()
        if (row[0] if row else 0) != expected:
            return None
    if not txn.puts and not txn.deletes:
        return reached
    revision = reached + 1
    for key, value in txn.puts:
        db.execute("INSERT INTO version VALUES (?, ?, ?)", (revision, key, value))
        db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?)", (key, revision))
    for key in txn.deletes:
        if db.execute("DELETE FROM entry WHERE key = ?", (key,)).rowcount:
            db.execute("INSERT INTO version VALUES (?, ?, NULL)", (revision, key))
    return revision
