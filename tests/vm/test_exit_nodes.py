"""Exits on the kernel's WireGuard: out by the first, then by the next, in both families."""

from __future__ import annotations

import time

import pytest

from netlab.fleet import node_socket
from tests.lab.draining import ON_AN_EXIT, drains
from tests.lab.leaving import (
    EXITS,
    HOST_4,
    HOST_6,
    Answers,
    asking_outside,
    offer,
    topology,
    unplug,
    with_exits,
)
from tests.lab.scene import until
from zos_core.status import Status

EMULATED_S = 200.0  # twenty times slower than the machine itself


@pytest.mark.vm
@pytest.mark.blocking
async def test_what_is_in_a_network_leaves_by_one_exit_and_then_by_the_next(lab):
    # EXIT-040, EXIT-052, EXIT-054, WGD-001
    async with (
        with_exits(await lab(topology())) as fleet,
        asking_outside(fleet, HOST_4) as v4,
        asking_outside(fleet, HOST_6) as v6,
    ):
        status = await node_socket.ask(fleet.lab.node("n1"), "/v1/status", Status)
        assert status.node.backend == "kernel"
        alice = fleet.person("alice", at="registry")
        argv = ("network", "exit", "set", "home", *EXITS, "--registry", fleet.registry)
        await alice.zos(*argv, timeout_s=EMULATED_S)
        began = time.monotonic()
        await offer(fleet, *EXITS)
        used = await answered_by(v4, v6, since=began)
        await unplug(fleet, used)
        other = next(name for name in EXITS if name != used)
        cut = time.monotonic()

        async def moved() -> bool:
            return other in v4.by_since(cut) and other in v6.by_since(cut)

        await until(moved, f"{other} after {used}", within_s=EMULATED_S)


@pytest.mark.vm
@pytest.mark.blocking
@pytest.mark.timeout(1_200)  # five minutes where nothing else runs
async def test_a_connection_lives_at_an_exit_that_drains_until_its_deadline(lab):
    # EXIT-056, EXIT-060, EXIT-061, EXIT-062, WGD-001
    async with with_exits(await lab(topology(ON_AN_EXIT))) as fleet:
        status = await node_socket.ask(fleet.lab.node("n1"), "/v1/status", Status)
        assert status.node.backend == "kernel"
        await drains(fleet, within_s=EMULATED_S)


async def answered_by(v4: Answers, v6: Answers, *, since: float) -> str:
    """The exit by which both families are answered."""

    async def both() -> bool:
        return bool(v4.by_since(since) & v6.by_since(since))

    await until(both, "an answer in both families", within_s=EMULATED_S)
    return sorted(v4.by_since(since) & v6.by_since(since))[-1]
