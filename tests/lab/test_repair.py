"""Whatever somebody deletes by hand in a tenant netns comes back by itself, and it is said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import pytest
import pytest_asyncio

from netlab.lab import Lab
from tests.lab import scene
from tests.lab.scene import Answer, Scene, Workload, measured, until

# One scene for all: whatever was deleted before must not matter.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done by hand, in the tenant netns or around it, and a word of its repair."""

    script: str
    says: str
    inside: bool = True


DAMAGES = {
    "wg0": Damage("ip link del wg0", "device"),
    "br0": Damage("ip link del br0", "br0"),
    "address-v4": Damage("ip addr del {gateway_v4}/24 dev br0", "{gateway_v4}/24"),
    "address-v6": Damage("ip addr del {gateway_v6}/64 dev br0", "{gateway_v6}/64"),
    "route-v4": Damage("ip route del {range_v4}", "{range_v4}"),
    "route-v6": Damage("ip -6 route del {range_v6}", "{range_v6}"),
    "nft-filter": Damage("nft delete table inet zos", "firewall"),
    "nft-antispoofing": Damage("nft delete table bridge zos", "firewall"),
    "nft-rule": Damage("nft flush chain inet zos input", "firewall"),
    "peer": Damage("wg set {birth} peer {peer} remove", "peer", inside=False),
    "port": Damage("ip link del p-2", "workload"),
    "wg0-down": Damage("ip link set wg0 down", "wg0"),
    "wireguard-process": Damage(
        "kill -9 $(pgrep -f 'wireguard-go {birth}$')", "device", inside=False
    ),
    "netns-pin": Damage(
        "umount -l /run/netns/{netns} && rm /run/netns/{netns}", "netns", inside=False
    ),
    "netns-and-all-in-it": Damage(
        "for link in wg0 br0 p-2; do ip -n {netns} link del $link; done"
        " && umount -l /run/netns/{netns} && rm /run/netns/{netns}",
        "netns",
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


@pytest.mark.timeout(90)
@pytest.mark.parametrize("what", DAMAGES)
async def test_what_is_deleted_by_hand_is_repaired_and_shown(town, what):
    stage, damage = town.stage, DAMAGES[what]
    before = await stage.read("n1")
    network = next(n for n in before["networks"] if n["name"] == "home")
    values = {**network, "birth": network["netns"].replace("n-", "w-", 1)}
    values["peer"] = network["peers"][0]["public_key"]
    state = await stage.dump("n1", network["netns"])
    seen = {_key(repair) for repair in before["repairs"]}

    began = (await stage.read("n1"))["at"]
    netns = network["netns"] if damage.inside else ""
    await stage.shell("n1", damage.script.format(**values), netns=netns)
    word = damage.says.format(**values)

    async def repairs() -> list[Answer]:
        status = await stage.read("n1")
        found = [r for r in status["repairs"] if _key(r) not in seen]
        return found if any(word in repair["what"] for repair in found) else []

    found = await until(repairs, f"a repair that speaks of {word!r}")
    took_s = max(_moment(repair["at"]) for repair in found) - _moment(began)
    measured(damage=what, repaired_in_s=round(took_s, 3), by=found[0]["by"], repairs=len(found))
    for repair in found:
        assert repair["network"] == network["id"]
        assert repair["by"] in ("notification", "poll"), repair  # nobody waited for the full pass
    # Everything is as it was: kernel state, plan, traffic of the workloads in both families.
    await until(lambda: _is_as_before(stage, network["netns"], state), "the netns is as before")
    assert (await stage.read("n1", "/v1/plan"))["changes"] == []
    await stage.until_all_reach(town.workloads)


@pytest.mark.timeout(60)
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
    log = (stage.lab.node("n1").directory / "node.log").read_text()
    assert any("repaired" in line and network["range_v4"] in line for line in log.splitlines())


async def _is_as_before(stage: Scene, netns: str, state: str) -> bool:
    return await stage.dump("n1", netns) == state


def _key(repair: Answer) -> tuple[str, str]:
    return repair["at"], repair["what"]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
