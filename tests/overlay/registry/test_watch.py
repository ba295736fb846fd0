"""Streams: what is sent, from where on, to how many, and how they end (REG-050 .. REG-058)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from overlay.errors import Refused, Unavailable
from overlay.peers.registry import Bookmark, Document, RegistryClient, Snapshot, WatchEvent
from overlay.registry import limits
from overlay.registry.serve import Running
from overlay.registry.watchers import Closed, Watchers
from tests.overlay.registry import kit

OWNER = kit.tenant()
NODE = kit.node("a")
NETWORK = kit.network(OWNER, "a")


async def bookmark_of(client: RegistryClient) -> int:
    async with aclosing(client.watch()) as events:
        async for event in events:
            if isinstance(event, Bookmark):
                return event.revision
    raise AssertionError("the stream ended")


async def wait_no_watchers(here: Running) -> None:
    async with asyncio.timeout(20):
        while here.service.watchers.count:  # noqa: ASYNC110 - the registry has no event for it
            await asyncio.sleep(0.01)


async def publish(here: Running, who: kit.Identity, envelope: kit.Envelope) -> int:
    async with kit.client(here, who) as mine:
        return await mine.publish(envelope)


@pytest.mark.parametrize("host", kit.LOOPBACKS)
async def test_what_is_stored_is_sent_at_once(tmp_path: Path, host: str) -> None:  # REG-050
    async with (
        kit.registry(tmp_path) as here,
        kit.client(here, NODE, host=host) as mine,
        aclosing(mine.watch()) as events,
    ):
        assert [type(e) for e in await kit.take(events, 2)] == [Snapshot, Bookmark]
        revision = await publish(here, OWNER, kit.sign(NETWORK, OWNER))
        event = await anext(events)
    key = f"network/{kit.network_id(NETWORK)}"
    envelope = kit.dsse.encode_envelope(kit.sign(NETWORK, OWNER))
    assert event == Document(revision, key, envelope)


async def test_resuming_costs_nothing_when_nothing_changed(tmp_path: Path) -> None:  # REG-032
    async with kit.registry(tmp_path) as here, kit.client(here, NODE) as mine:
        await publish(here, OWNER, kit.sign(NETWORK, OWNER))
        revision = await bookmark_of(mine)
        async with aclosing(mine.watch(revision)) as events:
            assert await anext(events) == Bookmark(revision)


async def test_resuming_gives_what_changed(tmp_path: Path) -> None:
    async with kit.registry(tmp_path) as here, kit.client(here, NODE) as mine:
        await publish(here, OWNER, kit.sign(NETWORK, OWNER))
        revision = await bookmark_of(mine)
        await publish(here, NODE, kit.signed_node("a"))
        await publish(here, OWNER, kit.sign(kit.network(OWNER, name="not-mine"), OWNER))
        async with aclosing(mine.watch(revision)) as events:
            first, second = await kit.take(events, 2)
        assert isinstance(first, Document)
        assert first.key == f"node/{NODE.id}"
        assert isinstance(second, Bookmark)


@pytest.mark.parametrize("offset", [-1, 1])
async def test_a_revision_that_is_not_known_is_answered_by_a_snapshot(
    tmp_path: Path, offset: int
) -> None:  # REG-051
    async with kit.registry(tmp_path) as here, kit.client(here, NODE) as mine:
        await publish(here, OWNER, kit.sign(NETWORK, OWNER))
        last = here.service.directory.revision
        await here.service.compact(last)
        async with aclosing(mine.watch(last)) as events:
            assert await anext(events) == Bookmark(last)
        async with aclosing(mine.watch(last + offset)) as events:
            event = await anext(events)
        assert isinstance(event, Snapshot)
        assert [d.key for d in event.documents] == [f"network/{kit.network_id(NETWORK)}"]


async def test_a_snapshot_of_nothing_is_one(tmp_path: Path) -> None:  # REG-051
    async with kit.registry(tmp_path) as here, kit.client(here, NODE) as mine:
        await publish(here, OWNER, kit.sign(kit.network(OWNER), OWNER))
        assert (await kit.snapshot(mine)).documents == ()


async def test_a_restart_keeps_everything_and_is_resumed_for_nothing(tmp_path: Path) -> None:
    async with kit.registry(tmp_path) as here, kit.client(here, NODE) as mine:  # REG-026
        await publish(here, OWNER, kit.sign(NETWORK, OWNER))
        await publish(here, NODE, kit.signed_member(NETWORK, "a", 1))
        before = await kit.snapshot(mine)
    async with kit.registry(tmp_path) as here, kit.client(here, NODE) as mine:
        assert set((await kit.snapshot(mine)).documents) == set(before.documents)
        async with aclosing(mine.watch(before.revision)) as events:
            assert await anext(events) == Bookmark(before.revision)


async def test_heartbeats_say_how_far_it_is(tmp_path: Path) -> None:  # REG-052
    async with (
        kit.registry(tmp_path, heartbeat_s=0.05) as here,
        kit.client(here, NODE) as mine,
        aclosing(mine.watch()) as events,
    ):
        await kit.take(events, 2)
        revision = await publish(here, OWNER, kit.sign(kit.network(OWNER), OWNER))
        async with asyncio.timeout(10):
            while await anext(events) != Bookmark(revision):
                pass


async def test_a_slow_watcher_is_disconnected(tmp_path: Path) -> None:  # REG-053
    async with kit.registry(tmp_path, max_waiting_lines=3) as here:
        with here.service.watching(OWNER.id, after=None) as watcher:
            watcher.take()
            for version in range(1, 5):
                await publish(here, OWNER, kit.sign(kit.network(OWNER, version=version), OWNER))
                expected = Closed.SLOW if version == 4 else None
                assert watcher.closed is expected
            assert len(watcher) == 3
        assert here.service.watchers.slow == 1


async def test_who_does_not_read_is_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_DEADLINE_S", 0.2)  # REG-053
    async with kit.registry(tmp_path) as here, kit.client(here, OWNER) as mine:
        events = mine.watch()
        await kit.take(events, 2)
        # More than any socket holds, for a reader that stopped.
        here.service.watchers._of[OWNER.id][0].put([b" " * (1 << 20) + b"\n"] * 64)
        await wait_no_watchers(here)
        await events.aclose()


async def test_a_watcher_who_leaves_is_forgotten(tmp_path: Path) -> None:
    async with kit.registry(tmp_path) as here, kit.client(here, NODE) as mine:
        await kit.snapshot(mine)
        await wait_no_watchers(here)


async def test_the_newest_streams_of_a_caller_stay(tmp_path: Path) -> None:  # REG-054
    async with (
        kit.registry(tmp_path, max_watchers_per_caller=2) as here,
        kit.client(here, NODE) as mine,
    ):
        streams = [mine.watch() for _ in range(3)]
        for stream in streams:
            await kit.take(stream, 2)
        with pytest.raises(Unavailable):
            await anext(streams[0])
        await publish(here, NODE, kit.signed_node("a"))
        for stream in streams[1:]:
            assert isinstance(await anext(stream), Document)
        for stream in streams:
            await stream.aclose()


async def test_there_are_so_many_streams(tmp_path: Path) -> None:  # REG-054
    async with (
        kit.registry(tmp_path, max_watchers=1) as here,
        kit.client(here, NODE) as mine,
        kit.client(here, OWNER) as other,
        aclosing(mine.watch()) as events,
    ):
        await anext(events)
        with pytest.raises(Unavailable, match="no more watchers"):
            await anext(other.watch())


async def test_an_invitation_has_no_stream(tmp_path: Path) -> None:
    async with kit.registry(tmp_path) as here, kit.client(here, kit.invite()) as mine:
        with pytest.raises(Refused):
            await anext(mine.watch())


async def test_a_registry_that_stops_says_how_far_it_came(tmp_path: Path) -> None:  # REG-055
    seen: list[WatchEvent] = []
    async with asyncio.TaskGroup() as tasks, kit.registry(tmp_path) as here:
        events = kit.client(here, NODE).watch()
        seen += await kit.take(events, 2)
        revision = await publish(here, OWNER, kit.sign(NETWORK, OWNER))
        tasks.create_task(_collect(events, seen), name="collect")
    assert isinstance(seen[-2], Document)
    assert seen[-1] == Bookmark(revision)


async def _collect(events: AsyncIterator[WatchEvent], seen: list[WatchEvent]) -> None:
    try:
        async for event in events:
            seen.append(event)
    except Unavailable:
        return


async def test_a_request_in_flight_is_answered_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # REG-055
    started, go_on = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks, kit.registry(tmp_path) as here:
        commit = here.service._store.commit

        async def slow(txn: object) -> int | None:
            started.set()
            await go_on.wait()
            return await commit(txn)

        monkeypatch.setattr(here.service._store, "commit", slow)
        put = tasks.create_task(publish(here, NODE, kit.signed_node("a")), name="put")
        await started.wait()
        asyncio.get_running_loop().call_later(0.1, go_on.set)
    assert put.result() > kit.UNIX
    async with kit.registry(tmp_path) as here:
        assert here.service.directory.held(f"node/{NODE.id}") is not None


async def test_a_registry_that_cannot_follow_its_store_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await kit.SqliteStore.open(tmp_path / "registry.db", born=kit.UNIX)

    async def broken(after: int, *, prefix: str = "") -> object:
        raise Unavailable("gone")
        yield  # makes it a generator

    monkeypatch.setattr(store, "watch", broken)
    with pytest.raises(Unavailable, match="gone"):
        async with kit.registry(tmp_path, store=store), asyncio.timeout(10):
            await asyncio.get_running_loop().create_future()


def test_lines_are_shared_and_not_copied() -> None:
    watchers = Watchers()
    ledger = kit.Ledger()
    ledger.publish(kit.sign(NETWORK, OWNER))
    with watchers.watching(OWNER.id) as one, watchers.watching(NODE.id) as two:
        watchers.tell(ledger.deliveries)
        assert one._lines[0] is two._lines[0]
    assert watchers.count == 0
