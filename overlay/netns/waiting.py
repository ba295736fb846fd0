"""Wait for several things at once, and in a thread for kernel calls that take their time.

A grace period of the kernel is 10 to 40 ms, in which nobody else's network should stand still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
