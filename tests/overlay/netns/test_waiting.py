import asyncio
import threading
import weakref

import pytest

from overlay.errors import Unavailable
from overlay.netns.waiting import Turns, in_thread, side_by_side


async def test_in_thread_leaves_the_loop_to_others() -> None:
    go_on = threading.Event()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(in_thread(go_on.wait, timeout=10), name="waits")
        group.create_task(in_thread(go_on.set), name="frees it")
    assert waiting.result()


async def test_in_thread_raises_what_the_call_raises() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "x")


async def test_cancelling_leaves_no_call_behind() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        go_on.wait(10)
        done.set()

    async def cancelled() -> None:
        with pytest.raises(asyncio.CancelledError):
            await in_thread(call)
        assert done.is_set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(cancelled(), name="cancelled")
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()


async def test_side_by_side_raises_the_first_failure_and_cancels_the_rest() -> None:
    ended: list[str] = []

    async def fail() -> None:
        raise Unavailable("no")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(Unavailable, match="no"):
        await side_by_side(one=wait(), other=fail())
    assert ended == ["cancelled"]


async def test_who_comes_late_waits_behind_who_waits_already() -> None:
    turns, order, freed = Turns(), [], asyncio.Event()

    async def take(name: str) -> None:
        async with turns.of("a"):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")
        freed.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(take("first"), name="first")
        group.create_task(take("second"), name="second")
        await freed.wait()
        group.create_task(take("third"), name="third")
    assert order == [
        f"{name} {way}" for name in ("first", "second", "third") for way in ("in", "out")
    ]


async def test_a_turn_is_forgotten_when_nobody_has_or_awaits_it() -> None:
    turns = Turns()
    async with turns.of("a"):
        held = weakref.ref(turns.of("a"))
    assert held() is None
