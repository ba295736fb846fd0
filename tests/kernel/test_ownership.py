"""What is not ours is not touched: the underlay netns before and after, and strangers inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from overlay.netns import namespaces
from overlay.netns.converge import Configurator
from overlay.netns.resource import desired_resource
from overlay.netns.state import birth_link
from tests.convergence import NETNS, RANGE_V4, FixedClock, Goal, converge, network_resource
from tests.real_machine import RealMachine, run

NETWORKS = 10
GOAL = Goal(True, 0, network_resource(), (), ((2, "wa"),), ())
# Counters and timers that move by themselves on any machine.
RESTLESS = ("nf_conntrack_count", "random", "/stat", "inode-nr", "file-nr", "dentry", "inode-state")


async def inside(command: str) -> str:
    """What a command in the tenant netns prints."""
    return (await run(command, netns=namespaces.pin_path(NETNS))).stdout.decode()


async def underlay_footprint() -> dict[str, str]:
    """Everything that a person could see of the underlay netns."""
    commands = (
        "ip -d link",
        "ip addr",
        "ip route show table all",
        "ip -6 route show table all",
        "ip rule",
        "ip -6 rule",
        "nft list ruleset",
    )
    seen = {command: (await run(command)).stdout.decode() for command in commands}
    return seen | dict(files())


def files() -> Iterator[tuple[str, str]]:
    yield "mounts", Path("/proc/self/mountinfo").read_text()
    yield "resolv.conf", Path("/etc/resolv.conf").read_text()
    for path in sorted(Path("/proc/sys/net").rglob("*")):
        if path.is_file() and not any(word in str(path) for word in RESTLESS):
            try:
                yield str(path), path.read_text()
            except OSError:
                continue


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_underlay_is_the_same_before_and_after_ten_networks(
    machine: RealMachine,
) -> None:  # NET-062
    before = await underlay_footprint()
    configurator = Configurator(machine.shell, clock=FixedClock())
    names = [f"n-aaaaaaaaaaa{n:02}" for n in range(NETWORKS)]
    for n, name in enumerate(names):
        nr = msgspec.structs.replace(network_resource(), netns=name, listen_port=52000 + n)
        secret, public = machine.key(n)
        desired = desired_resource(nr, device_key=public, peers={})
        await configurator.converge(desired, private_key=secret)
    during = await underlay_footprint()
    assert {key for key in before if before[key] != during[key]} <= {"mounts"}
    for name in names:
        await configurator.remove(name)
    assert await underlay_footprint() == before


async def test_a_strangers_link_and_route_inside_stay_and_are_reported(
    machine: RealMachine,
) -> None:  # NET-061
    await converge(machine, machine.shell, GOAL)
    await inside("ip link add theirs type bridge")
    await inside("ip route add 198.51.100.0/24 dev br0")
    report = await Configurator(machine.shell, clock=FixedClock()).converge(GOAL.on(machine))
    assert report.changes == ()
    assert report.actual.foreign == {"theirs"}
    path = machine.shell.pins.path(NETNS)
    assert path is not None
    routes = {route.prefix for route in (await machine.shell.kernel.read(path)).routes}
    assert {"198.51.100.0/24", RANGE_V4} <= routes


async def test_a_strangers_nftables_table_inside_stays(machine: RealMachine) -> None:  # NET-061
    await converge(machine, machine.shell, GOAL)
    await inside("nft add table inet theirs")
    report = await Configurator(machine.shell, clock=FixedClock()).converge(GOAL.on(machine))
    assert report.changes == ()
    await machine.shell.kernel.delete_link(machine.shell.pins.path(NETNS), "wg0")
    await converge(machine, machine.shell, GOAL)
    assert "theirs" in await inside("nft list tables")


async def test_owned_things_are_found_wherever_a_pass_died(machine: RealMachine) -> None:  # NET-056
    configurator = Configurator(machine.shell, clock=FixedClock())
    assert await configurator.list_owned() == ()
    await machine.shell.wireguard.create(birth_link(NETNS))
    assert await configurator.list_owned() == (NETNS,)
    report = await configurator.remove(NETNS)
    assert report.changes != ()
    assert await configurator.list_owned() == ()


async def test_no_descriptor_is_left_of_a_network(machine: RealMachine) -> None:  # NET-056
    await machine.shell.kernel.read(None)  # the socket in the underlay netns stays open
    before = descriptors()
    await converge(machine, machine.shell, GOAL)
    await Configurator(machine.shell, clock=FixedClock()).remove(NETNS)
    assert descriptors() == before


@pytest.mark.parametrize("family", ["4", "6"])
async def test_a_tenant_has_no_route_to_the_underlay(
    machine: RealMachine, family: str
) -> None:  # NET-063
    await converge(machine, machine.shell, GOAL)
    target = {"4": "203.0.113.1", "6": "2001:db8::1"}[family]
    assert await inside(f"ip -{family} route get {target}") == ""
