"""An uplink that is a VLAN: the kernel that others are tested on makes none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from overlay.netns import namespaces
from tests.kernel.egress_world import (
    GATEWAY,
    HOST,
    UPLINK,
    WAN,
    World,
    opened,
    stands_and_goes,
)
from tests.real_machine import RealMachine, run

pytestmark = pytest.mark.vm

NUMBER = 100
VLAN = msgspec.structs.replace(UPLINK, kind="vlan", vlan=NUMBER)


@pytest.fixture
async def world(machine: RealMachine) -> AsyncIterator[World]:
    """The operator's LAN is VLAN 100 of the cable; nobody has its addresses without a tag."""
    async with opened(machine) as world:
        wan = namespaces.pin_path(WAN)
        for command in (
            f"ip link add tagged link eth0 up type vlan id {NUMBER}",
            "ip addr flush dev eth0 scope global",
            f"ip addr add {GATEWAY[4]}/24 dev tagged",
            f"ip addr add {GATEWAY[6]}/64 dev tagged nodad",
        ):
            assert (await run(command, netns=wan)).code == 0, command
        yield world


async def test_by_a_vlan_nothing_of_the_node_changes(world: World) -> None:  # EXIT-002, EXIT-031
    await stands_and_goes(world, VLAN)


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
async def test_guards_hold_on_a_vlan(world: World, family: int) -> None:  # EXIT-020
    await world.converge(uplink=VLAN)
    assert await world.reaches(HOST[family])
    await world.is_refused(GATEWAY[family], "refused_guard")


async def test_another_number_is_another_uplink(world: World) -> None:  # EXIT-002, EXIT-032
    await world.converge(uplink=VLAN)
    assert await world.converge(uplink=msgspec.structs.replace(VLAN, vlan=NUMBER + 1))
    assert await world.converge(uplink=msgspec.structs.replace(VLAN, vlan=NUMBER + 1)) == ()
    await world.converge(uplink=VLAN)
    assert await world.reaches(HOST[4])
