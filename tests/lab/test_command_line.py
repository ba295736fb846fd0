"""Commands on nodes that run: what they say about a live network, and what they leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from netlab.fleet.fleet import ZOS, Fleet, Person
from netlab.lab import Lab
from netlab.process import Completed
from netlab.topology import Node, Topology
from overlay.keys.wireguard import WireGuardKey, format_key

TOPOLOGY = Topology(name="commands", nodes=(Node("registry"), Node("desk"), Node("n1"), Node("n2")))
PATIENCE_S = 60.0
# The first packet of a workload may be lost: its link has just come up.
UNTIL_ANSWERED = "until ping -c 1 -W 2 10.1.2.1; do :; done"
JOB = ("sleep", str(360_000 + os.getpid()))  # of this run: all labs' processes are seen


class Town:
    """Two nodes in one network, and its owner."""

    def __init__(self, fleet: Fleet, alice: Person) -> None:
        self.fleet = fleet
        self.alice = alice

    async def zos(self, node: str, *argv: str) -> Completed:
        return await self.fleet.lab.node(node).run(ZOS, *argv, check=False, timeout_s=60)

    async def json(self, node: str, *argv: str) -> Any:
        return json.loads((await self.zos(node, *argv, "--json")).stdout)

    async def workloads(self, node: str) -> list[str]:
        (network,) = (await self.json(node, "status"))["networks"]
        return [workload["name"] for workload in network["attachments"]]


@pytest.fixture
async def town(lab: Callable[[Topology], Awaitable[Lab]]) -> Town:
    fleet = Fleet(await lab(TOPOLOGY))
    await fleet.start_registry()
    operator, farm = await fleet.operator()
    alice = await fleet.tenant("alice")
    await alice.zos(
        "network", "create", "home", "--range", "10.1.0.0/16", "--registry", fleet.registry
    )
    for name in ("n1", "n2"):
        addresses = map(str, fleet.lab.node(name).addresses)
        declared = (word for address in addresses for word in ("--endpoint", address))
        await fleet.start_node(name, "--farm", farm, *declared)
        await operator.zos("farm", "add-node", "basement", fleet.node_ids[name], "--as", name)
        await alice.zos("network", "add-node", "home", fleet.node_ids[name], "--as", name)
    for name, peer in (("n1", "n2"), ("n2", "n1")):
        await fleet.zos(name, "wait", "home", "--peer", peer)
    return Town(fleet, alice)


async def test_what_commands_say_of_a_live_network(town: Town) -> None:
    for family, address in (("-4", "10.1.2.1"), ("-6", None)):
        pinged = await town.zos("n1", "ping", "n2", family, "-c", "1")
        assert pinged.returncode == 0
        assert pinged.text.startswith("pong from n2 (")
        assert " direct in " in pinged.text
        assert address is None or address in pinged.text

    status = await town.zos("n1", "status")
    assert "active; direct " in status.text

    assert (await town.zos("n1", "why", "n1", "n2", "tcp/80")).returncode == 0
    nobody = await town.json("n1", "why", "n2", "10.1.1.99")
    assert nobody["refusal"]["name"] == "workload"  # CLI-030

    silent = await town.zos("n1", "ping", "10.1.2.99", "-c", "1", "--timeout", "1s")
    assert (silent.returncode, "no answer from n2" in silent.stderr.decode()) == (1, True)

    shown = await town.alice.zos("network", "show", "home")
    assert [member["state"] for member in shown["members"]] == ["ok", "ok"]

    assert (await town.zos("n1", "doctor")).returncode == 0
    assert (
        await town.zos("n1", "wait", "home", "--peer", "n9", "--timeout", "0.1s")
    ).returncode == 3


async def test_plan_shows_kernel_changes_before_they_are_made(town: Town) -> None:
    fleet = town.fleet
    # The owner's file on a node of the network: the draft is planned against its kernel.
    path = f"{town.alice.home}/networks/home.toml"
    key = format_key(WireGuardKey(b"k" * 32).public_key)
    device = f'\n[access.laptop]\npublic_key = "{key}"\nindex = 9\nvia = "n1"\n'
    draft = town.alice.at.path(path).read_text() + device
    fleet.lab.node("n1").path("/var/lib/zos/draft.toml").write_text(draft)

    planned = await town.json("n1", "network", "plan", "/var/lib/zos/draft.toml")

    assert planned["at"] == "kernel"
    assert any("10.1.9.0/24" in change["change"] for change in planned["changes"])
    assert "10.1.9.0/24" not in (await town.zos("n1", "status", "--json")).text


async def test_exec_is_a_workload_for_as_long_as_it_runs(town: Town) -> None:  # CLI-040
    done = await town.zos("n1", "exec", "home", "--", "sh", "-c", f"{UNTIL_ANSWERED} && exit 7")

    assert (done.returncode, b"1 received" in done.stdout) == (7, True)
    assert await town.workloads("n1") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_exec_leaves_nothing_however_it_ends(town: Town, number: signal.Signals) -> None:
    node = town.fleet.lab.node("n1")
    process = await node.spawn(ZOS, "exec", "home", "--name", "job", "--", *JOB, log="exec")
    await until(lambda: has(town, "job"))

    process.kill(number)
    code = await process.wait()

    assert code == -number or number != signal.SIGKILL
    await until(lambda: lacks(town, "job"))
    await until(lambda: has_ended(town, " ".join(JOB)))


async def test_clean_leaves_nothing_with_or_without_the_process(town: Town) -> None:
    running = await town.zos("n1", "node", "clean", "--yes")
    assert running.returncode == 4

    await town.fleet.stop_node("n1", signal.SIGKILL)
    cleaned = await town.json("n1", "node", "clean", "--yes")
    node = town.fleet.lab.node("n1")

    assert len(cleaned["removed"]) == 1
    assert list(node.path("/run/netns").iterdir()) == []
    assert not node.path("/run/zos/node.sock").exists()
    assert (await town.json("n1", "node", "clean", "--yes"))["removed"] == []
    links = await node.run("ip", "-o", "link")
    assert all(": w-" not in line for line in links.text.splitlines())


async def has(town: Town, name: str) -> bool:
    return name in await town.workloads("n1")


async def has_ended(town: Town, command: str) -> bool:
    shown = await town.fleet.lab.node("n1").run("pgrep", "-f", f"^{command}$", check=False)
    return shown.stdout == b""


async def lacks(town: Town, name: str) -> bool:
    return not await has(town, name)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns when it holds; fails when it does not come to hold."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what changes is another process
            await asyncio.sleep(0.05)
