"""An uplink that has what its network gives it: DHCP and SLAAC (EXIT-047, EXIT-048)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager

import pytest

from overlay.addressing import address_of, contains
from overlay.documents.exits import Uplink
from overlay.exitnode import processes
from overlay.exitnode.egress import EGRESS_NETNS, UPLINK_LINK
from overlay.model import Prefix
from overlay.netns import namespaces
from tests.kernel.egress_world import (
    FAMILIES,
    GATEWAY,
    HOST,
    SOON_S,
    WAN,
    World,
    everything,
    opened,
    until,
    until_no_address_is_tentative,
)
from tests.lan_servers import giving
from tests.real_machine import RealMachine, run

pytestmark = pytest.mark.any_backend

LEARNT = Uplink("macvlan", "eth0", ipv4="dhcp", ipv6="slaac")
POOL = {4: Prefix("192.0.2.128/25"), 6: Prefix("2001:db8::/64")}
OTHER = {4: Prefix("203.0.113.0/24"), 6: Prefix("2001:db8:0:2::/64")}


@pytest.fixture
async def world(machine: RealMachine) -> AsyncIterator[World]:
    async with opened(machine) as world:
        # What the node itself learns there is not ours.
        assert (await run("sysctl -qw net.ipv6.conf.eth0.accept_ra=0")).code == 0
        yield world


def giving_first() -> AbstractContextManager[None]:
    return giving(in_wan(), "eth0", first="192.0.2.130", last="192.0.2.140", router=GATEWAY[4])


def in_wan() -> AbstractContextManager[object]:
    return namespaces.hop(namespaces.pin_path(WAN))


async def addresses() -> set[str]:
    """What the uplink has, and may use."""
    path = namespaces.pin_path(EGRESS_NETNS)
    shown = await run(f"ip -o address show dev {UPLINK_LINK} scope global -tentative", netns=path)
    return {line.split()[3] for line in shown.stdout.decode().splitlines()}


async def until_learnt(world: World, pool: dict[int, Prefix] = POOL) -> None:
    """The uplink has an address of each of these, and the egress netns is as it should be."""

    def has(found: set[str], prefix: Prefix) -> bool:
        return any(contains(prefix, address_of(each)) for each in found)  # type: ignore[arg-type]

    async with asyncio.timeout(SOON_S):
        while True:
            await world.converge(uplink=LEARNT)
            found = await addresses()
            if all(has(found, prefix) for prefix in pool.values()):
                break
            await asyncio.sleep(0.1)
    await world.converge(uplink=LEARNT)
    assert await world.converge(uplink=LEARNT) == ()


@FAMILIES
async def test_a_tenant_leaves_with_what_was_learnt(world: World, family: int) -> None:
    # EXIT-047, EXIT-048
    with giving_first():
        await until_learnt(world)
        for tenant in (0, 1):
            source = await world.reaches(HOST[family], tenant=tenant)
            assert contains(POOL[family], source)  # type: ignore[arg-type]
        await world.is_refused(GATEWAY[family], "refused_guard")


async def test_what_is_begun_while_the_address_is_tentative_gets_there(
    world: World,
) -> None:  # EXIT-048: the source of its first packet would be that of all others
    await world.converge(uplink=LEARNT)
    egress = namespaces.pin_path(EGRESS_NETNS)
    async with asyncio.TaskGroup() as group:
        with giving_first():
            show = "ip -6 route show default"
            async with asyncio.timeout(SOON_S):
                while not (await run(show, netns=egress)).stdout:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)
            begun = group.create_task(world.reaches(HOST[6]), name="a connection")
            await until_learnt(world)
            assert contains(POOL[6], await begun)  # type: ignore[arg-type]


async def test_nothing_of_the_node_changes(world: World) -> None:  # EXIT-031
    await until_no_address_is_tentative()
    before = await everything()
    with giving_first():
        await until_learnt(world)
        egress, kernel = namespaces.pin_path(EGRESS_NETNS), world.machine.shell.kernel
        harms: tuple[Callable[[], Awaitable[None]], ...] = (
            lambda: kernel.delete_link(egress, UPLINK_LINK),
            _lose_the_lease,
        )
        for harm in harms:
            await harm()
            await until_learnt(world)
            for family in (4, 6):
                assert contains(POOL[family], await world.reaches(HOST[family]))  # type: ignore[arg-type]
        await world.configurator.converge(None)
    assert not processes.observe(None)
    assert await everything() == before


async def test_another_lease_and_another_prefix_are_taken_live(world: World) -> None:  # EXIT-032
    with giving_first():
        await until_learnt(world)
    wan = namespaces.pin_path(WAN)
    for command in (
        "ip address add 203.0.113.1/24 dev eth0",
        "ip address add 2001:db8:0:2::1/64 dev eth0 nodad",
        "ip address del 2001:db8::1/64 dev eth0",
    ):
        assert (await run(command, netns=wan)).code == 0
    other = {"first": "203.0.113.130", "last": "203.0.113.140", "router": "203.0.113.1"}
    with giving(in_wan(), "eth0", **other):
        (pid,) = processes.observe(namespaces.pin_path(EGRESS_NETNS)).values()
        os.kill(pid, signal.SIGUSR1)  # as when the lease is half over
        await until_learnt(world, OTHER)
        assert contains(OTHER[4], await world.reaches(HOST[4]))  # type: ignore[arg-type]


async def test_back_to_addresses_that_are_written_down(world: World) -> None:  # EXIT-032
    with giving_first():
        await until_learnt(world)
        await world.converge()
        assert await world.converge() == ()
        assert not processes.observe(namespaces.pin_path(EGRESS_NETNS))
        assert await addresses() == {"192.0.2.2/24", "2001:db8::2/64"}
        for family in (4, 6):
            assert await world.reaches(HOST[family])


async def _lose_the_lease() -> None:
    """With the program that has it: the next one begins without an address, whatever is there."""
    egress = namespaces.pin_path(EGRESS_NETNS)
    for pid in processes.observe(egress).values():
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not processes.observe(egress))
    assert (await run(f"ip -4 address flush dev {UPLINK_LINK}", netns=egress)).code == 0
