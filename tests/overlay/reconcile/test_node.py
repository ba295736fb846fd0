"""What a node does about documents, and what it never does (NODE-001 .. NODE-029)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import pytest

from overlay import addressing
from overlay.documents import trust
from overlay.documents.envelope import Envelope, encode_envelope
from overlay.errors import Refused, Rejected, Unavailable
from overlay.keys import store
from overlay.keys.identity import Identity, Kind
from overlay.model import Address, Endpoint, InterfaceAddress, NetworkId
from overlay.peers.cache import Cache
from overlay.reconcile import following, joining, membership, workloads
from overlay.reconcile import node as node_module
from overlay.reconcile.keyring import Keyring
from overlay.reconcile.lastresort import LastResort
from tests import fake_machine
from tests.fake_machine import FakeFilter, FakeKernel, FakeMachine
from tests.node_world import (
    FARMER,
    HOME,
    INVITE,
    OWN,
    OWNERS,
    REGISTRY,
    FakeRegistry,
    RunningNode,
    World,
    device,
    document_of,
    identity,
    real_public,
    running,
    seed,
    taken,
    tampered,
)

pytestmark = pytest.mark.blocking  # SQLite and key files

EVE = Identity.from_seed(Kind.NODE, seed("node eve"))
N2 = identity(Kind.NODE, "n2")


@pytest.fixture(autouse=True)
def _real_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_machine, "fake_public", real_public)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


async def test_a_named_node_joins_by_itself(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-001
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        await node.until(lambda: registry.last("result"), "a result")
    peer = next(iter(node.device().peers.values()))
    assert peer.public_key == device("n2").public_key
    assert peer.allowed_ips[0] == "10.1.2.0/24"
    member = registry.last("member")
    assert (member.index, member.name, member.invitation) == (1, "own", None)
    assert [c.endpoint for c in member.endpoints] == ["192.0.2.1:51820", "[2001:db8::1]:51820"]
    result = registry.last("result")
    assert (result.ok, result.document_version) == (True, 1)


async def test_a_peer_that_comes_while_its_network_is_made_does_not_wait_for_the_confirmation(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[bytes]] = []
    move, normal_form = FakeKernel.move_link, FakeFilter.normal_form

    async def move_then_hear(kernel: FakeKernel, name: str, **options: str) -> None:
        await move(kernel, name, **options)
        registry.send(world.member("n2", 2))
        await node.until(lambda: node.loop.loops[HOME].goals.peers, "the member")

    def look(packet_filter: FakeFilter, ruleset: str) -> str:
        """The first time that anybody asks is when the firewall is confirmed."""
        seen.append({*node.peers()})
        return normal_form(packet_filter, ruleset)

    monkeypatch.setattr(FakeKernel, "move_link", move_then_hear)
    monkeypatch.setattr(FakeFilter, "normal_form", look)
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"))
        await node.until(lambda: registry.last("result"), "a result")
        assert registry.last("result").ok
    assert seen[0] == {device("n2").public_key}
    assert not node.loop.journal.repairs


@pytest.mark.parametrize("farm", [FARMER.id, None])
async def test_a_node_that_its_farm_does_not_list_does_nothing(
    world: World, registry: FakeRegistry, tmp_path: Path, farm: str | None
) -> None:
    # NODE-003
    async with running(tmp_path, registry=registry, farm=farm) as node:
        registry.send(world.farm(N2), world.network("own", "n2"), world.member("n2", 2))
        loop = await node.until(lambda: node.loop.loops.get(HOME), "the network")
        await node.until(lambda: registry.last("result"), "a result")
        assert not loop.gate.open
        assert node.machine.pinned == {}
        assert registry.last("member") is None
        assert not registry.last("result").ok
    if farm:
        assert loop.gate.remedy == f"farm operator runs: zos farm add-node basement {OWN.id}"


async def test_a_node_joins_when_its_farm_lists_it_later(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-003
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.network("own"), world.farm())
        await node.until(lambda: node.loop.farm, "the farm")
        registry.send(world.farm(OWN, version=2))
        await node.until(node.device, "a device")
        registry.send(world.farm(version=3))
        await node.until(lambda: not node.machine.pinned, "nothing left")
        assert HOME in node.loop.loops


def _without_device_key() -> Envelope:
    return World().member("n2", 2, signers=(N2,))


def _of_a_stranger() -> Envelope:
    return World().member("eve", 2, signers=(EVE, device("eve")))


def _with_the_key_of_another() -> Envelope:
    eve = device("eve")
    member = World().member("n2", 2)
    return tampered(member, device=eve.id)


def _by_the_wrong_tenant() -> Envelope:
    return tampered(World().network("own", "n2", "eve", version=5), version=6)


def _claiming_another_index() -> Envelope:
    return World().member("n2", 3, version=2)


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (_without_device_key, "no signature by"),
        (_of_a_stranger, "is not in home"),
        (_with_the_key_of_another, "does not match"),
        (_by_the_wrong_tenant, "does not match"),
        (_claiming_another_index, "has index 2, not 3"),
    ],
    ids=lambda each: each.__name__.strip("_") if callable(each) else "",
)
async def test_what_is_forged_changes_nothing_and_is_named(
    world: World, registry: FakeRegistry, tmp_path: Path, forged: object, reason: str
) -> None:
    # NODE-002
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2", version=3))
        before = await node.until(node.device, "a device")
        registry.send(forged())  # type: ignore[operator]
        await node.until(lambda: any(reason in r for r in node.reasons()), reason)
        await node.quiet()
        assert node.device() == before


async def test_an_older_network_changes_nothing(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-002, DOC-045
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2", version=3))
        registry.send(world.member("n2", 2))
        await node.until(node.peers, "a peer")
        registry.send(world.network("own", version=2))
        await node.until(lambda: any("is older than 3" in r for r in node.reasons()), "refusal")
        registry.send(world.network("own", "n3", version=3))
        await node.until(lambda: any("fork" in r for r in node.reasons()), "refusal")
        await node.quiet()
        assert node.peers() == {device("n2").public_key}


async def test_an_older_network_changes_nothing_after_a_restart_either(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # DOC-045
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2", version=3))
        await node.until(node.device, "a device")
    again = FakeRegistry()
    async with running(tmp_path, registry=again) as node:
        again.send(world.network("own", version=2))
        await node.until(lambda: any("is older than 3" in r for r in node.reasons()), "refusal")
        assert node.loop.loops[HOME].document == document_of(world.network("own", "n2", version=3))


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"payloadType":1}', b"\xff" * 100, b"[" * 100_000, b"{}" * 9]
)
async def test_what_is_malformed_changes_nothing(
    world: World, registry: FakeRegistry, tmp_path: Path, raw: bytes
) -> None:
    # NODE-002
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"))
        before = await node.until(node.device, "a device")
        registry.send_raw(f"network/{HOME}", raw)
        registry.send_raw(f"member/{HOME}/{N2.id}", raw)
        await node.until(lambda: len(node.loop.journal.refusals) == 2, "refusals")
        registry.send(world.member("n2", 2))
        await node.until(node.peers, "a peer")
        assert before.listen_port == node.device().listen_port


async def test_a_document_under_another_key_is_refused(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"))
        await node.until(node.device, "a device")
        other = f"member/{HOME}/{EVE.id}"
        registry.send_raw(other, encode_envelope(world.member("n2", 2)))
        await node.until(lambda: any("the document is" in r for r in node.reasons()), "refusal")
        assert node.peers() == set()


async def test_what_the_registry_leaves_out_removes_nothing(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-004
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        before = node.device()
        published = len(registry.published)
        registry.snapshot()
        await node.until(lambda: len(registry.published) > published, "own documents again")
        await node.quiet()
        assert node.device() == before


async def test_members_that_come_before_their_network_are_not_lost(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-006
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.member("n2", 2), world.network("own", "n2"), world.farm(OWN))
        await node.until(lambda: node.peers() == {device("n2").public_key}, "a peer")


async def test_networks_come_up_from_disk_while_the_registry_is_down(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-010
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        before = node.device()
    registry.down = True
    async with running(tmp_path, registry=registry, machine=FakeMachine()) as node:
        await node.until(lambda: node.device() == before, "the same device")
        await node.until(lambda: node.loop.following.feed.connection.error, "an error to show")


async def test_a_restart_resumes_where_it_was(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"))
        await node.until(node.device, "a device")
        await node.quiet()
        reached = await node.until(lambda: node.loop.following.revision, "a revision")
    async with running(tmp_path, registry=registry, machine=node.machine) as again:
        await again.until(lambda: len(registry.resumed_from) == 2, "a second stream")
    assert registry.resumed_from[0] is None
    assert registry.resumed_from[1] is not None
    assert registry.resumed_from[1] >= reached


@pytest.mark.parametrize("how", ["deleted", "taken out"])
async def test_a_network_that_is_no_longer_ours_leaves_nothing(
    world: World, registry: FakeRegistry, tmp_path: Path, how: str
) -> None:
    # NODE-007
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        key = store.device_key_path(tmp_path / "keys", HOME)
        assert key.exists()
        registry.send(
            world.network("own", "n2", version=2, deleted=True)
            if how == "deleted"
            else world.network("n2", version=2)
        )
        await node.until(lambda: not node.loop.loops, "the network's end")
        assert node.machine.pinned == {}
        assert set(node.machine.underlay.links) == {"lo", "eth0"}
        assert not key.exists()
        assert node.cache.ports() == {}
        assert not list(node.cache.envelopes(f"member/{HOME}/"))
        assert node.cache.floor(f"network/{HOME}").version == 2
        result = await node.until(
            lambda: (r := registry.last("result")) and r.document_version == 2 and r, "a result"
        )
        assert result.ok


async def test_a_network_that_comes_back_while_the_last_of_it_goes_is_built_again(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-007
    running_now, is_asked = LastResort.running, False

    @asynccontextmanager
    async def slow_to_end(resort: LastResort) -> AsyncIterator[None]:
        nonlocal is_asked
        async with running_now(resort):
            yield
        if not is_asked:
            is_asked = True
            registry.send(world.network("own", "n2", version=3))
            await node.until(lambda: node.loop.loops[HOME].document.version == 3, "its return")

    monkeypatch.setattr(LastResort, "running", slow_to_end)
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        registry.send(world.network("n2", version=2))
        await node.until(lambda: is_asked, "its end")
        await node.until(node.peers, "a peer again")
        assert node.loop.loops[HOME].document.version == 3


async def comes_and_goes(node: RunningNode, world: World, registry: FakeRegistry) -> None:
    """A network of ours is built, and then it names us no more."""
    registry.send(world.farm(OWN), world.network("own"))
    await node.until(node.device, "a device")
    registry.send(world.network("n2", version=2))
    await node.until(lambda: not node.loop.loops, "the network's end")


async def test_a_network_that_the_disk_does_not_forget_is_forgotten_when_it_does(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-007, NODE-011
    monkeypatch.setattr(node_module, "RESTART_S", 0.01)
    tries, forget = 0, Cache.free_port

    def full_at_first(cache: Cache, network: NetworkId) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("disk full")
        forget(cache, network)

    monkeypatch.setattr(Cache, "free_port", full_at_first)
    async with running(tmp_path, registry=registry) as node:
        await comes_and_goes(node, world, registry)
        assert tries == 3
        assert node.cache.ports() == {}


async def test_a_key_that_cannot_be_deleted_stops_nothing_and_goes_at_the_next_start(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-007
    key = store.device_key_path(tmp_path / "keys", HOME)

    def refuse(*_: object) -> None:
        raise Refused("not allowed")

    with monkeypatch.context() as patch:
        patch.setattr(Keyring, "forget", refuse)
        async with running(tmp_path, registry=registry) as node:
            await comes_and_goes(node, world, registry)
            registry.send(world.network("own", name="work"))
            await node.until(lambda: node.loop.loops, "the next network")
            assert key.exists()
    async with running(tmp_path, registry=registry) as node:
        assert not key.exists()


async def test_what_a_kill_kept_of_a_forgotten_network_goes_at_the_next_start(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-007: documents go in one transaction, keys are files of their own
    keys, work = tmp_path / "keys", trust.network_id(OWNERS, "work")
    device_of = partial(store.device_key_path, keys)
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own"), world.network("own", name="work"))
        await node.until(lambda: node.device() and node.device(work), "two devices")
        node.loop.keys.keep_invitation(HOME, INVITE)
        monkeypatch.setattr(Keyring, "forget", lambda *_: None)  # where the kill came
        registry.send(world.network("n2", version=2))
        await node.until(lambda: set(node.loop.loops) == {work}, "the network's end")
        node.cache.set_port(HOME, 51_999)  # a join that had come no further
    unfinished = keys / "devices" / ".n-another.key.unfinished"
    unfinished.touch()
    assert device_of(HOME).exists()
    registry.down = True
    async with running(tmp_path, registry=registry, machine=node.machine) as node:
        assert set(node.cache.ports()) == {work}
        left = {path.name for path in keys.rglob("*") if path.is_file()}
        assert left == {device_of(work).name}


async def test_a_network_that_names_the_node_again_comes_back(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own"))
        first = await node.until(node.device, "a device")
        registry.send(world.network("n2", version=2))
        await node.until(lambda: not node.loop.loops, "the network's end")
        registry.send(world.network("own", version=3))
        second = await node.until(node.device, "a device")
        assert first.public_key != second.public_key  # KEY: a device key lives with its network


async def test_networks_of_others_are_no_business_of_ours(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("n2", name="theirs"))
        registry.send(world.network("own"))
        await node.until(node.device, "a device")
        assert set(node.loop.loops) == {HOME}
        assert [key for key, _ in node.cache.envelopes("network/")] == [f"network/{HOME}"]


async def test_drift_is_repaired_and_recorded(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-020
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        await node.quiet()
        assert node.loop.journal.repairs == ()
        netns = node.machine.pinned[node.loop.loops[HOME].netns]
        fake_machine._delete(netns, "br0")
        node.notices.tell()
        await node.until(lambda: "br0" in netns.links and node.loop.journal.repairs, "a repair")
        repair = node.loop.journal.repairs[0]
        assert (repair.what, repair.by, repair.network) == ("+ bridge br0", "notification", HOME)


async def test_a_peer_that_somebody_removed_is_noticed_without_notification(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-021
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        await node.quiet()
        netns = node.machine.pinned[node.loop.loops[HOME].netns]
        netns.links["wg0"].device.peers.clear()
        await node.until(node.peers, "the peer again")
        repair = await node.until(lambda: node.loop.journal.repairs, "a repair")
        assert repair[0].by == "poll"


async def test_a_member_that_moves_gets_its_new_endpoint(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-042
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        moved = world.member("n2", 2, version=2, endpoints=("[2001:db8::9]:51820",))
        registry.send(moved)
        key = device("n2").public_key
        await node.until(
            lambda: str(node.device().peers[key].endpoint) == "[2001:db8::9]:51820", "the move"
        )
        assert node.loop.journal.repairs == ()


async def test_other_addresses_of_our_own_are_published(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-031
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own"))
        await node.until(lambda: registry.last("member"), "a member document")
        version = registry.last("member").version
        eth0 = node.machine.underlay.links["eth0"]
        eth0.addresses = [InterfaceAddress("192.0.2.99/24")]
        node.notices.links_changed()
        await node.until(
            lambda: [c.endpoint for c in registry.last("member").endpoints] == ["192.0.2.99:51820"],
            "the new address",
        )
        assert registry.last("member").version == version + 1


async def test_a_node_takes_a_bounded_number_of_networks(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-005
    monkeypatch.setattr(membership, "MAX_NETWORKS", 2)
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN))
        for name in ("one", "two", "three"):
            registry.send(world.network("own", name=name))
        await node.until(lambda: node.loop.refused, "a refusal")
        assert len(node.loop.loops) == 2
        result = await node.until(
            lambda: (r := registry.last("result")) and not r.ok and r, "a result"
        )
        assert "this node is in 2 networks already" in result.reason


async def test_one_network_that_fails_stops_no_other(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-008
    async with running(tmp_path, registry=registry) as node:
        bad = {"10.1.0.0/16"}
        original = fake_machine.FakeKernel.add_route

        async def add_route(self: object, netns: str, prefix: str, *rest: object, **more: object):
            if prefix in bad:
                raise Unavailable("no such device")
            await original(self, netns, prefix, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(fake_machine.FakeKernel, "add_route", add_route)
        registry.send(world.farm(OWN), world.network("own", "n2"))
        failing = await node.until(lambda: node.loop.loops.get(HOME), "the network")
        await node.until(lambda: failing.record.failures > 1, "failures")
        bad.clear()
        await node.until(lambda: failing.passes.is_settled, "recovery")


async def test_while_passes_fail_the_device_is_looked_at_all_the_same(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-079
    async def fail(*_: object, **__: object) -> None:
        raise Unavailable("no buffer space")

    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"), world.member("n2", 2))
        await node.until(node.peers, "a peer")
        await node.quiet()
        loop, key = node.loop.loops[HOME], device("n2").public_key
        netns = node.machine.pinned[addressing.netns_name(HOME)]
        with monkeypatch.context() as broken:
            broken.setattr(fake_machine.FakeKernel, "add_route", fail)
            netns.routes.clear()
            node.notices.tell()
            await node.until(lambda: loop.record.failures > 1, "failures")
            roamed = Endpoint(Address("203.0.113.9"), 40_000)
            wg0 = netns.links["wg0"].device
            wg0.peers[key] = msgspec.structs.replace(
                wg0.peers[key],
                endpoint=roamed,
                latest_handshake=int(node.clock.now().timestamp()),
            )
            await node.until(lambda: loop.goals.peers[key].endpoint == roamed, "the way it takes")
            failures = loop.record.failures
            await node.until(lambda: loop.record.failures > failures, "another try of the whole")
        await node.until(lambda: loop.passes.is_settled, "recovery")
        assert node.device().peers[key].endpoint == roamed


async def test_what_does_not_reach_the_disk_is_not_acted_on(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-011
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"))
        await node.until(node.device, "a device")
        await node.quiet()

        batch = node.cache.batch

        @contextmanager
        def full() -> Iterator[None]:
            is_outermost = node.cache._depth == 0
            with batch():
                yield
                if is_outermost:
                    raise Unavailable("disk full")

        monkeypatch.setattr(node.cache, "batch", full)
        with pytest.raises(Unavailable):
            node.loop.documents.take(
                [_as_sent(world.member("n2", 2)), _as_sent(world.network("own", version=2))]
            )
        assert node.loop.loops[HOME].document.version == 1
        assert dict(node.loop.loops[HOME].goals.peers) == {}


def _as_sent(envelope: Envelope) -> object:
    from overlay.documents import trust
    from overlay.peers.registry import Document

    key = trust.document_key(document_of(envelope))
    return Document(1, key, encode_envelope(envelope))


async def test_documents_of_a_node_that_lost_its_disk_become_newer_than_those_it_forgot(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # DOC-045
    registry.refuse = registry.refuse_what_is_no_news
    async with running(tmp_path / "lost", registry=registry) as node:
        registry.send(world.farm(OWN))
        for version in (1, 2, 3):
            registry.send(world.network("own", version=version))
            await node.until(
                lambda version=version: (
                    (said := registry.last("result")) and said.document_version == version
                ),
                "a result",
            )
    forgotten = registry.last("result")
    assert forgotten.version == 3
    async with running(tmp_path / "new", registry=registry) as node:
        registry.send(world.network("own", version=4))
        said = await node.until(
            lambda: (r := registry.last("result")) and r.document_version == 4 and r, "a result"
        )
        assert said.version > forgotten.version
        await node.until(lambda: registry.last("member").device == key(node), "a member")


def key(node: RunningNode) -> str:
    return str(node.loop.loops[HOME].device_key.id)


async def test_a_damaged_device_key_stops_no_other_network(
    world: World, registry: FakeRegistry, tmp_path: Path
) -> None:
    # NODE-001
    machine = FakeMachine()
    work = trust.network_id(OWNERS, "work")
    async with running(tmp_path, registry=registry, machine=machine) as node:
        registry.send(world.farm(OWN), world.network("own"), world.network("own", name="work"))
        await node.until(lambda: node.device() and node.device(work), "two devices")
    path = store.device_key_path(tmp_path / "keys", HOME)
    path.write_bytes(b"damaged")
    registry.down = True
    async with running(tmp_path, registry=registry, machine=machine) as node:
        await node.quiet()
        assert set(node.loop.loops) == {work}
        document, reason = node.loop.refused[HOME]
        assert (document.name, "damaged" in reason.message) == ("home", True)
        assert node.device() is not None  # as it was
        assert path.read_bytes() == b"damaged"


async def test_documents_that_the_disk_did_not_take_are_taken_when_it_does(
    world: World, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-011
    monkeypatch.setattr(following, "DISK_RETRY_S", 0.01)
    machine, is_full, commit = FakeMachine(), False, Cache._commit

    def commit_if_there_is_room(cache: Cache) -> None:
        if is_full:
            cache._db.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        commit(cache)

    monkeypatch.setattr(Cache, "_commit", commit_if_there_is_room)
    async with running(tmp_path, registry=registry, machine=machine) as node:
        registry.send(world.network("own"))
        await node.until(lambda: node.loop.loops, "a network that waits")
        is_full = True
        registry.send(world.farm(OWN), world.network("own", "n2", version=2), world.member("n2", 2))
        await node.until(lambda: following.DISK in node.refused(), "the disk is blamed")
        assert node.device() is None
        is_full = False
        await node.until(node.peers, "a peer")
        await node.until(lambda: following.DISK not in node.refused(), "nothing to blame")
    registry.down = True
    async with running(tmp_path, registry=registry, machine=machine) as node:
        await node.quiet()
        assert node.loop.loops[HOME].gate.open
        assert len(node.peers()) == 1


class TestJoining:
    async def test_a_token_makes_a_member(
        self, world: World, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        # NODE-032
        registry.send(world.network("n2", invitations=(world.invitation(),)), world.member("n2", 1))
        async with running(tmp_path, registry=registry, farm=None) as node:
            joined = await self.join(node, registry)
            assert (joined.index, joined.already) == (100, False)
            await node.until(lambda: node.peers() == {device("n2").public_key}, "a peer")
            member = registry.last("member")
            assert (member.index, member.invitation) == (100, INVITE.id)
            again = await self.join(node, registry)
            assert (again.index, again.already) == (100, True)

    async def test_networks_that_may_not_use_the_node_keep_none_out_that_it_joins(
        self,
        world: World,
        registry: FakeRegistry,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # NODE-003, NODE-005: anybody can name a node
        monkeypatch.setattr(membership, "MAX_NETWORKS", 2)
        registry.send(*(world.network("own", name=name) for name in ("a", "b", "c")))
        async with running(tmp_path, registry=registry, farm=None) as node:
            await node.until(lambda: len(node.loop.loops) == 2, "two networks that wait")
            registry.send(world.network("n2", invitations=(world.invitation(),)))
            assert not (await self.join(node, registry)).already

    async def test_a_lost_answer_does_not_use_the_invitation_twice(
        self, world: World, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        # NODE-033
        registry.send(world.network("n2", invitations=(world.invitation(),)))
        async with running(tmp_path, registry=registry, farm=None) as node:
            client = registry.client()
            publish = type(client).publish
            failures = [Unavailable("gone")]

            async def lose(self: object, envelope: Envelope) -> int:
                done = await publish(self, envelope)  # type: ignore[arg-type]
                if document_of(envelope).__class__.__name__ == "Member" and failures:
                    raise failures.pop()
                return done

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(client), "publish", lose)
                with pytest.raises(Unavailable):
                    await self.join(node, registry)
            joined = await self.join(node, registry)
            assert (joined.index, joined.already) == (100, True)
            await node.until(node.device, "a device")

    async def test_a_race_for_an_index_takes_the_next(
        self, world: World, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        # NODE-034
        registry.send(world.network("n2", invitations=(world.invitation(),)))
        registry.refuse = taken(100)
        async with running(tmp_path, registry=registry, farm=None) as node:
            assert (await self.join(node, registry)).index == 101

    @pytest.mark.parametrize(
        ("network", "reason"),
        [
            (
                lambda w: w.network("n2", invitations=(w.invitation(expires=1_000),)),
                "has expired",
            ),
            (lambda w: w.network("n2"), "withdrawn this invitation"),
            (lambda w: w.network("n2", deleted=True), "is deleted"),
            (
                lambda w: w.network("n2", invitations=(w.invitation(),), revoked=(OWN.id,)),
                "was removed",
            ),
        ],
    )
    async def test_a_token_that_is_no_good_says_why_and_leaves_nothing(
        self, registry: FakeRegistry, tmp_path: Path, network: object, reason: str
    ) -> None:
        # NODE-035
        registry.send(network(World()))  # type: ignore[operator]
        async with running(tmp_path, registry=registry, farm=None) as node:
            with pytest.raises(Refused, match=reason):
                await self.join(node, registry)
            assert node.loop.loops == {}
            assert node.machine.pinned == {}

    async def test_a_used_up_token_says_so(
        self, world: World, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        # NODE-035
        guest = identity(Kind.NODE, "guest")
        registry.send(
            world.network("n2", invitations=(world.invitation(uses=1),)),
            world.member(
                "guest", 100, invitation=INVITE.id, signers=(guest, device("guest"), INVITE)
            ),
        )
        async with running(tmp_path, registry=registry, farm=None) as node:
            with pytest.raises(Refused, match="all 1 uses"):
                await self.join(node, registry)

    async def test_an_invited_member_survives_a_restart(
        self, world: World, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        registry.send(world.network("n2", invitations=(world.invitation(),)), world.member("n2", 1))
        async with running(tmp_path, registry=registry, farm=None) as node:
            await self.join(node, registry)
            before = await node.until(node.device, "a device")
        registry.down = True
        async with running(tmp_path, registry=registry, farm=None) as node:
            await node.until(node.peers, "a peer")
            assert node.device().public_key == before.public_key

    @staticmethod
    async def join(node: object, registry: FakeRegistry) -> joining.Joined:
        return await joining.join(
            node.loop,  # type: ignore[attr-defined]
            REGISTRY,
            HOME,
            INVITE,
            make_client=registry.client,  # type: ignore[arg-type]
        )


class TestWorkloads:
    async def test_addresses_are_kept(
        self, world: World, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        # NODE-016
        machine = FakeMachine()
        for name in ("/w/a", "/w/b"):
            machine.workloads[name] = machine.new_netns()
        async with running(tmp_path, registry=registry, machine=machine) as node:
            registry.send(world.farm(OWN), world.network("own"))
            await node.until(node.device, "a device")
            loop = node.loop.loops[HOME]
            first = await self.attach(node, "a")
            second = await self.attach(node, "b")
            assert (first.address_v4, second.address_v4) == ("10.1.1.2/24", "10.1.1.3/24")
            assert first.address_v6.endswith(":1::2/64")
            assert await self.attach(node, "a") == first
            assert "eth0" in machine.workloads["/w/a"].links
            await workloads.detach(loop, node.cache, name="a")
            assert "eth0" not in machine.workloads["/w/a"].links
        async with running(tmp_path, registry=registry, machine=machine) as node:
            await node.quiet()
            assert (await self.attach(node, "b")).address_v4 == "10.1.1.3/24"
            assert (await self.attach(node, "a")).address_v4 == "10.1.1.2/24"

    async def test_others_learn_their_names_once_for_all_that_come_together(
        self, world: World, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        # DNS-003
        machine = FakeMachine()
        for name in ("/w/a", "/w/b", "/w/c"):
            machine.workloads[name] = machine.new_netns()
        async with running(tmp_path, registry=registry, machine=machine) as node:
            registry.send(world.farm(OWN), world.network("own"))
            await node.until(node.device, "a device")
            loop = node.loop.loops[HOME]

            def said() -> tuple[int, list[tuple[str, int]]]:
                own = loop.goals.selection.own_member
                assert own is not None
                return own.version, [(each.name, each.host) for each in own.workloads]

            assert said() == (1, [])
            for name in ("a", "b", "c"):
                await self.attach(node, name)
            await workloads.detach(loop, node.cache, name="a")
            await node.until(lambda: said()[1], "the names are published")
            assert said() == (2, [("b", 3), ("c", 4)])
            await workloads.detach(loop, node.cache, name="b")
            await workloads.detach(loop, node.cache, name="c")
            await node.until(lambda: not said()[1], "and withdrawn")
            assert said() == (3, [])

    async def test_a_netns_that_is_not_there_is_refused_and_forgotten(
        self, world: World, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        async with running(tmp_path, registry=registry) as node:
            registry.send(world.farm(OWN), world.network("own"))
            await node.until(node.device, "a device")
            with pytest.raises(Unavailable, match="no network namespace"):
                await self.attach(node, "a")
            assert node.cache.attachments(HOME) == ()

    async def test_a_netns_with_such_a_link_is_refused_and_stops_nobody(
        self, world: World, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        # NODE-001
        machine = FakeMachine()
        for name in ("/w/a", "/w/b"):
            machine.workloads[name] = machine.new_netns()
        machine.new_link(machine.workloads["/w/a"], "eth0", "bridge")
        async with running(tmp_path, registry=registry, machine=machine) as node:
            registry.send(world.farm(OWN), world.network("own"))
            await node.until(node.device, "a device")
            with pytest.raises(Unavailable, match="another link eth0"):
                await self.attach(node, "a")
            assert node.cache.attachments(HOME) == ()
            # One that loses its link to another later keeps its address, and stops nobody either.
            first = await self.attach(node, "b")
            link = machine.workloads["/w/b"].links.pop("eth0")
            assert link.other_end is not None
            link.other_end[0].links.pop(link.other_end[1])
            machine.new_link(machine.workloads["/w/b"], "eth0", "bridge")
            registry.send(world.network("own", "n2", version=2))
            loop, port = node.loop.loops[HOME], first.port  # type: ignore[attr-defined]
            await node.until(lambda: loop.passes.unreachable == {port}, "the workload is left out")
            assert loop.passes.is_settled

    @pytest.mark.parametrize("netns", ["/proc/self/ns/net", "/proc/thread-self/ns/net"])
    async def test_the_netns_of_the_node_is_refused(
        self, world: World, registry: FakeRegistry, tmp_path: Path, netns: str
    ) -> None:
        async with running(tmp_path, registry=registry) as node:
            registry.send(world.farm(OWN), world.network("own"))
            await node.until(node.device, "a device")
            with pytest.raises(Rejected, match="the node itself"):
                await self.attach(node, "a", netns=netns)

    @staticmethod
    async def attach(node: object, name: str, *, netns: str = "") -> object:
        return await workloads.attach(
            node.loop.loops[HOME],  # type: ignore[attr-defined]
            node.cache,  # type: ignore[attr-defined]
            name=name,
            netns=netns or f"/w/{name}",
            link="eth0",
        )


@pytest.mark.parametrize("seed_", range(5))
async def test_a_death_at_any_moment_heals_at_the_next_start(
    world: World, tmp_path: Path, seed_: int
) -> None:
    # NODE-012, ARC-006: the node ends in the middle of changes, again and again
    random, machine = Random(seed_), FakeMachine()
    documents = [world.farm(OWN), world.network("own", "n2", "n3")]
    for version in range(2, 12):
        documents += [
            world.member(random.choice(["n2", "n3"]), 2, version=version)
            if random.random() < 0.3
            else world.network("own", *random.sample(["n2", "n3", "n4"], 2), version=version),
            world.member("n2", random.choice([2, 3]), version=version * 100),
        ]
    for envelope in documents:
        registry = FakeRegistry()
        async with running(tmp_path, registry=registry, machine=machine):
            registry.send(envelope)
            for _ in range(random.randrange(60)):
                await asyncio.sleep(0)
        machine.held.clear()  # what a process holds open goes with it
    last = world.network("own", "n2", version=50)
    registry = FakeRegistry()
    async with running(tmp_path, registry=registry, machine=machine) as node:
        registry.send(last, world.member("n2", 2, version=5_000))
        await node.until(lambda: node.peers() == {device("n2").public_key}, "the peer")
        await node.quiet()
        loop = node.loop.loops[HOME]
        assert await loop.plan() == ()
        registry.send(world.network(version=51, deleted=True))
        await node.until(lambda: not node.loop.loops, "the network's end")
    assert machine.pinned == {}
    assert set(machine.underlay.links) == {"lo", "eth0"}
