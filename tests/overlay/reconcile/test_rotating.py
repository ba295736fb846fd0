"""A node replaces its device key, and a peer's is replaced; killed between any two steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from overlay.documents.devices import NextDevice
from overlay.documents.schema import AccessDevice, Member
from overlay.errors import Refused
from overlay.keys import rotation, store, wireguard
from overlay.keys.rotation import DAY_S, Pace
from overlay.keys.wireguard import WireGuardKey
from overlay.model import WgPublicKey
from overlay.peers.cache import Cache
from overlay.reconcile.keyring import Keyring
from tests import fake_machine, node_world
from tests.fake_machine import FakeMachine, FakeWireGuard
from tests.node_world import (
    HOME,
    OWN,
    START,
    FakeClient,
    FakeClock,
    FakeRegistry,
    RunningNode,
    World,
    device,
    identity,
    running,
)

pytestmark = pytest.mark.blocking  # keys and documents are on a real disk

OVERLAP_S = 600
PACE = Pace(interval_s=30 * DAY_S, overlap_s=OVERLAP_S)
PACED = {"rotation": PACE}
NOW = int(START.timestamp())
LAPTOP = AccessDevice(
    "laptop",
    wireguard.format_key(WireGuardKey(node_world.seed("laptop")).public_key),
    9,
    OWN.id,
)


@pytest.fixture(autouse=True)
def real_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_machine, "fake_public", node_world.real_public)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def key(node: RunningNode) -> WgPublicKey:
    return node.loop.loops[HOME].device_key.public_key


def worn(node: RunningNode) -> WgPublicKey | None:
    found = node.device()
    return None if found is None else found.public_key


def said(registry: FakeRegistry) -> Member:
    member = registry.last("member")
    assert isinstance(member, Member)
    return member


def keys_on_disk(directory: Path) -> set[str]:
    return {path.name.removeprefix("n-") for path in (directory / "keys" / "devices").iterdir()}


def wait(node: RunningNode, clock: FakeClock, seconds: float) -> None:
    clock.offset += timedelta(seconds=seconds)
    node.loop.rotating.wake()


async def member_of(
    node: RunningNode, registry: FakeRegistry, world: World, **network: Any
) -> None:
    registry.send(world.farm(OWN), world.network("own", "n2", **network), world.member("n2", 2))
    await node.until(lambda: node.device() and registry.last("member"), "a member")
    await node.until(node.peers, "a peer")
    await node.quiet()


async def until_rested(node: RunningNode, registry: FakeRegistry, former: WgPublicKey) -> None:
    """Another key is in use, and everybody can read so."""

    def is_rested() -> bool:
        found = registry.last("member")
        return (
            worn(node) not in (None, former)
            and found.next_device is None
            and wireguard.wireguard_public_key(found.device) == worn(node) == key(node)
        )

    await node.until(is_rested, "another key")


async def test_a_key_is_announced_then_used_then_named(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # KEY-021
    async with running(tmp_path, registry=registry, clock=clock, rotation=PACE) as node:
        await member_of(node, registry, world)
        former, before = key(node), said(registry)
        at = node.loop.rotating.begin(node.loop.loops[HOME])
        assert at == NOW + OVERLAP_S
        assert node.loop.rotating.begin(node.loop.loops[HOME]) == at  # asking twice
        announced = await node.until(
            lambda: (m := registry.last("member")).next_device and m, "an announcement"
        )
        assert (announced.device, announced.next_device.at) == (before.device, at)
        assert announced.version == before.version + 1
        assert worn(node) == former
        wait(node, clock, OVERLAP_S)
        await until_rested(node, registry, former)
        assert said(registry).device == announced.next_device.device
        assert said(registry).joined == before.joined
        assert len(keys_on_disk(tmp_path)) == 1
        # And it is no repair of anything.
        assert list(node.loop.journal.repairs) == []


async def test_a_key_as_old_as_the_interval_is_replaced_by_itself(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # KEY-020
    async with running(tmp_path, registry=registry, clock=clock, rotation=PACE) as node:
        await member_of(node, registry, world)
        former, loop = key(node), node.loop.loops[HOME]
        due = node.loop.rotating.due_at(loop)
        assert 24 * DAY_S <= due - NOW <= 30 * DAY_S
        wait(node, clock, due - NOW - 1)
        assert node.loop.rotating.make_steps() > 0
        assert loop.next_key is None
        wait(node, clock, 1)
        await node.until(lambda: said(registry).next_device, "an announcement")
        await node.until(
            lambda: node.loop.rotating.record(loop).held_since, "the registry is known to have it"
        )
        wait(node, clock, OVERLAP_S)
        await until_rested(node, registry, former)
        again = node.loop.rotating.due_at(loop)
        assert 24 * DAY_S <= again - due <= 30 * DAY_S  # counted from when the key was made


async def test_peers_are_not_lost_with_the_key_and_a_packet_goes_to_each(
    world: World,
    registry: FakeRegistry,
    clock: FakeClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # KEY-024
    sent: list[str] = []
    monkeypatch.setattr("overlay.reconcile.peering.poke", lambda _, gateways: sent.extend(gateways))
    async with running(tmp_path, registry=registry, clock=clock, rotation=PACE) as node:
        await member_of(node, registry, world)
        former, peers = key(node), dict(node.device().peers)
        hears(node, device("n2").public_key, NOW + OVERLAP_S - 5)
        node.loop.rotating.begin(node.loop.loops[HOME])
        await node.until(lambda: said(registry).next_device, "an announcement")
        sent.clear()
        wait(node, clock, OVERLAP_S)
        await until_rested(node, registry, former)
        assert node.device().peers.keys() == peers.keys()
        assert "10.1.2.1" in sent


async def test_what_the_registry_does_not_have_is_not_used(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # KEY-022
    async with running(tmp_path, registry=registry, clock=clock, rotation=PACE) as node:
        await member_of(node, registry, world)
        former = key(node)
        registry.down = True
        node.loop.rotating.begin(node.loop.loops[HOME])
        first = node.loop.loops[HOME].goals.selection.own_member.next_device
        wait(node, clock, OVERLAP_S)
        again = await node.until(
            lambda: (
                (it := node.loop.loops[HOME].goals.selection.own_member.next_device).at > first.at
                and it
            ),
            "another time",
        )
        assert (again.device, again.at) == (first.device, NOW + 2 * OVERLAP_S)
        assert worn(node) == former


async def test_the_registry_may_be_away_when_the_time_comes_and_the_node_start_anew(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # KEY-022
    machine = FakeMachine()
    kept: dict[str, Any] = {**PACED, "machine": machine, "registry": registry, "clock": clock}
    async with running(tmp_path, **kept) as node:
        await member_of(node, registry, world)
        former, loop = key(node), node.loop.loops[HOME]
        node.loop.rotating.begin(loop)
        await node.until(
            lambda: node.loop.rotating.record(loop).held_since, "the registry is known to have it"
        )
    registry.down = True
    clock.offset += timedelta(seconds=OVERLAP_S)
    async with running(tmp_path, **kept) as node:
        await node.until(lambda: worn(node) not in (None, former), "another key")
        assert said(registry).next_device is not None
        registry.down = False
    async with running(tmp_path, **kept) as node:
        await until_rested(node, registry, former)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_node_with_access_devices_keeps_its_key(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path, when: str
) -> None:
    # KEY-025
    async with running(tmp_path, registry=registry, clock=clock, rotation=PACE) as node:
        await member_of(node, registry, world, access=(LAPTOP,) if when == "before" else ())
        former, loop = key(node), node.loop.loops[HOME]
        if when == "after":
            node.loop.rotating.begin(loop)
            await node.until(lambda: said(registry).next_device, "an announcement")
            registry.send(world.network("own", "n2", version=2, access=(LAPTOP,)))
            await node.until(lambda: loop.document.version == 2, "the laptop")
        wait(node, clock, 30 * DAY_S)
        node.loop.rotating.make_steps()
        await node.until(lambda: said(registry).next_device is None, "nothing is to come")
        with pytest.raises(Refused, match=r"access devices have this key.*: laptop"):
            node.loop.rotating.begin(loop)
        assert node.loop.rotating.due_at(loop) is None
        assert len(keys_on_disk(tmp_path)) == 1
        assert worn(node) == key(node) == former


async def test_endpoints_may_change_while_a_key_is_announced(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    async with running(tmp_path, registry=registry, clock=clock, rotation=PACE) as node:
        await member_of(node, registry, world)
        node.loop.rotating.begin(node.loop.loops[HOME])
        announced = await node.until(lambda: said(registry).next_device, "an announcement")
        here = msgspec.structs.replace(node.loop.surroundings, addresses=("192.0.2.99/24",))
        node.loop.links.put(here)
        await node.until(lambda: "192.0.2.99" in str(said(registry).endpoints), "the new address")
        assert said(registry).next_device == announced


async def test_a_next_key_that_is_damaged_was_used_by_nobody_and_goes(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # KEY-021
    machine = FakeMachine()
    kept: dict[str, Any] = {**PACED, "machine": machine, "registry": registry, "clock": clock}
    async with running(tmp_path, **kept) as node:
        await member_of(node, registry, world)
        former = key(node)
        node.loop.rotating.begin(node.loop.loops[HOME])
        await node.until(lambda: said(registry).next_device, "an announcement")
    store.next_device_key_path(tmp_path / "keys", HOME).write_bytes(b"damaged")
    async with running(tmp_path, **kept) as node:
        await node.until(lambda: said(registry).next_device is None, "nothing is to come")
        assert len(keys_on_disk(tmp_path)) == 1
        assert key(node) == former


async def test_a_forgotten_network_leaves_neither_key(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # NODE-007
    async with running(tmp_path, registry=registry, clock=clock, rotation=PACE) as node:
        await member_of(node, registry, world)
        node.loop.rotating.begin(node.loop.loops[HOME])
        assert len(keys_on_disk(tmp_path)) == 2
        registry.send(world.network("n2", version=2))
        await node.until(lambda: not node.loop.loops, "the network's end")
        assert keys_on_disk(tmp_path) == set()
        assert node.cache.setting(f"rotation/{HOME}") is None


# Killed.


class Killed(BaseException):
    """The process ends here."""


STEPS: dict[str, tuple[type, str]] = {
    "the next key is made": (Keyring, "make_next_device"),
    "something is committed": (Cache, "_commit"),
    "the registry is told": (FakeClient, "publish"),
    "the key is replaced on disk": (Keyring, "promote_next_device"),
    "the device is written": (FakeWireGuard, "write"),
}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_node_that_is_killed_at_any_step_goes_on_with_the_right_key(
    world: World,
    registry: FakeRegistry,
    clock: FakeClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    moment: str,
) -> None:
    # KEY-021: at the first time that the step is made in a replacement, at the second, ...
    machine = FakeMachine()
    kept: dict[str, Any] = {**PACED, "machine": machine, "registry": registry, "clock": clock}
    async with running(tmp_path, **kept) as node:
        await member_of(node, registry, world)
    for survived in range(30):
        former = store.load_id(store.device_key_path(tmp_path / "keys", HOME), store.Kind.WG)
        with pytest.MonkeyPatch.context() as patch:
            is_killed = _kill(patch, *STEPS[step], survived=survived, moment=moment)
            with suppress(Killed, BaseExceptionGroup):
                async with running(tmp_path, **kept) as node:
                    await _replace(node, registry, clock, until=is_killed)
        # What is on disk can sign what the registry holds, or what the node will say instead.
        async with running(tmp_path, **kept) as node:
            await _replace(node, registry, clock, until=lambda: False)
            found = said(registry)
            assert found.next_device is None
            assert found.device == node.loop.loops[HOME].device_key.id != former
            assert worn(node) == key(node) == wireguard.wireguard_public_key(found.device)
            assert len(keys_on_disk(tmp_path)) == 1
            assert set(node.peers()) == {device("n2").public_key}
        if not is_killed():
            return
    raise AssertionError("the replacement never ended")


async def _replace(
    node: RunningNode, registry: FakeRegistry, clock: FakeClock, *, until: Callable[[], bool]
) -> None:
    """A replacement from wherever it stands, or a whole one; or until `until` says so."""
    loop = node.loop.loops[HOME]
    await node.until(lambda: loop.wears_its_key or until(), "the first pass")
    await node.until(lambda: loop.goals.selection.own_member is not None or until(), "a member")
    own = loop.goals.selection.own_member
    before = own.device if own.next_device is None else ""
    if before and loop.next_key is None and before == loop.device_key.id:
        node.loop.rotating.begin(loop)

    def is_done() -> bool:
        record = node.loop.rotating.record(loop)
        if loop.next_key is not None and record.held_since:
            wait(node, clock, OVERLAP_S)
        found = registry.last("member")
        return until() or (
            loop.next_key is None
            and found.next_device is None
            and found.device == loop.device_key.id != before
            and loop.wears_its_key
        )

    await node.until(is_done, "the replacement")


def _kill(
    patch: pytest.MonkeyPatch, owner: type, name: str, *, survived: int, moment: str
) -> Callable[[], bool]:
    """The process ends at the n-th call, before or after its effect; and nothing works any more."""
    calls = {"left": survived, "killed": False}
    real = getattr(owner, name)

    def check(at: str) -> None:
        if calls["killed"] or (calls["left"] == 0 and at == moment):
            calls["killed"] = True
            raise Killed
        if at == "after":
            calls["left"] -= 1

    def call(*args: Any, **kwargs: Any) -> Any:
        check("before")
        result = real(*args, **kwargs)
        check("after")
        return result

    async def call_later(*args: Any, **kwargs: Any) -> Any:
        check("before")
        result = await real(*args, **kwargs)
        check("after")
        return result

    is_async = name in ("publish", "write")
    patch.setattr(owner, name, call_later if is_async else call)
    return lambda: bool(calls["killed"])


# A peer's key.


def hears(node: RunningNode, public_key: WgPublicKey, at: int) -> None:
    """The kernel has made a handshake with this peer."""
    peers = node.machine.pinned[node.loop.loops[HOME].netns].links["wg0"].device.peers
    peers[public_key] = msgspec.structs.replace(peers[public_key], latest_handshake=at)


def replacing(world: World, *, version: int = 2, at: int = NOW + 600) -> Any:
    signers = (identity(node_world.Kind.NODE, "n2"), device("n2"), device("n2 next"))
    coming = NextDevice(device("n2 next").id, at)
    return world.member("n2", 2, version=version, next_device=coming, signers=signers)


def came(world: World, *, version: int = 3) -> Any:
    signers = (identity(node_world.Kind.NODE, "n2"), device("n2 next"))
    return world.member("n2", 2, version=version, device=device("n2 next").id, signers=signers)


FORMER, COMING = device("n2").public_key, device("n2 next").public_key


def allowed(node: RunningNode) -> dict[WgPublicKey, bool]:
    """Who is a peer, and whether it has allowed IPs."""
    return {key: bool(peer.allowed_ips) for key, peer in node.device().peers.items()}


async def test_a_peer_that_answers_with_its_next_key_is_followed_at_once(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # DOC-071, KEY-026
    async with running(tmp_path, registry=registry, clock=clock) as node:
        await member_of(node, registry, world)
        hears(node, FORMER, NOW)
        registry.send(replacing(world))
        await node.until(lambda: COMING in node.peers(), "the key to come")
        assert allowed(node) == {FORMER: True, COMING: False}
        peers = node.device().peers
        assert peers[COMING].endpoint == peers[FORMER].endpoint
        assert peers[COMING].keepalive_s == 0
        hears(node, COMING, NOW)
        await node.until(lambda: allowed(node).get(COMING), "it bears the traffic")
        assert allowed(node) == {FORMER: False, COMING: True}
        hears(node, FORMER, NOW + 1)  # by whoever has that key now: never again
        registry.send(came(world))
        await node.until(lambda: FORMER not in node.peers(), "the former goes")
        assert allowed(node) == {COMING: True}
        assert list(node.loop.journal.repairs) == []


async def test_a_node_that_starts_anew_believes_the_kernel_and_not_the_documents(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # KEY-026
    machine = FakeMachine()
    kept: dict[str, Any] = {"machine": machine, "registry": registry, "clock": clock}
    async with running(tmp_path, **kept) as node:
        await member_of(node, registry, world)
        registry.send(replacing(world))
        await node.until(lambda: COMING in node.peers(), "the key to come")
        hears(node, COMING, NOW)
        await node.until(lambda: allowed(node).get(COMING), "it bears the traffic")
    registry.down = True
    written: list[Any] = []
    put_peer = fake_machine.put_peer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            fake_machine,
            "put_peer",
            lambda peers, peer: (written.append(peer), put_peer(peers, peer)),
        )
        async with running(tmp_path, **kept) as node:
            await node.until(lambda: node.loop.loops[HOME].wears_its_key, "the first pass")
            await node.quiet()
            assert allowed(node) == {FORMER: False, COMING: True}
    assert not [peer for peer in written if peer.public_key == FORMER and peer.allowed_ips]


async def test_a_key_that_should_be_in_use_is_asked_and_one_that_is_gone_is_left(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # KEY-026
    async with running(tmp_path, registry=registry, clock=clock) as node:
        await member_of(node, registry, world)
        hears(node, FORMER, NOW + 600 - 60)
        registry.send(replacing(world))
        await node.until(lambda: COMING in node.peers(), "the key to come")
        for after_s, keepalive_s in ((600 + 10, 25), (600 + 3_601, 0)):
            clock.offset = timedelta(seconds=after_s)
            await node.until(
                lambda wanted=keepalive_s: node.device().peers[COMING].keepalive_s == wanted,
                "asked, or not",
            )
        assert allowed(node) == {FORMER: True, COMING: False}


async def test_a_peer_that_was_never_heard_by_its_next_key_is_replaced_by_its_document(
    world: World, registry: FakeRegistry, clock: FakeClock, tmp_path: Path
) -> None:
    # DOC-071: as for whoever was offline all the time
    async with running(tmp_path, registry=registry, clock=clock) as node:
        await member_of(node, registry, world)
        registry.send(replacing(world), came(world))
        await node.until(lambda: allowed(node) == {COMING: True}, "the new key")
        registry.send(replacing(world))  # an older version
        await node.until(
            lambda: any("is older than" in reason for reason in node.reasons()), "it is refused"
        )
        assert allowed(node) == {COMING: True}


def test_the_default_overlap_is_within_its_bounds() -> None:
    assert rotation.MIN_OVERLAP_S <= Pace().overlap_s <= rotation.MAX_OVERLAP_S
