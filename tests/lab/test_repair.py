"""Whatever somebody deletes by hand in a tenant netns comes back by itself, and it is said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import pytest
import pytest_asyncio

from netlab.lab import Lab
from netlab.process import CommandFailed
from tests.lab import scene
from tests.lab.scene import Answer, Scene, Workload, measured, until

TRIES = 3

# One scene for all: whatever was deleted before must not matter.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done by hand, in the tenant netns or around it, and how its repair begins."""

    script: str
    says: str
    inside: bool = True


DAMAGES = {
    "wg0": Damage("ip link del wg0", "+ WireGuard device"),
    "br0": Damage("ip link del br0", "+ bridge br0"),
    "address-v4": Damage("ip addr del {gateway_v4}/24 dev br0", "+ address {gateway_v4}/24"),
    "address-v6": Damage("ip addr del {gateway_v6}/64 dev br0", "+ address {gateway_v6}/64"),
    "route-v4": Damage("ip route del {range_v4}", "+ route {range_v4}"),
    "route-v6": Damage("ip -6 route del {range_v6}", "+ route {range_v6}"),
    "nft-filter": Damage("nft delete table inet zos", "~ firewall"),
    "nft-antispoofing": Damage("nft delete table bridge zos", "~ firewall"),
    "nft-rule": Damage("nft flush chain inet zos input", "~ firewall"),
    "peer": Damage("wg set {birth} peer {peer} remove", "+ peer", inside=False),
    "port": Damage("ip link del p-2", "+ workload"),
    "wg0-down": Damage("ip link set wg0 down", "~ link wg0: up"),
    "wireguard-process": Damage(
        "kill -9 $(pgrep -f 'wireguard-go {birth}$')", "+ WireGuard device", inside=False
    ),
    "netns-pin": Damage(
        "umount -l /run/netns/{netns} && rm /run/netns/{netns}", "+ netns", inside=False
    ),
    "netns-and-all-in-it": Damage(
        "for link in wg0 br0 p-2; do ip -n {netns} link del $link; done"
        " && umount -l /run/netns/{netns} && rm /run/netns/{netns}",
        "+ netns",
        inside=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Town:
    stage: Scene
    workloads: list[Workload]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    workdir = tmp_path_factory.mktemp("repair") / "lab"
    async with Lab.create(scene.topology("n1", "n2"), workdir=workdir) as lab:
        stage = await Scene.open(lab)
        await stage.enrol("n1", "n2")
        await stage.create_network("alice", "home", "n1", "n2")
        workloads = [await stage.attach("alice", "home", node) for node in ("n1", "n2")]
        await stage.until_all_reach(workloads)
        yield Town(stage, workloads)
    assert scene.faults(workdir) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", DAMAGES)
async def test_what_is_deleted_by_hand_is_repaired_and_shown(town, what):
    network = await town.stage.network_of("n1", "home")
    state = await town.stage.dump("n1", network["netns"])
    for _ in range(TRIES):
        found = await _repairs_of(town, DAMAGES[what], network)
        assert {repair["network"] for repair in found} == {network["id"]}
        # Everything is as it was: kernel state, plan, traffic of the workloads in both families.
        await until(lambda: _is_as_before(town, network["netns"], state), "the netns is as before")
        await until(lambda: _has_nothing_to_do(town), "an empty plan")
        await town.stage.until_all_reach(town.workloads)
        by = {repair["by"] for repair in found}
        measured(damage=what, repaired_by=sorted(by), repairs=len(found))
        if by <= {"notification", "poll"}:
            return
        # A full pass was due at this very moment.
    raise AssertionError(f"{TRIES} times in a row by {by}: nobody notices {what}")


async def _repairs_of(town: Town, damage: Damage, network: Answer) -> list[Answer]:
    """The damage is done; what was repaired once its own repair is among it."""
    stage = town.stage
    before = await stage.read("n1")
    values = {**network, "birth": network["netns"].replace("n-", "w-", 1)}
    values["peer"] = network["peers"][0]["public_key"]
    seen = {_key(repair) for repair in before["repairs"]}
    netns = network["netns"] if damage.inside else ""
    began = (await stage.read("n1"))["at"]
    await stage.shell("n1", damage.script.format(**values), netns=netns)
    beginning = damage.says.format(**values)

    async def repairs() -> list[Answer]:
        status = await stage.read("n1")
        found = [r for r in status.get("repairs", ()) if _key(r) not in seen]
        return found if any(repair["what"].startswith(beginning) for repair in found) else []

    found = await until(repairs, f"a repair that begins with {beginning!r}")
    took_s = max(_moment(repair["at"]) for repair in found) - _moment(began)
    measured(damage=damage.says, repaired_in_s=round(took_s, 3))
    return list(found)


@pytest.mark.timeout(300)
async def test_repairs_are_in_status_and_in_the_log(town):
    """What, when, and by which pass, for people who were not looking."""
    stage = town.stage
    network = await stage.network_of("n1", "home")
    await stage.shell("n1", "ip route del " + network["range_v4"], netns=network["netns"])

    async def shown() -> list[Answer]:
        status = await stage.fleet.status("n1")
        return [r for r in status["repairs"] if network["range_v4"] in r["what"]]

    repair = (await until(shown, "zos status shows the repair"))[-1]
    assert repair["network"] == network["id"]
    assert datetime.fromisoformat(repair["at"]).tzinfo is not None
    log = stage.lab.node("n1").directory / "node.log"

    async def logged() -> bool:
        lines = log.read_text().splitlines()
        return any("repaired" in line and network["range_v4"] in line for line in lines)

    await until(logged, "the log shows the repair")


async def _is_as_before(town: Town, netns: str, state: str) -> bool:
    with suppress(CommandFailed):  # the netns may have no name at this moment
        return await town.stage.dump("n1", netns) == state
    return False


async def _has_nothing_to_do(town: Town) -> bool:
    plan = await town.stage.read("n1", "/v1/plan")
    return plan.get("changes") == []


def _key(repair: Answer) -> tuple[str, str]:
    return repair["at"], repair["what"]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
