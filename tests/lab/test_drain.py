"""An exit that drains keeps what began at it until its deadline, and gets nothing new."""

from __future__ import annotations

import pytest

from tests.lab.draining import ON_AN_EXIT, drains
from tests.lab.leaving import topology, with_exits

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]


async def test_a_connection_lives_at_an_exit_that_drains_until_its_deadline(lab):
    # EXIT-056, EXIT-060, EXIT-061, EXIT-062
    async with with_exits(await lab(topology(ON_AN_EXIT))) as fleet:
        await drains(fleet, within_s=20)
