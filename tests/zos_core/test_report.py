"""What a node says about itself: health that names what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.node_world import FARMER, OWN, FakeRegistry, World, running
from zos_core.report import Facts, read_status

pytestmark = pytest.mark.blocking  # SQLite and key files

FACTS = Facts(datetime(2026, 1, 1, tzinfo=UTC), "kernel", None, "/var/lib/zos", None)


@pytest.mark.parametrize("farm", [FARMER.id, None])
async def test_a_node_that_waits_for_its_farm_says_what_the_operator_runs(
    tmp_path: Path, farm: str | None
) -> None:
    # NODE-003
    async with running(tmp_path, farm=farm) as node:
        status = await read_status(node.loop, FACTS)
    remedies = [item.remedy for item in status.health if item.code == "farm-waiting"]
    waits = [f"farm operator runs: zos farm add-node FARM {OWN.id}"]
    assert remedies == (waits if farm else [])


async def test_a_node_that_its_farm_lists_waits_for_nobody(tmp_path: Path) -> None:
    registry = FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        registry.send(World().farm(OWN))
        await node.until(lambda: node.loop.farm is not None, "the farm")
        status = await read_status(node.loop, FACTS)
    assert "farm-waiting" not in {item.code for item in status.health}
