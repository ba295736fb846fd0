"""What somebody deletes by hand is noticed at once and put back (NET-053, NET-054)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from overlay.model import WgPeer
from overlay.netns import namespaces
from overlay.netns.changes import (
    AddAddress,
    AddRoute,
    Change,
    CreateBridge,
    CreateDevice,
    CreateNetns,
    LoadFirewall,
    PutPeer,
)
from overlay.netns.converge import Configurator
from overlay.netns.observe import device_ref
from overlay.netns.watch import Watch
from tests.convergence import KEYS, NETNS, PREFIXES, FixedClock, Goal, network_resource
from tests.real_machine import PATIENCE_S, RealMachine, run

GOAL = Goal(
    present=True,
    key=0,
    resource=network_resource(),
    peers=(WgPeer(KEYS[0], PREFIXES[:2]),),
    hosts=((2, "wa"),),
    devices=(),
)
BY_HAND = {
    "wg0": ("ip link del wg0", CreateDevice),
    "br0": ("ip link del br0", CreateBridge),
    "IPv4 address": ("ip addr del 10.7.3.1/24 dev br0", AddAddress),
    "IPv6 address": ("ip addr del fd07:1:2:3::1/64 dev br0", AddAddress),
    "IPv4 range route": ("ip route del 10.7.0.0/16", AddRoute),
    "IPv6 range route": ("ip -6 route del fd07:1:2::/48", AddRoute),
    "inet table": ("nft delete table inet zos", LoadFirewall),
    "bridge table": ("nft delete table bridge zos", LoadFirewall),
    "one rule": ("nft flush chain inet zos by_policy", LoadFirewall),
}


@pytest.fixture
async def configurator(machine: RealMachine) -> Configurator:
    return Configurator(machine.shell, clock=FixedClock())


@pytest.fixture
async def watch(machine: RealMachine, configurator: Configurator) -> AsyncIterator[Watch]:
    """Follows the converged resource; what converging itself stirred up is over."""
    await configurator.converge(GOAL.on(machine), private_key=machine.key(0)[0])
    async with Watch(machine.shell.pins) as watch:
        watch.follow([NETNS])
        yield watch


async def repaired(machine: RealMachine, configurator: Configurator) -> tuple[Change, ...]:
    report = await configurator.converge(GOAL.on(machine), private_key=machine.key(0)[0])
    assert (await configurator.converge(GOAL.on(machine))).changes == ()
    return report.changes


async def by_hand(command: str, *, netns: str | None = None) -> None:
    assert (await run(command, netns=netns)).code == 0


async def notified(watch: Watch) -> str:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(watch)


@pytest.mark.parametrize("what", sorted(BY_HAND))
async def test_watch_tells_what_is_deleted_by_hand_and_converge_puts_it_back(
    machine: RealMachine, configurator: Configurator, watch: Watch, what: str
) -> None:  # NET-053, NET-054
    command, remedy = BY_HAND[what]
    await by_hand(command, netns=namespaces.pin_path(NETNS))
    assert await notified(watch) == NETNS
    changes = await repaired(machine, configurator)
    assert any(isinstance(change, remedy) for change in changes)


async def test_converge_puts_a_peer_back_that_was_deleted_by_hand(
    machine: RealMachine, configurator: Configurator, watch: Watch
) -> None:  # NET-053
    ref = device_ref(NETNS, machine.shell.pins.path(NETNS))
    await machine.shell.wireguard.write(ref, drop=[KEYS[0]])
    assert [type(change) for change in await repaired(machine, configurator)] == [PutPeer]


@pytest.mark.parametrize("command", ["ip netns del {}", "umount -l /run/netns/{}"])
async def test_a_netns_that_loses_its_pin_gets_it_back_with_everything_in_it(
    machine: RealMachine, configurator: Configurator, watch: Watch, command: str
) -> None:  # NET-055
    await by_hand(command.format(NETNS))
    assert await notified(watch) == NETNS
    changes = await repaired(machine, configurator)
    assert [type(change) for change in changes] == [CreateNetns]


async def test_a_pin_that_was_half_taken_away_or_half_made_is_removed_with_the_rest(
    machine: RealMachine, configurator: Configurator
) -> None:  # NET-052
    leave_file()
    assert (await configurator.remove(NETNS)).changes == ()
    assert not is_file_left()


async def test_a_restarted_node_adopts_what_it_finds(machine: RealMachine) -> None:  # NET-056
    goal, key = GOAL.on(machine), machine.key(0)[0]
    await Configurator(machine.shell, clock=FixedClock()).converge(goal, private_key=key)
    machine.restart()
    report = await Configurator(machine.shell, clock=FixedClock()).converge(goal, private_key=key)
    assert report.changes == ()


async def test_converging_stirs_the_watch_at_most_once_more(
    machine: RealMachine, configurator: Configurator, watch: Watch
) -> None:  # NET-054
    await by_hand("ip link del br0", netns=namespaces.pin_path(NETNS))
    passes = 0
    while passes <= 5:
        try:
            async with asyncio.timeout(1.0):
                await anext(watch)
        except TimeoutError:
            break
        await configurator.converge(GOAL.on(machine), private_key=machine.key(0)[0])
        passes += 1
    # The deletion, and what our own writes told, which the kernel may tell in a few parts.
    assert 1 <= passes <= 5


async def test_watch_lets_go_of_a_netns_that_is_removed(
    machine: RealMachine, configurator: Configurator, watch: Watch
) -> None:  # NET-054
    await configurator.remove(NETNS)
    while watch._followed:
        assert await notified(watch) == NETNS


def leave_file() -> None:
    """What a kill between making a pin's file and mounting the netns over it leaves."""
    path = Path(namespaces.pin_path(NETNS))
    path.parent.mkdir(exist_ok=True)
    path.touch()


def is_file_left() -> bool:
    return Path(namespaces.pin_path(NETNS)).exists()
