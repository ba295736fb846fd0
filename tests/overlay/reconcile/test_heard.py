"""Where peers were heard outlives the devices (NODE-048)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from overlay.addressing import netns_name, parse_endpoint
from overlay.model import CandidateKind, Endpoint, WgPeer, WgPublicKey
from overlay.peers.cache import open_cache
from overlay.reconcile.heard import MAX_HEARD, Heard
from tests import fake_machine
from tests.fake_machine import FakeMachine
from tests.node_world import (
    HOME,
    OWN,
    FakeRegistry,
    RunningNode,
    World,
    device,
    real_public,
    running,
)

pytestmark = pytest.mark.blocking  # SQLite and key files

HERE = parse_endpoint("192.0.2.1:51820")
THERE = parse_endpoint("203.0.113.9:4711")
N2 = device("n2").public_key


def peer(node: RunningNode) -> WgPeer | None:
    found = node.device()
    return None if found is None else found.peers.get(N2)


def is_heard(node: RunningNode, endpoint: Endpoint) -> None:
    """The device learnt by a handshake where the peer is."""
    link = node.machine.pinned[netns_name(HOME)].links["wg0"]
    assert link.device is not None
    now = int(node.clock.now().timestamp())
    link.device.peers[N2] = msgspec.structs.replace(
        link.device.peers[N2], endpoint=endpoint, latest_handshake=now
    )


async def test_a_node_that_lost_its_devices_begins_where_hidden_peers_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_machine, "fake_public", real_public)
    monkeypatch.setattr("overlay.reconcile.schedule.LOOK_MIN_S", 0.02)
    world, registry = World(), FakeRegistry()
    hidden = world.member("n2", 2, endpoints=("10.99.0.7:51820",), kind=CandidateKind.LOCAL)
    async with running(tmp_path, registry=registry, endpoints=(HERE,)) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), hidden)
        await node.until(lambda: peer(node), "a peer")
        is_heard(node, THERE)
        heard = node.loop.machine.heard
        await node.until(lambda: heard.of(HOME) == {N2: THERE}, "a record")
    registry.down = True
    machine = FakeMachine()
    async with running(tmp_path, registry=registry, machine=machine, endpoints=(HERE,)) as node:
        found = await node.until(lambda: peer(node), "the peer again")
        assert found.endpoint == THERE
        registry.down = False
        registry.send(world.network("own", "n2", version=2, deleted=True))
        await node.until(lambda: not node.loop.loops, "the network's end")
        assert node.loop.machine.heard.of(HOME) == {}


def test_what_was_heard_is_kept_bounded_and_is_a_hint(tmp_path: Path) -> None:
    many = {WgPublicKey(n.to_bytes(32, "big")): THERE for n in range(MAX_HEARD + 1)}
    with open_cache(tmp_path / "node.db") as cache:
        heard = Heard(cache)
        assert heard.of(HOME) == {}
        heard.keep(HOME, many)
        assert len(heard.of(HOME)) == MAX_HEARD
        heard.keep(HOME, {N2: parse_endpoint("[2001:db8::9]:7")})
        assert heard.of(HOME) == {N2: parse_endpoint("[2001:db8::9]:7")}
        for damaged in ("{", "[]", '{"zz": "192.0.2.1:1"}', '{"00": "nowhere"}'):
            cache.set_setting(f"heard/{HOME}", damaged)
            assert heard.of(HOME) == {}
