"""From a member through WireGuard, the exit's tenant netns and its egress netns to the internet.

Node a is a client that sends everything to b, which is the exit (EXIT-033, EXIT-034).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from overlay.addressing import address_of
from overlay.exitnode.egress import EGRESS_NETNS
from overlay.netns import namespaces
from overlay.netns.nft import Nftables
from tests.kernel.exit_world import HOST, LAN, OWN, World, open_world
from tests.real_machine import RealMachine

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])


@pytest.fixture
async def world(machine: RealMachine) -> AsyncIterator[World]:
    async with open_world(machine) as world:
        yield world


@FAMILIES
async def test_a_member_reaches_the_internet_through_the_exit(
    world: World, family: int
) -> None:  # EXIT-034
    client = world.client
    source = address_of(client.gateway_v4 if family == 4 else client.gateway_v6)
    there = world.path(client)
    assert await world.reaches(there, HOST[family], source=source) == OWN[family]
    # So do workloads on the exit's own node.
    assert await world.reaches(world.workload.netns, HOST[family]) == OWN[family]


@FAMILIES
async def test_the_guards_of_the_exit_hold_for_its_workloads(
    world: World, family: int
) -> None:  # EXIT-020
    egress = namespaces.pin_path(EGRESS_NETNS)
    await world.is_refused(
        world.workload.netns, LAN[family], lambda: Nftables().refusals(egress)["refused_guard"]
    )


@FAMILIES
async def test_a_node_that_is_no_exit_lets_nobody_out(
    world: World, family: int
) -> None:  # EXIT-034
    await world.converge_exit(is_exit=False)
    tenant = world.path(world.exit)
    await world.is_refused(
        world.workload.netns, HOST[family], lambda: Nftables().refusals(tenant)["refused_forward"]
    )


async def test_the_leg_is_no_drift_of_the_resource_nor_a_stranger_in_it(
    world: World,
) -> None:  # EXIT-033
    report = await world.converge_exit()
    assert report.changes == ()
    assert report.actual.foreign == frozenset()
    assert await world.converge_egress() == ()
