"""Every kind of NAT with every other: each pair connects, by the way that RFC 4787 lets expect."""

from __future__ import annotations

import pytest

from tests.lab.meeting import meeting
from tests.lab.nat_matrix import ALL_KINDS, BLOCKED, expected, topology, until_as_expected
from tests.lab.scene import measured


def test_what_is_expected_is_what_is_known_of_the_usual_kinds() -> None:
    assert expected("port", "port") == "punched"
    assert expected("symmetric", "restricted") == "punched"
    assert expected("symmetric", "port") == "relayed"
    assert expected("symmetric", "symmetric") == "relayed"
    assert expected("full", BLOCKED) == expected(BLOCKED, BLOCKED) == "relayed over TCP"


@pytest.mark.lab
@pytest.mark.blocking
@pytest.mark.timeout(280)
async def test_every_kind_meets_every_other_by_the_way_that_is_expected(lab):
    # NODE-071, NODE-072, NODE-080
    async with meeting(await lab(topology(ALL_KINDS))) as fleet:
        measured(pairs=dict(await until_as_expected(fleet, ALL_KINDS, within_s=120.0)))
