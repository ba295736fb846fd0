"""What a node knows, on its disk: verified envelopes, version floors, ports, attachments.

One SQLite file, so that a document and its floor are written in one transaction. It is never
replaced silently, because it holds the floors: without them a replayed document would be news.
Calls are short and block; whoever has an event loop batches the writes of one batch of events.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from overlay.documents.trust import Floor
from overlay.errors import Refused, Rejected, Unavailable

FILE_MODE: Final = 0o600
SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x7A6F736E  # "zosn"
MAX_DOCUMENTS: Final = 262_144
MAX_ATTACHMENTS: Final = 16_384
BUSY_TIMEOUT_S: Final = 5.0

# Documents have rowids: a new one is appended. Sorted in among neighbours of its size, it would
# split a page again and again, which takes twice the room and a third more of our time.
_TABLES = """
CREATE TABLE documents (key TEXT PRIMARY KEY, envelope BLOB NOT NULL);
CREATE TABLE floors (key TEXT PRIMARY KEY, version INTEGER NOT NULL, digest BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE ports (network TEXT PRIMARY KEY, port INTEGER NOT NULL UNIQUE) WITHOUT ROWID;
CREATE TABLE attachments (
    network TEXT NOT NULL, name TEXT NOT NULL, netns TEXT NOT NULL, link TEXT NOT NULL,
    host INTEGER NOT NULL, PRIMARY KEY (network, name), UNIQUE (network, host)
) WITHOUT ROWID;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class StoredAttachment(msgspec.Struct, frozen=True):
    """A workload that was attached: which host of the subnet it has, and where it is."""

    network: str
    name: str
    netns: str
    link: str
    host: int


class Cache:
    """The database. `with cache.batch():` makes one durable transaction of everything inside."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._path = path
        self._depth = 0
        self._documents = self._count("documents")  # counting again costs a walk over all of them

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """All writes inside, or none, are on disk when the block ends. Blocks may nest."""
        if self._depth:
            yield
            return
        with _explained(self._path):
            self._db.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
        except BaseException:
            self._depth = 0
            self._roll_back()
            raise
        self._depth = 0
        with _explained(self._path):
            self._commit()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        """What SQLite may have done by itself, where the disk takes nothing."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._documents = self._count("documents")

    def floor(self, key: str) -> Floor | None:
        """The newest version of a document that was ever accepted."""
        row = self._one("SELECT version, digest FROM floors WHERE key = ?", key)
        return None if row is None else Floor(row[0], row[1])

    def accept(self, key: str, *, floor: Floor, envelope: bytes) -> None:
        """Keep a document that is news, and the floor under it. Before anything acts on it."""
        is_new = self._one("SELECT 1 FROM documents WHERE key = ?", key) is None
        if is_new and self._documents >= MAX_DOCUMENTS:
            raise Refused(
                f"more than {MAX_DOCUMENTS} documents on this node",
                remedy="remove the node from networks that it need not be in",
            )
        with self.batch():
            self._write("INSERT OR REPLACE INTO documents VALUES (?, ?)", key, envelope)
            self._documents += is_new
            self.raise_floor(key, floor)

    def raise_floor(self, key: str, floor: Floor) -> None:
        """Never again accept less than `floor`. A lower one changes nothing."""
        self._write(
            "INSERT INTO floors VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
            " version = excluded.version, digest = excluded.digest"
            " WHERE excluded.version > version",
            key,
            floor.version,
            floor.digest,
        )

    def envelope(self, key: str) -> bytes | None:
        row = self._one("SELECT envelope FROM documents WHERE key = ?", key)
        return None if row is None else bytes(row[0])

    def envelopes(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Key and envelope of the documents whose key starts so, in the order of their keys."""
        # "0" follows "/" in ASCII, and keys are ASCII.
        end = prefix[:-1] + "0"
        statement = "SELECT key, envelope FROM documents WHERE key >= ? AND key < ? ORDER BY key"
        with _explained(self._path):
            yield from self._db.execute(statement, (prefix, end))

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Keys of the documents whose key starts so, sorted."""
        statement = "SELECT key FROM documents WHERE key >= ? AND key < ? ORDER BY key"
        return tuple(row[0] for row in self._rows(statement, prefix, prefix[:-1] + "0"))

    def forget(self, key: str) -> None:
        """Drop the document; its floor stays, so that it can't come back older."""
        self._documents -= self._write("DELETE FROM documents WHERE key = ?", key)

    def forget_below(self, prefix: str) -> None:
        """Drop all documents whose key starts so; their floors stay."""
        self._documents -= self._write(
            "DELETE FROM documents WHERE key >= ? AND key < ?", prefix, prefix[:-1] + "0"
        )

    def ports(self) -> dict[str, int]:
        """Listen ports by network id."""
        return dict(self._rows("SELECT network, port FROM ports"))

    def set_port(self, network: str, port: int) -> None:
        self._write("INSERT OR REPLACE INTO ports VALUES (?, ?)", network, port)

    def free_port(self, network: str) -> None:
        self._write("DELETE FROM ports WHERE network = ?", network)

    def attachments(self, network: str) -> tuple[StoredAttachment, ...]:
        rows = self._rows(
            "SELECT network, name, netns, link, host FROM attachments WHERE network = ?"
            " ORDER BY host",
            network,
        )
        return tuple(StoredAttachment(*row) for row in rows)

    def put_attachment(self, attachment: StoredAttachment) -> None:
        if self._count("attachments") >= MAX_ATTACHMENTS:
            raise Refused(f"more than {MAX_ATTACHMENTS} workloads on this node")
        row = msgspec.structs.astuple(attachment)
        self._write("INSERT OR REPLACE INTO attachments VALUES (?, ?, ?, ?, ?)", *row)

    def drop_attachment(self, network: str, name: str) -> None:
        self._write("DELETE FROM attachments WHERE network = ? AND name = ?", network, name)

    def drop_attachments(self, network: str) -> None:
        self._write("DELETE FROM attachments WHERE network = ?", network)

    def setting(self, name: str) -> str | None:
        row = self._one("SELECT value FROM settings WHERE name = ?", name)
        return None if row is None else str(row[0])

    def set_setting(self, name: str, value: str) -> None:
        self._write("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)

    def drop_setting(self, name: str) -> None:
        self._write("DELETE FROM settings WHERE name = ?", name)

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        with _explained(self._path):
            row: tuple[Any, ...] | None = self._db.execute(statement, values).fetchone()
            return row

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with _explained(self._path):
            return self._db.execute(statement, values).fetchall()

    def _count(self, table: str) -> int:
        with _explained(self._path):
            # The name is one of ours; a table cannot be a parameter.
            found = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        return int(found[0])

    def _write(self, statement: str, *values: object) -> int:
        """How many rows the statement touched."""
        with self.batch(), _explained(self._path):
            return self._db.execute(statement, values).rowcount


def open_cache(path: Path) -> Cache:
    """The database at `path`, made when there is none. Raises Rejected when it is damaged."""
    is_new = not path.exists()
    _create_private(path)
    with _explained(path):
        # Statements outside of a batch are their own transactions; we begin them ourselves.
        db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(db, path, is_new=is_new)
        except BaseException:
            db.close()
            raise
    return Cache(db, path)


def _prepare(db: sqlite3.Connection, path: Path, *, is_new: bool) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -512")  # KiB; documents are read once, at start
    db.execute("PRAGMA journal_size_limit = 4194304")
    if is_new or _is_empty(db):
        db.executescript(
            f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    elif db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise _damaged(path, "quick_check failed")
    application, version = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application != APPLICATION_ID:
        raise _damaged(path, "it is another program's database")
    if version != SCHEMA_VERSION:
        raise Rejected(
            f"{path} has format {version}, this version of zos reads {SCHEMA_VERSION}",
            remedy="install the version of zos that wrote it, or a newer one",
        )


def _is_empty(db: sqlite3.Connection) -> bool:
    """A file born by a start that died before the tables were there."""
    return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


def _create_private(path: Path) -> None:
    """The file is there, readable by nobody else. SQLite gives its WAL the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE))
        found = path.stat()
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}", remedy="check the state directory") from exc
    if found.st_mode & 0o077:
        raise Refused(f"{path} is open to others", remedy=f"chmod 600 {path}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what SQLite says into our errors: damage is never mistaken for an outage."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise Unavailable(f"{path}: {exc}", remedy="check space and permissions there") from exc
    except sqlite3.DatabaseError as exc:
        raise _damaged(path, str(exc)) from exc


def _damaged(path: Path, why: str) -> Rejected:
    return Rejected(
        f"{path} is damaged: {why}",
        remedy=f"restore it from a backup; or stop the node, move it away (mv {path}* /root/) and"
        " start again: the node then believes older documents until newer ones reach it",
    )


def lowest_free(taken: Iterable[int], *, first: int, last: int) -> int | None:
    """The lowest number from `first` to `last` that is not taken; None when all are."""
    used = set(taken)
    return next((n for n in range(first, last + 1) if n not in used), None)
