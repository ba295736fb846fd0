"""Names inside networks, between real nodes (DNS-020 .. DNS-029)."""

from __future__ import annotations

import asyncio

import pytest

from netlab.fleet.fleet import ZOS
from netlab.topology import Topology
from tests.asking import NEVER_S, NO_SUCH_NAME, REFUSED, Said, ask, ask_name_of, said
from tests.lab import scene
from tests.lab.scene import Scene, Workload, until

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(300)]


def _topology() -> Topology:
    return scene.topology("n1", "n2")


async def asked(stage: Scene, who: Workload, server: str, name: str, **how: object) -> Said | None:
    path = stage.lab.node(who.at).path(f"/run/netns/{who.netns}")
    return await ask(str(path), server, name, **how)  # type: ignore[arg-type]


async def gateways(stage: Scene, node: str, network: str) -> tuple[str, str]:
    found = await stage.network_of(node, network)
    return found["gateway_v4"], found["gateway_v6"]


async def test_workloads_call_each_other_by_name_across_nodes_and_tenants_do_not_meet(lab):
    # DNS-020, DNS-021, DNS-024
    stage = await Scene.open(await lab(_topology()))
    await stage.enrol("n1", "n2")
    for tenant, network in (("alice", "home"), ("bob", "work")):
        await stage.create_network(tenant, network, "n1", "n2")
    web = await stage.attach("alice", "home", "n1", netns="web")
    db = await stage.attach("alice", "home", "n2", netns="db")
    eve = await stage.attach("bob", "work", "n1", netns="eve")
    here, there = await gateways(stage, "n1", "home"), await gateways(stage, "n2", "home")
    for server in here:
        for by in ("udp", "tcp"):

            async def has_heard(server: str = server, by: str = by) -> bool:
                return await asked(stage, web, server, "db.home.zos", by=by) == said(db.v4)

            await until(has_heard, "the other node's workload has a name here")
            v6 = await asked(stage, web, server, "db.n2.home.zos", kind="AAAA", by=by)
            assert v6 == said(db.v6)
            assert await asked(stage, web, server, "n2.home.zos", by=by) == said(there[0])
            assert await asked(stage, web, server, "example.com", by=by) == REFUSED
    # By way of WireGuard, too.
    assert await asked(stage, web, there[1], "db.home.zos") == said(db.v4)
    # Each tenant has names of its own, and is not answered by the other's name server.
    own = await gateways(stage, "n1", "work")
    assert await asked(stage, eve, own[0], "web.home.zos") == NO_SUCH_NAME
    assert await asked(stage, eve, own[0], "eve.work.zos") == said(eve.v4)
    # IPv4 ranges are the same; the other tenant's IPv6 gateway is nobody here.
    silent = await asyncio.gather(
        asked(stage, eve, here[1], "web.home.zos", within_s=NEVER_S),
        ask(str(stage.lab.node("n1").netns_path), here[0], "web.home.zos", within_s=NEVER_S),
        ask(str(stage.lab.node("n1").netns_path), here[1], "web.home.zos", within_s=NEVER_S),
    )
    assert silent == [None, None, None]
    path = str(stage.lab.node("n1").path("/run/netns/web"))
    assert await ask_name_of(path, here[0], db.v6) == said("db.home.zos.")
    # A command inside has a resolv.conf of its own.
    before = stage.lab.node("n1").path("/etc/resolv.conf").read_text()
    for name in ("db", "db.home.zos", "db.n2.home.zos"):
        argv = ("exec", "home", "--name", "asker", "--", "getent", "ahosts", name)
        told = (await stage.lab.node("n1").run(ZOS, *argv)).text
        assert {line.split()[0] for line in told.splitlines() if "RAW" in line} == {db.v4, db.v6}
    assert stage.lab.node("n1").path("/etc/resolv.conf").read_text() == before
    # What is gone has no name.
    await stage.fleet.zos("n2", "detach", "home", "db")

    async def is_gone() -> bool:
        return await asked(stage, web, here[0], "db.home.zos") == NO_SUCH_NAME

    await until(is_gone, "the name is gone")
