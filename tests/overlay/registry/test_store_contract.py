"""What every store promises (REG-020 .. REG-028). A new store is added to STORES."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overlay.errors import Rejected
from overlay.registry import store as stores
from overlay.registry.store import Batch, Change, Compacted, Entry, Store, Txn
from overlay.registry.store.sqlite import SqliteStore

Open = Callable[[Path], Awaitable[Store]]


async def open_sqlite(directory: Path) -> Store:
    return await SqliteStore.open(directory / "store.db", born=1_000)


STORES = {"sqlite": open_sqlite}


@pytest.fixture(params=sorted(STORES))
def open_store(request: pytest.FixtureRequest) -> Open:
    return STORES[request.param]


@pytest.fixture
async def store(open_store: Open, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


async def put(store: Store, key: str, value: bytes, *, expected: int | None = None) -> int | None:
    compares = () if expected is None else ((key, expected),)
    return await store.commit(Txn(compares=compares, puts=((key, value),)))


async def take(store: Store, after: int, count: int, *, prefix: str = "") -> list[Batch]:
    async with asyncio.timeout(10), aclosing(store.watch(after, prefix=prefix)) as batches:
        return [await anext(batches) for _ in range(count)]


async def revision_of(store: Store) -> int:
    return (await store.range("")).revision


async def test_get_gives_what_was_put_with_its_revision(store: Store) -> None:
    revision = await put(store, "a", b"\x00\xff")
    assert revision is not None
    assert await store.get("a") == Entry("a", b"\x00\xff", revision)
    assert await store.get("b") is None


async def test_revisions_only_grow(store: Store) -> None:  # REG-021
    begin = await revision_of(store)
    revisions = [await put(store, key, b"x") for key in "aba"]
    assert revisions == sorted({begin, *revisions} - {begin, None})


@pytest.mark.parametrize("stale", [0, 1])
async def test_commit_changes_nothing_when_a_compare_fails(store: Store, stale: int) -> None:
    revision = await put(store, "a", b"1")  # REG-022
    before = await revision_of(store)
    txn = Txn(compares=(("a", stale),), puts=(("a", b"2"), ("b", b"2")), deletes=("c",))
    assert await store.commit(txn) is None
    assert await store.get("a") == Entry("a", b"1", revision or 0)
    assert await store.get("b") is None
    assert await revision_of(store) == before


async def test_compare_with_zero_holds_for_an_absent_and_a_deleted_key(store: Store) -> None:
    assert await put(store, "a", b"1", expected=0) is not None
    assert await put(store, "a", b"1", expected=0) is None
    await store.commit(Txn(deletes=("a",)))
    assert await put(store, "a", b"2", expected=0) is not None


async def test_one_of_many_racing_commits_wins(store: Store) -> None:  # REG-022
    async with asyncio.TaskGroup() as tasks:
        racing = [
            tasks.create_task(put(store, "a", bytes([n]), expected=0), name=f"put {n}")
            for n in range(50)
        ]
    winners = [n for n, task in enumerate(racing) if task.result() is not None]
    assert len(winners) == 1
    entry = await store.get("a")
    assert entry is not None
    assert entry.value == bytes(winners)


async def test_concurrent_commits_have_revisions_of_their_own(store: Store) -> None:
    async with asyncio.TaskGroup() as tasks:
        all_of = [tasks.create_task(put(store, f"{n}", b"x"), name=f"put {n}") for n in range(50)]
    assert len({task.result() for task in all_of} - {None}) == 50


async def test_writes_of_one_commit_share_a_revision(store: Store) -> None:
    await put(store, "old", b"x")
    begin = await revision_of(store)
    revision = await store.commit(Txn(puts=(("a", b"1"), ("b", b"2")), deletes=("old",)))
    [batch] = await take(store, begin, 1)
    assert batch == Batch(
        revision or 0, (Change("a", b"1"), Change("b", b"2"), Change("old", None))
    )


@pytest.mark.parametrize(
    "txn",
    [
        Txn(puts=(("a", b""), ("a", b""))),
        Txn(puts=(("a", b""),), deletes=("a",)),
        Txn(deletes=tuple(f"{n}" for n in range(stores.MAX_TXN_OPERATIONS + 1))),
    ],
)
async def test_commit_refuses_what_no_store_could_do(store: Store, txn: Txn) -> None:
    with pytest.raises(Rejected):
        await store.commit(txn)


async def test_commit_takes_as_many_operations_as_there_may_be(store: Store) -> None:
    puts = tuple((f"{n}", b"") for n in range(stores.MAX_TXN_OPERATIONS))
    assert await store.commit(Txn(puts=puts)) is not None


async def test_range_pages_through_a_prefix_in_order(store: Store) -> None:  # REG-023
    for key in ("a", "a/1", "a/2", "a/3", "a0", "b"):
        await put(store, key, b"x")
    first = await store.range("a/", limit=2)
    second = await store.range("a/", limit=2, after=first.entries[-1].key)
    assert [e.key for e in (*first.entries, *second.entries)] == ["a/1", "a/2", "a/3"]
    assert (await store.range("a/", after="a/3")).entries == ()


async def test_watch_gives_what_was_before_and_what_comes(store: Store) -> None:  # REG-024
    begin = await revision_of(store)
    first = await put(store, "a", b"1")
    async with asyncio.timeout(10), aclosing(store.watch(begin)) as batches:
        assert await anext(batches) == Batch(first or 0, (Change("a", b"1"),))
        async with asyncio.TaskGroup() as tasks:
            coming = tasks.create_task(anext(batches), name="next batch")
            second = await put(store, "a", b"2")
        assert coming.result() == Batch(second or 0, (Change("a", b"2"),))


async def test_watch_leaves_out_what_is_not_below_the_prefix(store: Store) -> None:
    begin = await revision_of(store)
    await store.commit(Txn(puts=(("a/1", b"1"), ("b/1", b"1"))))
    await put(store, "b/2", b"2")
    await put(store, "a/2", b"2")
    batches = await take(store, begin, 2, prefix="a/")
    assert [c.key for b in batches for c in b.changes] == ["a/1", "a/2"]


async def test_watch_from_before_the_compaction_says_so(store: Store) -> None:  # REG-025
    begin = await revision_of(store)
    revisions = [await put(store, "a", bytes([n])) or 0 for n in range(3)]
    await store.compact(revisions[1])
    assert await store.floor() == revisions[1]
    with pytest.raises(Compacted):
        await take(store, begin, 1)
    assert await take(store, revisions[1], 1) == [Batch(revisions[2], (Change("a", b"\x02"),))]


async def test_compaction_keeps_what_is_there(store: Store) -> None:  # REG-025
    await put(store, "a", b"1")
    await put(store, "gone", b"1")
    await store.commit(Txn(deletes=("gone",)))
    last = await put(store, "b", b"1")
    await store.compact(2**53 - 1)
    await store.compact(0)
    assert [e.key for e in (await store.range("")).entries] == ["a", "b"]
    assert await store.floor() == last


async def test_reopening_finds_everything(open_store: Open, tmp_path: Path) -> None:  # REG-026
    store = await open_store(tmp_path)
    begin = await revision_of(store)
    first = await put(store, "a", b"1")
    second = await put(store, "a", b"2")
    await store.close()
    store = await open_store(tmp_path)
    assert await store.get("a") == Entry("a", b"2", second or 0)
    assert [b.revision for b in await take(store, begin, 2)] == [first, second]
    assert (await put(store, "b", b"1") or 0) > (second or 0)
    await store.close()


async def test_close_can_be_called_twice(store: Store) -> None:
    await store.close()


KEYS = st.sampled_from(["a", "b", "c"])
OPERATIONS = st.lists(
    st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=3)), st.booleans()), max_size=12
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
async def test_watch_rebuilds_the_whole(
    open_store: Open, tmp_path_factory: pytest.TempPathFactory, operations: list[object]
) -> None:
    """Applying every batch to nothing gives what range reads (REG-024)."""
    store = await open_store(tmp_path_factory.mktemp("store"))
    begin = await revision_of(store)
    for key, value, is_stale in operations:
        entry = await store.get(key)
        expected = (entry.mod_revision if entry else 0) + is_stale
        write = {"puts": ((key, value),)} if value is not None else {"deletes": (key,)}
        await store.commit(Txn(compares=((key, expected),), **write))
    await put(store, "end", b"")
    rebuilt: dict[str, bytes] = {}
    async with asyncio.timeout(10), aclosing(store.watch(begin)) as batches:
        while "end" not in rebuilt:
            for change in (await anext(batches)).changes:
                if change.value is None:
                    rebuilt.pop(change.key, None)
                else:
                    rebuilt[change.key] = change.value
    assert rebuilt == {e.key: e.value for e in (await store.range("")).entries}
    await store.close()
