"""Ports that networks publish at this node, from documents to rules (PUB-003 .. PUB-023)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from overlay import addressing
from overlay.documents import trust
from overlay.documents.envelope import Envelope
from overlay.documents.exits import Exit, ExitOffer, Uplink
from overlay.documents.names import WorkloadName
from overlay.documents.published import Published, PublishedState
from overlay.documents.schema import Farm
from overlay.keys.identity import Kind
from overlay.model import Endpoint, NetworkId
from overlay.peers.cache import StoredAttachment
from overlay.reconcile.publishing import HOLDERS
from tests.fake_machine import FakeMachine
from tests.node_world import (
    FARMER,
    HOME,
    OWN,
    OWNERS,
    FakeRegistry,
    RunningNode,
    World,
    identity,
    real_public,
    running,
    signed,
)
from tests.overlay.reconcile.test_exiting import Recorded

pytestmark = pytest.mark.blocking  # SQLite and key files

SHOP = NetworkId(trust.network_id(OWNERS, "shop"))
FIRST, SECOND = sorted((HOME, SHOP))
NAMES = {HOME: "home", SHOP: "shop"}
AT = identity(Kind.NODE, "n1")
HTTP = ("tcp", 8080)
UPLINK = Uplink("macvlan", "eth0", ("203.0.113.2/24", "2001:db8:113::2/64"))


class Stage:
    """This node is an exit of two networks, each with a workload on the node n1."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.world = World()
        self.machine = FakeMachine()
        self.registry = FakeRegistry()

    def farm(self, version: int = 1, *, publish: tuple[str, ...] = ("tcp/8000-8099",)) -> Envelope:
        offer = ExitOffer(OWN.id, UPLINK, ("198.51.100.1",), publish=publish)
        return signed(Farm(FARMER.id, version, "basement", (OWN.id,), exits=(offer,)), FARMER)

    def network(
        self, network: NetworkId, version: int = 1, *, ports: tuple[int, ...] = (8080,)
    ) -> Envelope:
        published = tuple(Published(OWN.id, "tcp", p, AT.id, "web", 80) for p in ports)
        exits = (Exit(OWN.id),)
        name = NAMES[network]
        return self.world.network(
            "own", "n1", version=version, name=name, exits=exits, published=published
        )

    def member(self, network: NetworkId, version: int = 1, *, called: str = "web") -> Envelope:
        workloads = (WorkloadName(called, 2),)
        return self.world.member("n1", 2, version=version, network=network, workloads=workloads)

    def running(self, *envelopes: Envelope, **settings: Any) -> Any:
        self.registry.send(*envelopes)
        return running(self.directory, machine=self.machine, registry=self.registry, **settings)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr("tests.fake_machine.fake_public", real_public)
    # The way out itself is tried in tests/kernel and tests/lab.
    monkeypatch.setattr("overlay.reconcile.node.EgressConfigurator", lambda _: Recorded())
    return Stage(tmp_path)


def states(node: RunningNode) -> dict[tuple[NetworkId, int], str]:
    decided = node.loop.exiting.publishing.decision.decided
    return {(each.claim.network, each.claim.published.port): each.state for each in decided}


async def until_states(node: RunningNode, expected: dict[tuple[NetworkId, int], str]) -> None:
    await node.until(lambda: states(node) == expected, f"{expected}")


def redirects(node: RunningNode, network: NetworkId) -> bool:
    return '"dnat":{' in rules(node, network)


def rules(node: RunningNode, network: NetworkId) -> str:
    loop = node.loop.loops[network]
    desired = loop.desired()
    assert desired is not None
    assert desired.firewall is not None
    return desired.firewall.ruleset


async def test_what_is_open_is_in_the_rules_and_what_members_are_told(stage: Stage) -> None:
    # PUB-003, PUB-010, PUB-020
    documents = (stage.farm(), stage.network(HOME), stage.member(HOME))
    async with stage.running(*documents) as node:
        await until_states(node, {(HOME, 8080): "open"})
        v4 = addressing.address_of(
            addressing.host_address(
                addressing.subnet_v4(addressing.parse_range("10.1.0.0/16"), 2), 2
            )
        )
        assert v4 in rules(node, HOME)
        told = await node.until(
            lambda: (said := stage.registry.last("member")) and said.exit, "what members are told"
        )
        assert told.addresses == ("203.0.113.2", "2001:db8:113::2")
        assert told.publish == ("tcp/8000-8099",)
        assert told.published == (PublishedState("tcp", 8080, "open"),)


async def test_a_workload_that_comes_later_is_led_to_then(stage: Stage) -> None:  # PUB-013
    documents = (stage.farm(), stage.network(HOME), stage.member(HOME, called="db"))
    async with stage.running(*documents) as node:
        await until_states(node, {(HOME, 8080): "no-workload"})
        assert not redirects(node, HOME)
        stage.registry.send(stage.member(HOME, 2))
        await until_states(node, {(HOME, 8080): "open"})
        assert redirects(node, HOME)


async def test_who_holds_a_port_holds_it_after_a_start(stage: Stage) -> None:  # PUB-011
    mine = (stage.network(SECOND), stage.member(SECOND))
    async with stage.running(stage.farm(), *mine) as node:
        await until_states(node, {(SECOND, 8080): "open"})
        stage.registry.send(stage.network(FIRST), stage.member(FIRST))
        expected = {(FIRST, 8080): "taken", (SECOND, 8080): "open"}
        await until_states(node, expected)
    async with stage.running() as node:
        # From disk, before anything is heard of a registry.
        assert states(node) == expected
        await node.quiet()
        assert states(node) == expected
        stage.registry.send(stage.network(SECOND, 2, ports=()))
        await until_states(node, {(FIRST, 8080): "open"})
        assert not redirects(node, SECOND)


async def test_holders_that_make_no_sense_hold_nothing(stage: Stage) -> None:  # PUB-011
    for text in ("[]", "{", '{"tcp/0":"net1"}', '{"tcp/8080":7}'):
        async with stage.running(stage.farm(), stage.network(FIRST), stage.network(SECOND)) as node:
            await node.until(lambda node=node: len(states(node)) == 2, "two claims")
            node.cache.set_setting(HOLDERS, text)
        async with stage.running() as node:
            assert states(node)[FIRST, 8080] == "no-workload"


async def test_what_is_not_offered_any_more_is_open_no_more(stage: Stage) -> None:  # PUB-010
    documents = (stage.farm(), stage.network(HOME), stage.member(HOME))
    async with stage.running(*documents) as node:
        await until_states(node, {(HOME, 8080): "open"})
        stage.registry.send(stage.farm(2, publish=()))
        await until_states(node, {(HOME, 8080): "not-offered"})
        assert not redirects(node, HOME)
        # Without an offer of the exit there is nothing to say; who held the port comes back to it.
        stage.registry.send(stage.farm(3))
        await until_states(node, {(HOME, 8080): "open"})
        stage.registry.send(signed(Farm(FARMER.id, 4, "basement", (OWN.id,)), FARMER))
        await until_states(node, {})
        assert not redirects(node, HOME)
        assert dict(node.loop.exiting.publishing.decision.holders) == {HTTP: HOME}


async def test_what_the_node_is_reached_at_is_not_given_away(stage: Stage) -> None:  # PUB-012
    documents = (stage.farm(publish=("udp/51820",)), stage.network(HOME), stage.member(HOME))
    declared = Endpoint(addressing.parse_address("203.0.113.2"), 51_820)
    published = Published(OWN.id, "udp", 51_820, AT.id, "web", 80)
    network = stage.world.network(
        "own", "n1", version=2, exits=(Exit(OWN.id),), published=(published,)
    )
    async with stage.running(*documents, network, endpoints=(declared,)) as node:
        await until_states(node, {(HOME, 51_820): "reserved"})


async def test_the_node_of_a_workload_lets_in_what_is_published(stage: Stage) -> None:  # PUB-023
    published = (Published(AT.id, "tcp", 8080, OWN.id, "web", 80),)
    network = stage.world.network("own", "n1", exits=(Exit(AT.id),), published=published)
    async with stage.running(stage.farm(), network, stage.member(HOME)) as node:
        await node.until(lambda: HOME in node.loop.loops, "the network")
        await node.quiet()
        before = rules(node, HOME)
        loop = node.loop.loops[HOME]
        loop.attachments = (StoredAttachment(HOME, "web", "/run/netns/web", "eth0", 2),)
        assert rules(node, HOME).count('"right":80') > before.count('"right":80')
        loop.attachments = (msgspec.structs.replace(loop.attachments[0], name="db"),)
        assert rules(node, HOME).count('"right":80') == before.count('"right":80')
