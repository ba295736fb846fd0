"""Who greets whom, and who once more (decision 0005, NODE-047)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from overlay.addressing import parse_endpoint
from overlay.model import CandidateKind, PeerTraffic, WgDevice, WgPublicKey
from overlay.reconcile.greeting import (
    AGAIN_S,
    GREETING_S,
    MAX_GREETED_PEERS,
    MAX_GREETINGS,
    Again,
    Greetings,
)
from tests import fake_machine
from tests.fake_machine import FakeWireGuard
from tests.node_world import HOME, OWN, FakeRegistry, World, device, real_public, running

pytestmark = pytest.mark.blocking  # SQLite and key files

OURS, THEIRS = WgPublicKey(b"a" * 32), WgPublicKey(b"z" * 32)
CROWD = [f"n{number}" for number in range(2, 12)]
LOOKS = 4


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overlay.reconcile.schedule.LOOK_MIN_S", 0.02)


def begun(*keys: WgPublicKey) -> Greetings:
    """At time 0, where it is ours to begin with OURS only."""
    greetings = Greetings(lambda key: key == OURS)
    greetings.add(keys)
    assert greetings.begin(peers=len(keys), now=0.0) == tuple(k for k in keys if k == OURS)
    return greetings


class TestGreetings:
    def test_who_begins_greets_anew_until_somebody_answers(self) -> None:
        greetings = begun(OURS)
        assert greetings.due == GREETING_S
        assert greetings.look({OURS: 0}, now=GREETING_S / 2) == Again()
        now = GREETING_S
        for _ in range(3):
            assert greetings.look({OURS: 0}, now=now) == Again((OURS,), (OURS,))
            assert greetings.due == now + AGAIN_S
            now += AGAIN_S
        assert greetings.look({}, now=now) == Again()
        assert greetings.due is None

    def test_who_does_not_begin_sends_one_packet_when_it_heard_nothing(self) -> None:
        greetings = begun(THEIRS)
        assert greetings.look({THEIRS: 0}, now=GREETING_S) == Again((), (THEIRS,))
        assert greetings.due is None

    def test_an_answer_on_its_way_is_waited_for(self) -> None:
        greetings = begun(OURS)
        assert greetings.look({OURS: 148}, now=GREETING_S) == Again()
        assert greetings.look({OURS: 148}, now=GREETING_S + AGAIN_S / 2) == Again()
        # Two that began at once wait for each other: this one ends it.
        assert greetings.look({OURS: 148}, now=GREETING_S + AGAIN_S) == Again((OURS,), (OURS,))
        assert greetings.look({OURS: 92}, now=GREETING_S + 2 * AGAIN_S) == Again()

    def test_who_never_answers_is_left_to_wireguard_in_the_end(self) -> None:
        greetings, now, times = begun(OURS), GREETING_S, 1
        while greetings.due is not None:
            times += len(greetings.look({OURS: 0}, now=now).anew)
            now += AGAIN_S
        assert times == MAX_GREETINGS

    def test_a_large_network_greets_nobody(self) -> None:
        for peers, greeted in ((MAX_GREETED_PEERS, (OURS,)), (MAX_GREETED_PEERS + 1, ())):
            greetings = Greetings(lambda _: True)
            greetings.add([OURS])
            assert greetings.begin(peers=peers, now=0.0) == greeted
            assert (greetings.due is None) == (not greeted)


@pytest.mark.parametrize("public", [True, False])
async def test_only_who_begins_takes_a_peer_off_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, public: bool
) -> None:
    """Of two that can be reached the lower key begins; of one that cannot, that one.

    A public node that forgot a hidden one's session could not reach it, and would not be asked.
    """
    monkeypatch.setattr(fake_machine, "fake_public", real_public)
    dropped: Counter[WgPublicKey] = Counter()
    looks = 0
    write, read = FakeWireGuard.write, FakeWireGuard.read

    async def count_drops(wireguard: FakeWireGuard, ref: Any, **options: Any) -> None:
        dropped.update(options.get("drop", ()))
        await write(wireguard, ref, **options)

    async def count_looks(wireguard: FakeWireGuard, ref: Any) -> WgDevice | None:
        nonlocal looks
        looks += 1
        return await read(wireguard, ref)

    monkeypatch.setattr(FakeWireGuard, "write", count_drops)
    world, registry = World(), FakeRegistry()
    hidden = world.member("n12", 12, endpoints=("10.99.0.7:51820",), kind=CandidateKind.LOCAL)
    members = [world.member(name, index) for index, name in enumerate(CROWD, 2)]
    keys = {device(name).public_key for name in (*CROWD, "n12")}
    declared = (parse_endpoint("192.0.2.1:51820"),) if public else ()
    async with running(tmp_path, registry=registry, endpoints=declared) as node:
        names = ("own", *CROWD, "n12")
        registry.send(world.farm(OWN), world.network(*names), *members, hidden)
        await node.until(lambda: node.peers() == keys, "the peers")
        own = node.loop.loops[HOME].device_key.public_key
        lower_than = {key for key in keys if own < key}
        theirs = {device("n12").public_key}
        begins = lower_than - theirs if public else (keys - theirs) | (lower_than & theirs)
        await node.until(lambda: dropped.keys() >= begins, "another greeting")
        await node.until(lambda: node.peers() == keys, "the peers again")
        monkeypatch.setattr(FakeWireGuard, "read", count_looks)
        await node.until(lambda: looks >= LOOKS, "more looks")
        await node.until(lambda: node.peers() == keys, "the peers still")
        assert not node.loop.journal.repairs
    assert dropped.keys() == begins


async def test_a_peer_that_was_heard_is_not_taken_off_its_device_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handshake is in the air: it may hold a session already that we would forget."""
    monkeypatch.setattr(fake_machine, "fake_public", real_public)
    monkeypatch.setattr("overlay.reconcile.greeting.AGAIN_S", 1_000.0)
    dropped: set[WgPublicKey] = set()
    asked = 0
    write = FakeWireGuard.write

    async def note_drops(wireguard: FakeWireGuard, ref: Any, **options: Any) -> None:
        dropped.update(options.get("drop", ()))
        await write(wireguard, ref, **options)

    async def heard(_wireguard: FakeWireGuard, _ref: Any) -> dict[WgPublicKey, PeerTraffic]:
        nonlocal asked
        asked += 1
        return {device(name).public_key: PeerTraffic(148, 92) for name in CROWD}

    monkeypatch.setattr(FakeWireGuard, "write", note_drops)
    monkeypatch.setattr(FakeWireGuard, "read_traffic", heard)
    world, registry = World(), FakeRegistry()
    members = [world.member(name, index) for index, name in enumerate(CROWD, 2)]
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", *CROWD), *members)
        await node.until(lambda: asked >= LOOKS, "a few looks")
    assert dropped == set()


async def test_a_greeting_is_counted_from_nothing(tmp_path: Path) -> None:
    """A peer put back has sent nothing, so its endpoint gives way no later (NODE-042)."""
    world, registry = World(), FakeRegistry()
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        goals, key = node.loop.loops[HOME].goals, device("n2").public_key
        path = goals.path(key)
        assert path is not None
        goals._paths[key] = type(path)(path.candidates, sent_bytes=444)
        goals.forget_traffic([key])
        assert goals.path(key) == type(path)(path.candidates)
