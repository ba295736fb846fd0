"""The owner's end of a lab that ends before its keeper has said a word."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netlab.leaks import observe_footprint
from netlab.owner import Owner

# Far more than it takes: it ends a hang and measures nothing.
PATIENCE_S = 20.0


@pytest.mark.parametrize("moment_s", [0.0, 0.01, 0.03, 0.06, 0.1])
async def test_a_keeper_ends_at_any_moment_of_its_start(tmp_path: Path, moment_s: float) -> None:
    """LAB-020"""
    before = observe_footprint()
    owner = Owner(log=tmp_path / "keeper.log")
    await asyncio.sleep(moment_s)
    async with asyncio.timeout(PATIENCE_S):
        await owner.end()
    assert not owner.is_alive
    assert observe_footprint().difference(before) == []
