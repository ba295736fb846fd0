"""The garbage collector of a process that loads much at its start and keeps nearly all of it.

To look through all that was loaded takes a tenth of a node's start, and finds next to nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SETTLED_S = 60.0  # after so long a start is over
AGAIN_S = 3600.0  # how long what is frozen may be garbage


@contextmanager
def spared() -> Iterator[None]:
    """What is loaded in the block is not looked through before `look_through` does it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def look_through(*, after_s: float = SETTLED_S, again_s: float = AGAIN_S) -> None:
    """Collect everything once a start is over, and then rarely; what is left is frozen again.

    That holds up everybody for a moment, the longer the more there is. Ends when cancelled.
    """
    import asyncio

    while True:
        await asyncio.sleep(after_s)
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        after_s = again_s
