"""What the embedded store promises beyond the contract: durability, one process, its file."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from overlay.errors import Rejected, Unavailable
from overlay.registry.store import Txn
from overlay.registry.store.sqlite import SCHEMA_VERSION, SqliteStore

WRITER = """
import asyncio, sys
from pathlib import Path
from overlay.registry.store import Txn
from overlay.registry.store.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]), born=1)
    async def write(n):
        await store.commit(Txn(puts=((f"{n:06}", b"x" * 100),)))
        print(n, flush=True)
    for begin in range(0, 100_000, 8):
        await asyncio.gather(*(write(n) for n in range(begin, begin + 8)))

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:  # REG-026
    path = tmp_path / "store.db"
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    acknowledged = [int(await writer.stdout.readline()) for _ in range(100)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in (await writer.stdout.read()).splitlines(True) if line]
    await writer.wait()

    store = await SqliteStore.open(path, born=1)
    for n in acknowledged:
        assert await store.get(f"{n:06}") is not None
    assert await store.commit(Txn(puts=(("after", b""),))) is not None
    await store.close()


async def test_a_second_user_of_the_file_is_told(tmp_path: Path) -> None:  # REG-027
    store = await SqliteStore.open(tmp_path / "store.db", born=1)
    await store.commit(Txn(puts=(("a", b""),)))
    with pytest.raises(Unavailable, match="locked"):
        await SqliteStore.open(tmp_path / "store.db", born=1)
    await store.close()


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", born=1)
    await store.commit(Txn(puts=(("a", b""),)))
    assert set(_modes(tmp_path)) == {0o600}
    await store.close()


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(Rejected, match="newer"):
        await SqliteStore.open(path, born=1)
    # Journal mode aside, which is two bytes of the header (SQLite file format, offset 18).
    assert path.read_bytes()[100:] == before[100:]


async def test_a_damaged_file_is_an_error_and_not_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(Unavailable):
        await SqliteStore.open(path, born=1)
    assert path.read_bytes().startswith(b"not a database")


async def test_a_new_store_begins_after_one_that_was_lost(tmp_path: Path) -> None:  # REG-028
    lost = await SqliteStore.open(tmp_path / "lost.db", born=1_000)
    for n in range(10):
        await lost.commit(Txn(puts=((f"{n}", b""),)))
    last = (await lost.range("")).revision
    await lost.close()
    new = await SqliteStore.open(tmp_path / "new.db", born=2_000)
    assert await new.floor() > last
    await new.close()


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", born=1)
    await store.close()
    with pytest.raises(Unavailable, match="closed"):
        await store.get("a")


async def test_a_cancelled_committer_leaves_watchers_awake(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", born=1)
    async with asyncio.timeout(10):
        watching = store.watch((await store.range("")).revision)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(anext(watching), name="first")
            await store.get("a")
            commit = tasks.create_task(store.commit(Txn(puts=(("a", b""),))), name="commit")
            await asyncio.sleep(0)
            commit.cancel()
        assert first.result().changes[0].key == "a"
    await store.close()


def _modes(directory: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()]
