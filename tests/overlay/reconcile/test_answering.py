"""What name servers are told, and when (DNS-020 .. DNS-028)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest

from overlay.addressing import netns_name
from overlay.documents.exits import ExitService
from overlay.documents.names import WorkloadName
from overlay.errors import Unavailable
from overlay.peers.cache import StoredAttachment
from overlay.reconcile.answering import usable_resolvers
from tests import fake_machine
from tests.fake_machine import FakeMachine
from tests.node_world import HOME, OWN, FakeRegistry, RunningNode, World, real_public, running

pytestmark = pytest.mark.blocking  # SQLite and key files

NETNS = netns_name(HOME)


@pytest.fixture(autouse=True)
def _real_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_machine, "fake_public", real_public)


def hosts(node: RunningNode) -> dict[str, str]:
    """What the name server calls which IPv4 address."""
    served = node.machine.names.get(NETNS)
    lines = served.hosts.splitlines() if served is not None else []
    return {
        name: address
        for address, *called in map(str.split, lines)
        for name in called
        if ":" not in address
    }


async def test_names_are_served_once_the_network_is_up(tmp_path: Path) -> None:  # DNS-020
    world, registry = World(), FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        registry.send(
            world.farm(OWN),
            world.network("own", "n2"),
            world.member("n2", 2, workloads=(WorkloadName("web", 2),)),
        )
        await node.until(lambda: "web.home.zos" in hosts(node), "the name")
        assert hosts(node) == {
            "own.home.zos": "10.1.1.1",
            "n2.home.zos": "10.1.2.1",
            "web.home.zos": "10.1.2.2",
            "web.n2.home.zos": "10.1.2.2",
        }
        assert node.machine.names[NETNS].addresses[0] == "10.1.1.1"
        assert node.machine.names[NETNS].resolvers == ()
        answers = node.loop.answering.answers[HOME]
        assert (answers.is_served, answers.names, answers.domain) == (True, 3, "home.zos")


async def test_a_workload_that_comes_or_goes_elsewhere_is_other_names_and_no_pass(
    tmp_path: Path,
) -> None:  # DNS-021
    world, registry = World(), FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(lambda: "n2.home.zos" in hosts(node), "names")
        await node.quiet()
        said = (WorkloadName("web", 2),)
        registry.send(world.member("n2", 2, version=2, workloads=said))
        await node.until(lambda: "web.home.zos" in hosts(node), "the workload")
        registry.send(world.member("n2", 2, version=3))
        await node.until(lambda: "web.home.zos" not in hosts(node), "no workload")


async def test_our_own_workloads_have_names_before_others_hear_of_them(tmp_path: Path) -> None:
    # DNS-021
    world, registry = World(), FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own"))
        await node.until(lambda: "own.home.zos" in hosts(node), "names")
        loop = node.loop.loops[HOME]
        loop.attachments = (StoredAttachment(HOME, "db", "/run/netns/db", "eth0", 7),)
        loop.changed()
        await node.until(lambda: hosts(node).get("db.home.zos") == "10.1.1.7", "its name")


async def test_who_is_no_member_has_no_name(tmp_path: Path) -> None:  # DNS-010
    world, registry = World(), FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        said = (WorkloadName("web", 2),)
        registry.send(
            world.farm(OWN),
            world.network("own", "n2"),
            world.member("n2", 2),
            world.member("stranger", 9, workloads=said),
        )
        await node.until(lambda: "n2.home.zos" in hosts(node), "names")
        await node.quiet()
        assert not {"stranger.home.zos", "web.home.zos"} & hosts(node).keys()


async def test_a_network_works_without_a_name_server_which_is_tried_again(tmp_path: Path) -> None:
    # DNS-028
    world, registry, machine = World(), FakeRegistry(), FakeMachine()
    machine.no_names = Unavailable("there is no dnsmasq", remedy="install it")
    async with running(tmp_path, registry=registry, machine=machine) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        found = node.loop.answering.answers
        await node.until(lambda: HOME in found and found[HOME].error, "why there are no names")
        await node.until(node.peers, "a peer")
        assert not found[HOME].is_served
        machine.no_names = None
        await node.until(lambda: found[HOME].is_served, "names")
        assert found[HOME].error is None


async def test_one_that_ends_is_started_again(tmp_path: Path) -> None:  # DNS-025
    world, registry = World(), FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own"))
        await node.until(lambda: hosts(node), "names")
        del node.machine.names[NETNS]
        node.machine.on_name_server_end(NETNS)
        await node.until(lambda: hosts(node), "names again")


async def test_names_go_with_the_network(tmp_path: Path) -> None:  # DNS-027
    world, registry = World(), FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own"))
        await node.until(lambda: hosts(node), "names")
        registry.send(world.network("own", version=2, deleted=True))
        await node.until(lambda: HOME not in node.loop.loops, "no network")
        await node.until(lambda: not node.machine.names, "no name server")
        await node.until(lambda: HOME not in node.loop.answering.answers, "nothing on record")


async def test_names_of_a_large_network_are_not_written_down_all_the_time(tmp_path: Path) -> None:
    # DNS-021
    world, registry = World(), FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"))
        await node.until(lambda: hosts(node), "names")
        await node.quiet()
        answers = node.loop.answering.answers[HOME]
        answers.next_at = asyncio.get_running_loop().time() + 3_600
        registry.send(world.member("n2", 2, workloads=(WorkloadName("web", 2),)))
        await node.until(node.peers, "the member")
        del node.machine.names[NETNS]
        node.machine.on_name_server_end(NETNS)
        await node.until(lambda: hosts(node), "the same names")
        assert "web.home.zos" not in hosts(node)
        answers.next_at = 0.0
        node.machine.on_name_server_end(NETNS)
        await node.until(lambda: "web.home.zos" in hosts(node), "the name")


@pytest.mark.parametrize(
    ("families", "usable"),
    [
        ((4,), ("192.0.2.53",)),
        ((6,), ("2001:db8::53",)),
        ((4, 6), ("192.0.2.53", "2001:db8::53")),
    ],
)
def test_resolvers_are_of_a_family_that_the_exit_lets_out(
    families: tuple[Literal[4, 6], ...], usable: tuple[str, ...]
) -> None:  # DNS-022
    said = ExitService(("198.51.100.1",), families, ("192.0.2.53", "2001:db8::53"))
    assert usable_resolvers(said) == usable
    assert usable_resolvers(None) == ()
