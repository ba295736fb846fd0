"""Without a registry everything keeps running, and a node comes up from its own disk."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from netlab.fleet.fleet import Person
from tests.lab import scene
from tests.lab.scene import Scene, Workload, measured, until

ADOPTED_WITHIN_S = 60.0  # ends a hang; the figures that are printed are far below
COLD_WITHIN_S = 60.0


@asynccontextmanager
async def _running(lab, underlay: str) -> AsyncIterator[tuple[Scene, Person, list[Workload]]]:
    stage = await Scene.open(await lab(scene.topology("n1", "n2", underlay=underlay)))
    await stage.enrol("n1", "n2")
    alice = await stage.create_network("alice", "home", "n1", "n2")
    workloads = [await stage.attach("alice", "home", node) for node in ("n1", "n2")]
    await stage.until_all_reach(workloads)
    yield stage, alice, workloads


@pytest.mark.timeout(600)
@pytest.mark.parametrize("underlay", ["ipv4", "ipv6"])
async def test_node_killed_while_the_registry_is_down_is_adopted_and_then_comes_up_cold(
    lab, underlay
):
    # NODE-010, NODE-025, NODE-053
    async with _running(lab, underlay) as (stage, alice, workloads):
        await stage.fleet.stop_registry(signal.SIGKILL)
        await until(lambda: _registry_is(stage, "unreachable"), "the node notices")
        await stage.until_all_reach(workloads)
        await _adopt(stage, workloads)
        await _come_up_cold(stage, workloads)
        await _hear_of_news_again(stage, alice)
        await stage.until_all_reach(workloads)


async def _adopt(stage: Scene, workloads: list[Workload]) -> None:
    """kill -9 and start again: nothing is made anew, and a connection lives through it."""
    node = stage.lab.node("n1")
    netns = (await stage.network_of("n1", "home"))["netns"]
    before = await _things(stage, netns)
    async with _conversation(stage, *workloads) as say:
        await say(b"before")
        await stage.fleet.stop_node("n1", signal.SIGKILL)
        await say(b"without the node's process")
        await stage.until_all_reach(workloads)
        began = time.monotonic()
        await stage.run("n1", wait=False)
        await until(lambda: _is_up(stage), "adopted", within_s=ADOPTED_WITHIN_S)
        measured(node=node.name, adopted_in_s=round(time.monotonic() - began, 3))
        await say(b"after")
        assert await _things(stage, netns) == before
        await until(lambda: _has_nothing_to_do(stage), "an empty plan")
        await say(b"and later")
    await stage.until_all_reach(workloads)


async def _come_up_cold(stage: Scene, workloads: list[Workload]) -> None:
    """As after a reboot: no process, no netns, no link is left, only the disk."""
    node = stage.lab.node("n1")
    netns = (await stage.network_of("n1", "home"))["netns"]
    await stage.fleet.stop_node("n1", signal.SIGKILL)
    for pid in (*scene.wireguard_processes(node), *scene.name_server_processes(node)):
        os.kill(pid, signal.SIGKILL)
    await stage.shell(
        "n1",
        f"nsenter --net=/run/netns/{netns} ip link del br0;"
        f" nsenter --net=/run/netns/alice-home ip link del eth0;"
        f" umount -l /run/netns/{netns};"
        f" rm -r /run/netns/{netns} /run/wireguard /run/zos /run/zos-dns",
    )
    assert await stage.leftovers("n1", netns) == []
    here, there = workloads
    began = time.monotonic()
    await stage.run("n1", wait=False)
    async with asyncio.timeout(COLD_WITHIN_S):
        name = await stage.name_at(here, there.v4, within_s=COLD_WITHIN_S)
        first_s = time.monotonic() - began
        assert name == there.name
        assert await stage.name_at(here, there.v6, within_s=COLD_WITHIN_S) == there.name
    measured(cold_start_first_answer_s=round(first_s, 3))
    await until(lambda: _is_up(stage), "up, from disk")
    assert await _registry_is(stage, "unreachable") or await _registry_is(stage, "connecting")
    await stage.until_all_reach(workloads)


async def _hear_of_news_again(stage: Scene, alice: Person) -> None:
    """The registry comes back: what is signed then arrives, with nobody's help."""
    reference = stage.fleet.registry
    assert await stage.fleet.start_registry() == reference
    version = (await stage.network_of("n1", "home"))["version"]
    await alice.zos("network", "invite", "home", "somebody")

    async def newer() -> bool:
        said = [await stage.network_of(node, "home") for node in ("n1", "n2")]
        return all(network.get("version", 0) > version for network in said)

    # Longer than the longest wait between two tries (NODE-025).
    await until(newer, "the new version arrives", within_s=120)


@asynccontextmanager
async def _conversation(stage: Scene, here: Workload, there: Workload) -> AsyncIterator:
    """One TCP connection through the overlay: `await say(words)` sends them and gets them back."""
    loop, port = asyncio.get_running_loop(), 7008
    with stage.lab.node(there.at).in_netns(there.netns):
        listener = scene.bound(there.v4, port)
    with stage.lab.node(here.at).in_netns(here.netns):
        client = scene.bound(here.v4, 0)
    with listener, client:
        listener.listen()
        _, (server, _) = await asyncio.gather(
            loop.sock_connect(client, (there.v4, port)), loop.sock_accept(listener)
        )
        with server:

            async def say(words: bytes) -> None:
                async with asyncio.timeout(scene.PATIENCE_S):
                    await loop.sock_sendall(client, words)
                    assert await loop.sock_recv(server, 100) == words
                    await loop.sock_sendall(server, words)
                    assert await loop.sock_recv(client, 100) == words

            yield say


async def _things(stage: Scene, netns: str) -> list[object]:
    """What would be another one if it had been made anew."""
    node = stage.lab.node("n1")
    links = await stage.shell("n1", "ip -o link | cut -d' ' -f1,2", netns=netns)
    pin = node.path(f"/run/netns/{netns}").stat().st_ino
    return [links, pin, sorted(scene.wireguard_processes(node).items())]


async def _has_nothing_to_do(stage: Scene) -> bool:
    plan = await stage.read("n1", "/v1/plan")
    return plan.get("changes") == []


async def _is_up(stage: Scene) -> bool:
    return (await stage.network_of("n1", "home")).get("state") == "up"


async def _registry_is(stage: Scene, state: str) -> bool:
    status = await stage.read("n1")
    return bool(status) and status["registry"]["state"] == state
