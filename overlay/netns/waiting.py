"""Wait for several things at once, for one's turn, and in a thread for kernel calls that take time.

A grace period of the kernel is 10 to 40 ms, in which nobody else's network should stand still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

P = ParamSpec("P")
T = TypeVar("T")


class Turns:
    """A lock for each name, all the time that somebody holds or awaits it.

    Taken out by hand at the end of what it was for, it would let in a newcomer with a lock of its
    own beside one who still waits for this one.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str | None, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str | None) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `call` returns or raises. Whoever is cancelled still waits for its end: the next pass
    must not meet a call that this one left behind."""
    future = asyncio.get_running_loop().run_in_executor(None, partial(call, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise


async def side_by_side(**named: Coroutine[Any, Any, None]) -> None:
    """All of them have ended. The first that fails cancels the others, and is what is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for name, coroutine in named.items():
                group.create_task(coroutine, name=name)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
