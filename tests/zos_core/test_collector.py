from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from zos_core import collector


class Knot:
    """Garbage that the collector alone can find."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_what_is_loaded_in_the_block_is_frozen_and_the_collector_works_again() -> None:
    with collector.spared():
        assert not gc.isenabled()
        gone = weakref.ref(Knot())

    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.collect()
    assert gone() is not None


def test_the_collector_works_again_after_an_import_that_failed() -> None:
    with pytest.raises(ImportError), collector.spared():
        import no_such_module  # noqa: F401

    assert gc.isenabled()


async def test_frozen_garbage_is_found_after_a_while_and_again() -> None:
    found = asyncio.Event()
    with collector.spared():
        first = weakref.ref(Knot(), lambda _: found.set())
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(collector.look_through(after_s=0.01, again_s=0.01))
        await found.wait()
        assert gc.get_freeze_count() > 0

        found.clear()
        second = weakref.ref(Knot(), lambda _: found.set())
        gc.freeze()
        await found.wait()
        looking.cancel()
    assert (first(), second()) == (None, None)
