import asyncio
from typing import Any

import pytest

from overlay.errors import Unavailable
from overlay.netns.apply import apply, split_birth
from overlay.netns.changes import CreateDevice, CreateNetns, LoadFirewall, MoveDevice
from overlay.netns.converge import Configurator
from overlay.netns.ports import Shell
from tests.convergence import NETNS, FixedClock, Goal, network_resource
from tests.property.test_convergence import Fake

GOAL = Goal(True, 0, network_resource(), (), (), ())


async def test_birth_waits_for_nothing_inside_the_netns() -> None:
    machine = Fake()
    plan = await Configurator(machine.shell, clock=FixedClock()).plan(GOAL.on(machine))
    inside, birth, rest = split_birth(plan)
    assert (*inside, *birth, *rest) == plan
    assert {type(change) for change in inside} == {CreateNetns, LoadFirewall}
    assert type(birth[0]) is CreateDevice
    assert type(rest[0]) is MoveDevice


async def test_a_plan_without_a_birth_is_kept_in_its_order() -> None:
    plan = (LoadFirewall(NETNS, ""),)
    assert split_birth(plan) == ((), (), plan)


async def test_apply_loads_the_firewall_while_the_device_is_born() -> None:
    """Each waits for the other to begin: one after the other, neither would ever end."""
    machine = Fake()
    plan = await Configurator(machine.shell, clock=FixedClock()).plan(GOAL.on(machine))
    loading, being_born = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Filter:
        def load(self, netns: str, ruleset: str) -> None:
            loop.call_soon_threadsafe(loading.set)
            asyncio.run_coroutine_threadsafe(being_born.wait(), loop).result(10)
            machine.shell.packet_filter.load(netns, ruleset)

    class WireGuard:
        async def create(self, birth_name: str) -> None:
            being_born.set()
            await loading.wait()
            await machine.shell.wireguard.create(birth_name)

        def __getattr__(self, name: str) -> Any:
            return getattr(machine.shell.wireguard, name)

    parts = machine.shell
    shell = Shell(parts.kernel, WireGuard(), Filter(), parts.pins, parts.name_servers)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await apply(plan, shell, netns=NETNS, private_key=machine.key(0)[0])
    desired = GOAL.on(machine)
    assert await Configurator(machine.shell, clock=FixedClock()).plan(desired) == ()


async def test_a_name_server_of_a_lost_netns_has_ended_before_anything_can_fail() -> None:
    """It keeps the port of the device in there from the one that is born."""  # DNS-026
    machine = Fake()
    plan = await Configurator(machine.shell, clock=FixedClock()).plan(GOAL.on(machine))
    parts, retired = machine.shell, []

    class NameServers:
        async def retire(self, netns: str) -> None:
            await asyncio.sleep(0.01)
            retired.append(netns)

    class WireGuard:
        async def create(self, birth_name: str) -> None:
            raise Unavailable("the port is in use")

        def __getattr__(self, name: str) -> Any:
            return getattr(parts.wireguard, name)

    shell = Shell(parts.kernel, WireGuard(), parts.packet_filter, parts.pins, NameServers())  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await apply(plan, shell, netns=NETNS, private_key=machine.key(0)[0])
    assert retired == [NETNS]
