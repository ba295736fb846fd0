"""A workload's netns joins a network resource and leaves it, and nothing else in it is touched."""

from __future__ import annotations

import asyncio
import os

import pytest

from overlay.errors import Unavailable
from overlay.netns import namespaces
from overlay.netns.attach import attach
from overlay.netns.changes import Attach, DeleteLink
from overlay.netns.codec import Snapshot
from overlay.netns.converge import Configurator, Report
from overlay.netns.state import Attachment
from overlay.netns.watch import Watch
from tests.convergence import NETNS, FixedClock, Goal, network_resource
from tests.real_machine import PATIENCE_S, RealMachine, pings, run

ALONE = Goal(
    present=True, key=0, resource=network_resource(), peers=(), hosts=((2, "wa"),), devices=()
)
NOBODY = Goal(present=True, key=0, resource=network_resource(), peers=(), hosts=(), devices=())


@pytest.fixture
async def workload(machine: RealMachine) -> str:
    """Path of a netns that is attached as 10.7.3.2."""
    await converge(machine, ALONE)
    return machine.workload("wa")


async def converge(machine: RealMachine, goal: Goal) -> Report:
    return await Configurator(machine.shell, clock=FixedClock()).converge(
        goal.on(machine), private_key=machine.key(goal.key)[0]
    )


def attachment(machine: RealMachine) -> Attachment:
    return ALONE.on(machine).attachments["p-2"]


async def settled(machine: RealMachine, netns: str) -> Snapshot:
    """What is there once the kernel's own link-local addresses are known to be nobody else's."""
    while True:
        snapshot = await machine.shell.kernel.read(netns)
        if all(address.usable for address in snapshot.addresses):
            return snapshot
        await asyncio.sleep(0.01)


def links(snapshot: Snapshot) -> set[str]:
    return {link.name for link in snapshot.links}


async def test_an_attached_workload_reaches_its_gateway_at_once(
    workload: str,
) -> None:  # NET-080
    assert await pings(workload, "10.7.3.1")
    assert await pings(workload, "fd07:1:2:3::1")


async def test_the_gateway_answers_at_once_without_any_workload(
    machine: RealMachine,
) -> None:  # NET-043
    await converge(machine, NOBODY)
    tenant = namespaces.pin_path(NETNS)
    assert await pings(tenant, "10.7.3.1")
    assert await pings(tenant, "fd07:1:2:3::1")


async def test_attach_twice_changes_nothing(machine: RealMachine, workload: str) -> None:  # NET-080
    before = await settled(machine, workload)
    path = machine.shell.pins.path(NETNS)
    assert path is not None
    await attach(machine.shell.kernel, path, attachment(machine))
    assert await machine.shell.kernel.read(workload) == before


async def test_a_workload_that_leaves_has_its_netns_as_it_was_but_for_loopback(
    machine: RealMachine,
) -> None:  # NET-081
    path = machine.workload("wa")
    await converge(machine, NOBODY)
    await machine.shell.kernel.set_link(path, "lo", up=True)
    before = await machine.shell.kernel.read(path)
    await converge(machine, ALONE)
    await converge(machine, NOBODY)
    assert await machine.shell.kernel.read(path) == before


@pytest.mark.parametrize("metric", [0, 1024])
async def test_a_default_route_of_the_workloads_own_stays_and_wins(
    machine: RealMachine, metric: int
) -> None:  # NET-081
    path = machine.workload("wa")
    for command in (
        "ip link add own type veth peer name far",
        "ip link set own up",
        "ip addr add 192.0.2.1/24 dev own",
        f"ip route add default via 192.0.2.9 metric {metric}",
    ):
        assert (await run(command, netns=path)).code == 0
    before = await machine.shell.kernel.read(path)
    await converge(machine, ALONE)
    after = await machine.shell.kernel.read(path)
    assert set(before.routes) <= set(after.routes)
    assert b"192.0.2.9" in (await run("ip route get 198.51.100.1", netns=path)).stdout


async def test_a_port_that_is_gone_while_the_workload_lives_is_put_back(
    machine: RealMachine, workload: str
) -> None:  # NET-082
    await machine.shell.kernel.delete_link(machine.shell.pins.path(NETNS), "p-2")
    assert [type(change) for change in (await converge(machine, ALONE)).changes] == [Attach]
    assert await pings(workload, "10.7.3.1")


async def test_a_workload_that_is_gone_is_reported_and_stops_nothing(
    machine: RealMachine, workload: str
) -> None:  # NET-083
    namespaces.remove("wa")
    desired = ALONE.on(machine)
    configurator = Configurator(machine.shell, clock=FixedClock())
    # The kernel frees a netns, and with it our end of the pair, a little later.
    async with Watch(machine.shell.pins) as watch, asyncio.timeout(PATIENCE_S):
        watch.follow([NETNS])
        while "p-2" in (await configurator.observe(desired)).actual.links:
            await anext(watch)
    report = await configurator.converge(desired)
    assert report.changes == ()
    assert report.unreachable == {"p-2"}


async def test_a_workload_whose_path_is_gone_while_it_lives_is_not_cut_off(
    machine: RealMachine, workload: str
) -> None:  # NET-083
    held = os.open(workload, os.O_RDONLY)
    try:
        namespaces.remove("wa")
        report = await converge(machine, ALONE)
        assert (report.changes, report.unreachable) == ((), {"p-2"})
        assert await pings(f"/proc/{os.getpid()}/fd/{held}", "10.7.3.1")
    finally:
        os.close(held)


async def test_a_link_of_the_workloads_own_with_that_name_is_left_alone(
    machine: RealMachine,
) -> None:  # NET-081
    path = machine.workload("wa")
    await machine.shell.kernel.create_port(path, "eth2", workload_netns=path, workload_link="other")
    before = await machine.shell.kernel.read(path)
    with pytest.raises(Unavailable, match="File exists"):
        await converge(machine, ALONE)
    assert await machine.shell.kernel.read(path) == before


async def test_a_workload_moves_to_another_netns(
    machine: RealMachine, workload: str
) -> None:  # NET-082
    moved = Goal(**{**vars(ALONE), "hosts": ((2, "wb"),)})
    report = await converge(machine, moved)
    assert [type(change) for change in report.changes] == [DeleteLink, Attach]
    assert links(await machine.shell.kernel.read(workload)) == {"lo"}
    assert await pings(machine.workload("wb"), "fd07:1:2:3::1")
