"""What a node says about itself: health that names what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from overlay.documents.devices import NextDevice
from overlay.errors import Unavailable
from overlay.keys.identity import Kind
from overlay.reconcile import workloads
from tests import fake_machine
from tests.fake_machine import FakeMachine, FakeWireGuard
from tests.node_world import (
    FARMER,
    HOME,
    OWN,
    START,
    FakeRegistry,
    World,
    device,
    identity,
    real_public,
    running,
)
from zos_core.report.facts import Facts
from zos_core.report.status import read_status

pytestmark = pytest.mark.blocking  # SQLite and key files

FACTS = Facts(datetime(2026, 1, 1, tzinfo=UTC), "kernel", None, "/var/lib/zos", None)


@pytest.mark.parametrize("farm", [FARMER.id, None])
async def test_a_node_that_waits_for_its_farm_says_what_the_operator_runs(
    tmp_path: Path, farm: str | None
) -> None:
    # NODE-003
    async with running(tmp_path, farm=farm) as node:
        status = await read_status(node.loop, FACTS)
    remedies = [item.remedy for item in status.health if item.code == "farm-waiting"]
    waits = [f"farm operator runs: zos farm add-node FARM {OWN.id}"]
    assert remedies == (waits if farm else [])


async def test_a_node_that_its_farm_lists_waits_for_nobody(tmp_path: Path) -> None:
    registry = FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        registry.send(World().farm(OWN))
        await node.until(lambda: node.loop.farm is not None, "the farm")
        status = await read_status(node.loop, FACTS)
    assert "farm-waiting" not in {item.code for item in status.health}


async def test_a_device_that_does_not_answer_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        raise Unavailable("wireguard-go does not answer")

    registry, world = FakeRegistry(), World()
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        monkeypatch.setattr(FakeWireGuard, "read", hang)
        status = await read_status(node.loop, FACTS)
    assert [peer.name for network in status.networks for peer in network.peers] == ["n2"]


async def test_a_workload_that_is_gone_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_machine, "fake_public", real_public)
    machine, registry, world = FakeMachine(), FakeRegistry(), World()
    machine.workloads["/w/a"] = machine.new_netns()
    async with running(tmp_path, registry=registry, machine=machine) as node:
        registry.send(world.farm(OWN), world.network("own"))
        await node.until(node.device, "a device")
        loop = node.loop.loops[HOME]
        await workloads.attach(loop, node.cache, name="a", netns="/w/a", link="eth0")
        del machine.workloads["/w/a"]
        registry.send(world.network("own", "n2", version=2))
        await node.until(lambda: loop.passes.unreachable, "the workload is missed")
        status = await read_status(node.loop, FACTS)
    remedies = [item.remedy for item in status.health if item.code == "workload-unreachable"]
    assert remedies == ["zos detach home a"]


async def test_a_key_that_is_replaced_is_shown_with_the_next_and_peers_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLI-064
    monkeypatch.setattr(fake_machine, "fake_public", real_public)
    registry, world = FakeRegistry(), World()
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        (network,) = (await read_status(node.loop, FACTS)).networks
        assert network.key is not None
        assert (network.key.made_at, network.key.held_back) == (START, "")
        days = (network.key.rotates_at - START).days
        assert 24 <= days <= 30
        at = node.loop.rotating.begin(node.loop.loops[HOME])
        signers = (identity(Kind.NODE, "n2"), device("n2"), device("next"))
        coming = NextDevice(device("next").id, at)
        registry.send(world.member("n2", 2, version=2, next_device=coming, signers=signers))
        await node.until(lambda: len(node.peers()) == 2, "its next key")
        (network,) = (await read_status(node.loop, FACTS)).networks
        assert network.key.takes_over_at == datetime.fromtimestamp(at, UTC)
        assert network.key.next_public_key not in (None, network.public_key)
        assert [peer.name for peer in network.peers] == ["n2"]


async def test_why_nobody_answers_for_names_is_said_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # DNS-028, DNS-029
    monkeypatch.setattr(fake_machine, "fake_public", real_public)
    world, registry, machine = World(), FakeRegistry(), FakeMachine()
    machine.no_names = Unavailable("there is no dnsmasq", remedy="apt-get install dnsmasq-base")
    async with running(tmp_path, registry=registry, machine=machine) as node:
        registry.send(world.farm(OWN), world.network("own"))
        await node.until(lambda: node.loop.answering.answers, "an attempt")
        status = await read_status(node.loop, FACTS)
        (network,) = status.networks
        assert network.names is not None
        assert (network.names.state, network.names.domain) == ("failed", "home.zos")
        told = {item.code: item for item in status.health}["names-failed"]
        assert (told.severity, told.remedy) == ("warning", "apt-get install dnsmasq-base")
        machine.no_names = None
        await node.until(lambda: machine.names, "a name server")
        await node.until(lambda: node.loop.answering.answers[HOME].is_served, "names")
        status = await read_status(node.loop, FACTS)
    assert "names-failed" not in {item.code for item in status.health}
    assert status.networks[0].names is not None
    assert status.networks[0].names.state == "serving"
