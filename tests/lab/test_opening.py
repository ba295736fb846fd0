"""All that a topology says of an overlay, brought up by `netlab.fleet.opening`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import permutations

import pytest

from netlab.fleet.fleet import Fleet, Inside
from netlab.fleet.greeter import ANSWER, PORT, QUESTION
from netlab.fleet.opening import bring_up
from netlab.lab import Lab
from netlab.nat import NATS
from netlab.topology import (
    Access,
    Link,
    Node,
    Router,
    Tenant,
    TenantNetwork,
    Topology,
    Workload,
)

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]

NONCE = b"12345678"
TOPOLOGY = Topology(
    nodes=(
        Node("registry", role="registry"),
        Node("n1", role="node"),
        Node("n2", (Link("home"),), role="node", run=(("sleep", "1000"),)),
        Node("n3", role="node"),
        Node("laptop", (Link("home"),), role="client"),
    ),
    routers=(Router("home", nat=NATS["port-restricted"]),),
    tenants=(
        Tenant(
            "alice",
            (
                TenantNetwork(
                    "home",
                    nodes=("n1", "n2"),
                    invited=("n3",),
                    clients=(Access("laptop", via="n1"),),
                    workloads=(Workload("web", "n1"), Workload("db", "n3")),
                ),
            ),
        ),
        Tenant("bob", (TenantNetwork("home", nodes=("n2",), workloads=(Workload("web", "n2"),)),)),
    ),
)


@asynccontextmanager
async def opened(running: Lab) -> AsyncIterator[tuple[Fleet, list[tuple[str, int, int]]]]:
    told: list[tuple[str, int, int]] = []

    def progress(phase: str, done: int, total: int) -> None:
        told.append((phase, done, total))

    def tell(kind: str, subject: str, text: str, **detail: object) -> None:
        assert (kind, bool(subject)) in (("phase", False), ("command", True))
        assert text

    async with bring_up(running, progress=progress, tell=tell) as fleet:
        yield fleet, told


async def test_all_that_a_topology_says_runs_and_answers_with_its_name(lab):
    # LAB-300, LAB-301, LAB-302
    async with opened(await lab(TOPOLOGY)) as (fleet, told):
        assert set(fleet.inside) == {
            "alice/home/web",
            "alice/home/db",
            "alice/home/laptop",
            "bob/home/web",
        }
        assert set(fleet.node_ids) == {"n1", "n2", "n3"}
        assert set(fleet.network_ids) == {"alice/home", "bob/home"}
        assert ("nodes", 3, 3) in told
        assert ("memberships", 4, 4) in told
        everybody = fleet.inside
        for asker, target in permutations(everybody.values(), 2):
            if asker.network == target.network:
                for address in (target.v4, target.v6):
                    own = asker.v6 if ":" in address else asker.v4
                    assert await _answer(fleet, asker, address) == f"{target.name} {own}"
        # Both tenants have the same range: by her own address for it, alice reaches bob nowhere.
        bob, alice = everybody["bob/home/web"], everybody["alice/home/web"]
        assert bob.v4 == alice.v4
        db = everybody["alice/home/db"]
        assert await _answer(fleet, db, bob.v4) == f"{alice.name} {db.v4}"


async def test_a_machine_that_lost_its_power_is_what_it_was(lab):
    # LAB-303
    home = TenantNetwork(
        "home",
        nodes=("n1", "n2"),
        clients=(Access("laptop", via="n1"),),
        workloads=(Workload("web", "n1"), Workload("db", "n2")),
    )
    topology = Topology(
        nodes=(
            Node("registry", role="registry"),
            *(Node(name, role="node") for name in ("n1", "n2")),
            Node("laptop", role="client"),
        ),
        tenants=(Tenant("alice", (home,)),),
    )
    async with opened(await lab(topology)) as (fleet, _):
        ids, inside, reference = dict(fleet.node_ids), dict(fleet.inside), fleet.registry
        db = inside["alice/home/db"]
        for name in ("n1", "registry", "laptop"):
            node = fleet.lab.node(name)
            await node.kill()
            await node.restart()
            await fleet.start(name)
        assert (fleet.node_ids, fleet.inside, fleet.registry) == (ids, inside, reference)
        for target in (inside["alice/home/web"], inside["alice/home/laptop"]):
            for address in (target.v4, target.v6):
                own = db.v6 if ":" in address else db.v4
                assert await _answer(fleet, db, address) == f"{target.name} {own}"


async def test_programs_of_a_lab_without_an_overlay_run(lab):
    # LAB-300, LAB-304
    running = await lab(Topology(nodes=(Node("a", run=(("sh", "-c", "echo is here"),)),)))
    async with opened(running):
        log = running.workdir / "a" / "run-1.log"
        async with asyncio.timeout(20):
            while log.read_text() != "is here\n":  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.01)


async def _answer(fleet: Fleet, asker: Inside, address: str) -> str:
    """Who answers there, by UDP and by TCP."""
    node, loop = fleet.lab.node(asker.at), asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    async with asyncio.timeout(30):
        while True:
            with node.in_netns(asker.netns):
                udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            with udp, tcp, suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    udp.sendto(QUESTION + NONCE, (address, PORT))
                    by_udp = await loop.sock_recv(udp, 512)
                    await loop.sock_connect(tcp, (address, PORT))
                    by_tcp = await loop.sock_recv(tcp, 512)
                    assert by_udp == ANSWER + NONCE + by_tcp[:-1]
                    return by_tcp[:-1].decode()
