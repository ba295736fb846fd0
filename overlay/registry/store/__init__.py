"""What the registry asks of a store: keys with revisions, transactions, watch, compaction.

The promises are those that both a local file and an etcd cluster can keep. `contract tests` in
tests/overlay/registry hold every implementation to them (specs REG-020 .. REG-029).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from overlay.errors import Rejected

MAX_TXN_OPERATIONS = 64  # etcd takes 128 in one transaction (--max-txn-ops)
MAX_RANGE = 1_000


class Entry(msgspec.Struct, frozen=True):
    key: str
    value: bytes
    mod_revision: int  # the revision that last wrote it


class Page(msgspec.Struct, frozen=True):
    """Entries in the order of their keys, as they were at `revision`."""

    revision: int
    entries: tuple[Entry, ...]


class Txn(msgspec.Struct, frozen=True):
    """Writes that happen all together, and only if every compared key is as it was read.

    A compare names the revision that last wrote the key, 0 for a key that is not there. No key
    is written twice in one transaction.
    """

    compares: tuple[tuple[str, int], ...] = ()
    puts: tuple[tuple[str, bytes], ...] = ()
    deletes: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True):
    key: str
    value: bytes | None  # None: deleted


class Batch(msgspec.Struct, frozen=True):
    """All that one revision changed under the watched prefix."""

    revision: int
    changes: tuple[Change, ...]


class Compacted(Rejected):
    """The history asked for is gone: read everything again, then watch from there."""


class Store(Protocol):
    """Raises Unavailable from everything when the store does not answer."""

    async def get(self, key: str) -> Entry | None: ...

    async def range(self, prefix: str, *, limit: int = MAX_RANGE, after: str = "") -> Page:
        """Up to `limit` entries below `prefix` whose keys are greater than `after`.

        One page is of one revision; the next page may be of a later one. Whoever wants a
        consistent whole watches from the first page's revision.
        """

    async def commit(self, txn: Txn) -> int | None:
        """The revision of the writes, durable; None when a compare failed and nothing happened.

        A transaction without writes changes nothing and gives the revision it saw. When the
        caller is cancelled, the writes may happen or not.
        """

    def watch(self, after: int, *, prefix: str = "") -> AsyncIterator[Batch]:
        """Every revision greater than `after` that changed something, in order, without end.

        Raises Compacted when some of them are no longer there.
        """

    async def compact(self, revision: int) -> None:
        """Forget values that were replaced or deleted up to `revision`. What is there stays."""

    async def floor(self) -> int:
        """The least revision that can be watched from."""

    async def close(self) -> None:
        """Commits that were started are finished. Idempotent."""


def prefix_end(prefix: str) -> str:
    """The least key greater than every key below `prefix` (etcd's range_end)."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\U0010ffff"


def check(txn: Txn) -> None:
    """Raise Rejected for a transaction that not every store could take."""
    written = [*(key for key, _ in txn.puts), *txn.deletes]
    if len(set(written)) != len(written):
        raise Rejected("a key is written twice in one transaction", field="txn")
    if len(written) > MAX_TXN_OPERATIONS or len(txn.compares) > MAX_TXN_OPERATIONS:
        raise Rejected(f"more than {MAX_TXN_OPERATIONS} operations", field="txn")
