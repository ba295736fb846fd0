"""The machine's own namespace is byte for byte what it was, after everything."""

from __future__ import annotations

import asyncio
import difflib
import signal

import pytest

from tests.lab import scene
from tests.lab.scene import Scene, measured, until

NETWORKS = tuple(f"net{n}" for n in range(10))

# Counters of what is in use right now are no settings; keys of the kernel cannot be read.
_HOST = r"""
exec 2>/dev/null
ip -d link; ip addr; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule
nft list ruleset
cat /etc/resolv.conf /etc/hosts /etc/nsswitch.conf
cat /proc/self/mountinfo
ls /run/netns /etc/netns
find /proc/sys/net -type f ! -name '*_count' ! -name '*_entries' | sort | while read path; do
    echo "$path: $(cat $path)"
done
"""


@pytest.mark.timeout(900)
async def test_host_is_what_it_was_after_ten_networks(lab):  # ARC-007, NODE-007
    stage = await Scene.open(await lab(scene.topology("n1", "n2")))
    for node in ("n1", "n2"):
        for network in NETWORKS:
            await stage.lab.node(node).add_namespace(network)
    before = await stage.shell("n1", _HOST)
    assert "/proc/sys/net/ipv4/ip_forward: 0" in before
    assert "mountinfo" not in before
    assert "/run/netns/net9" in before

    await stage.enrol("n1", "n2")
    alice = await stage.fleet.tenant("alice")
    await asyncio.gather(*(_create(stage, alice, network) for network in NETWORKS))
    reached = 0
    for network in NETWORKS:
        pair = [await _attach(stage, network, node) for node in ("n1", "n2")]
        reached += await stage.until_all_reach(pair)
    during = await stage.shell("n1", _HOST)
    names = [(await stage.network_of("n1", network))["netns"] for network in NETWORKS]
    # Their pins are all that a tenant's network adds to the machine: no link, route, table, sysctl.
    added = [line for line in _difference(before, during) if not any(n in line for n in names)]
    measured(networks=len(NETWORKS), pairs_reached=reached, changed_while_in_use=added)
    assert [line for line in added if not line.startswith(("+d", "-d"))] == []

    for network in NETWORKS:
        await alice.zos("network", "delete", network, "--yes")
    await until(lambda: _has_no_network(stage), "nothing is left", within_s=120)
    after = await stage.shell("n1", _HOST)
    measured(bytes_compared=len(before), different_lines=len(_difference(before, after)))
    assert _difference(before, after) == []
    assert scene.wireguard_processes(stage.lab.node("n1")) == {}

    await stage.fleet.stop_node("n1", signal.SIGTERM)
    await stage.fleet.zos("n1", "node", "clean", "--yes")
    assert _difference(before, await stage.shell("n1", _HOST)) == []


@pytest.mark.timeout(600)
async def test_clean_takes_down_what_a_killed_node_left(lab):
    """`zos node clean` after kill -9: the machine is as before, the identity stays."""
    stage = await Scene.open(await lab(scene.topology("n1")))
    node = stage.lab.node("n1")
    await node.add_namespace("web")
    before = await stage.shell("n1", _HOST)
    await stage.enrol("n1")
    alice = await stage.fleet.tenant("alice")
    for network in NETWORKS[:2]:
        await _create(stage, alice, network, "n1")
    await stage.fleet.zos("n1", "attach", "net0", "web", "--netns", "/run/netns/web")
    await stage.fleet.stop_node("n1", signal.SIGKILL)
    assert len(scene.wireguard_processes(node)) == 2
    # Killed between the two steps of a pin, it leaves a file that is none.
    left = node.path("/run/netns/n-0123456789ab")
    left.touch(0o444)
    kept = node.path("/run/netns/somebody-else-s")
    kept.touch(0o444)
    await stage.fleet.zos("n1", "node", "clean", "--yes")
    assert not left.exists()
    kept.unlink()
    assert scene.wireguard_processes(node) == {}
    assert _difference(before, await stage.shell("n1", _HOST)) == []
    assert "eth0" not in await stage.shell("n1", "ip -o link", netns="web")
    shown = await stage.fleet.zos("n1", "id", "show", "node")
    assert shown["id"] == stage.fleet.node_ids["n1"]


async def _create(stage: Scene, alice, network: str, *nodes: str) -> None:
    registry = ("--registry", stage.fleet.registry)
    owned = ("--range", scene.RANGE, "--owner", "alice")
    await alice.zos("network", "create", network, *owned, *registry)
    for node in nodes or ("n1", "n2"):
        id_ = stage.fleet.node_ids[node]
        await alice.zos("network", "add-node", network, id_, "--as", node)
    await stage.wait_up(network, *(nodes or ("n1", "n2")))


async def _attach(stage: Scene, network: str, node: str) -> scene.Workload:
    path = f"/run/netns/{network}"
    made = await stage.fleet.zos(node, "attach", network, "web", "--netns", path)
    workload = stage.workload("alice", node, network, made["attachment"])
    await scene.serve(stage.lab.node(node), workload)
    return workload


async def _has_no_network(stage: Scene) -> bool:
    said = [await stage.read(node) for node in ("n1", "n2")]
    return all(said) and not any(status["networks"] for status in said)


def _difference(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]
