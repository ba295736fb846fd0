"""Labs for tests: built on request, gone after the test, and proven to be gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from netlab.lab import Lab
from netlab.leaks import observe_footprint
from netlab.topology import Topology
from tests.lab.scene import faults


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Callable[[Topology], Awaitable[Lab]]]:
    """`await lab(topology)` gives a running lab; several may run side by side in one test."""
    before = observe_footprint()
    async with AsyncExitStack() as stack:
        count = 0

        async def build(topology: Topology) -> Lab:
            nonlocal count
            count += 1
            workdir = tmp_path / f"lab{count}"
            return await stack.enter_async_context(Lab.create(topology, workdir=workdir))

        yield build
    assert observe_footprint().difference(before) == []
    assert faults(tmp_path) == []
