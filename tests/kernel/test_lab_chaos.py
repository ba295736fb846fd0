"""Whatever of a lab is killed at whatever moment: nothing is left, and labs never meet."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_backend

TREE = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 240.0


@pytest.mark.timeout(PATIENCE_S + 30)
@pytest.mark.parametrize(("seed", "moments", "labs"), [(20260, 100, 0), (20261, 0, 20)])
async def test_nothing_is_left_of_labs_killed_at_random(seed: int, moments: int, labs: int) -> None:
    """About 10 s on two cores, most of it the starts of keepers."""  # LAB-227, LAB-228
    argv = ("-m", "tests.kernel.lab_chaos", str(seed), str(moments), str(labs))
    driver = await asyncio.create_subprocess_exec(
        sys.executable, *argv, cwd=TREE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            said, _ = await driver.communicate()
    finally:
        if driver.returncode is None:
            driver.kill()
            await driver.wait()
    assert driver.returncode == 0
    sys.stdout.write(said.decode())  # how long it took, and what was hit
    told = json.loads(said)
    assert told.get("labs", told.get("one: labs")) == moments + labs
