"""Names inside networks, between real nodes (DNS-020 .. DNS-029)."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

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


def name_servers(stage: Scene, node: str, netns: str) -> list[int]:
    """Processes that serve names in a tenant netns of a node."""
    found = []
    inside = stage.lab.node(node).path(f"/run/netns/{netns}").stat().st_ino
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "ns/net").stat().st_ino == inside:
                found.append(int(process.name))
    return found


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_names_are_answered_whatever_happens_to_node_and_name_server(lab):
    # DNS-025, DNS-026, DNS-027, DNS-029
    stage = await Scene.open(await lab(scene.topology("n1")))
    await stage.enrol("n1")
    alice = await stage.create_network("alice", "home", "n1")
    web = await stage.attach("alice", "home", "n1", netns="web")
    server = (await gateways(stage, "n1", "home"))[1]
    netns = (await stage.network_of("n1", "home"))["netns"]

    async def is_answered() -> bool:
        return await asked(stage, web, server, "web.home.zos") == said(web.v4)

    await until(is_answered, "a name")
    (first,) = name_servers(stage, "n1", netns)
    os.kill(first, signal.SIGKILL)
    await until(is_answered, "a name from the next server")
    (second,) = name_servers(stage, "n1", netns)
    # Without a node, names are answered all the same; the next node finds who does it.
    await stage.fleet.stop_node("n1")
    assert await is_answered()
    await stage.run("n1")
    await stage.wait_up("home", "n1")
    db = await stage.attach("alice", "home", "n1", netns="db")

    async def is_told() -> bool:
        return await asked(stage, web, server, "db.home.zos") == said(db.v4)

    await until(is_told, "a name that is new")
    assert name_servers(stage, "n1", netns) == [second]
    names = (await stage.network_of("n1", "home"))["names"]
    assert (names["state"], names["domain"], names["names"]) == ("serving", "home.zos", 3)
    text = await stage.shell("n1", f"{ZOS} status home")
    assert f"names: 3 in home.zos at {names['servers'][0]} {server}, others refused" in text
    # It ends while no node runs, too.
    await stage.fleet.stop_node("n1")
    os.kill(second, signal.SIGKILL)
    await stage.run("n1")
    await until(is_answered, "a name after both had ended")
    (third,) = name_servers(stage, "n1", netns)
    await alice.zos("network", "delete", "home", "--yes")

    async def is_left() -> bool:
        return is_there(third) or stage.lab.node("n1").path(f"/run/zos-dns/{netns}").exists()

    async def is_gone() -> bool:
        return not await is_left()

    await until(is_gone, "nothing is left of it")


async def test_clean_ends_name_servers_and_a_node_without_dnsmasq_says_what_to_install(lab):
    # DNS-027, DNS-028
    stage = await Scene.open(await lab(scene.topology("n1")))
    await stage.enrol("n1")
    await stage.create_network("alice", "home", "n1")
    netns = (await stage.network_of("n1", "home"))["netns"]

    async def state() -> str:
        names = (await stage.network_of("n1", "home")).get("names")
        return names["state"] if names else ""

    async def is_served() -> bool:
        return await state() == "serving"

    await until(is_served, "names")
    (pid,) = name_servers(stage, "n1", netns)
    await stage.fleet.stop_node("n1")
    assert scene.name_servers(stage.lab.node("n1")) == [netns]
    await stage.fleet.zos("n1", "node", "clean", "--yes")
    assert not is_there(pid)
    assert scene.name_servers(stage.lab.node("n1")) == []
    # The node has files of its own, so this is nobody else's dnsmasq.
    await stage.shell("n1", "mv /usr/sbin/dnsmasq /usr/sbin/dnsmasq.away")
    await stage.run("n1")
    await stage.wait_up("home", "n1")

    async def is_failed() -> bool:
        return await state() == "failed"

    await until(is_failed, "no names")
    told = await stage.shell("n1", f"{ZOS} status; {ZOS} doctor", check=False)
    assert told.count("apt-get install dnsmasq-base") >= 2
    await stage.shell("n1", "mv /usr/sbin/dnsmasq.away /usr/sbin/dnsmasq")
    await until(is_served, "names once it is installed")
