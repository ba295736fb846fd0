"""A node as a relay: offered by its farm and named by a tenant, both at any time (NODE-060 ..)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from overlay.documents import trust
from overlay.documents.envelope import Envelope, encode_envelope
from overlay.documents.relays import Relay, RelayOffer, Seen, Sighting
from overlay.documents.schema import Farm
from overlay.errors import Unavailable
from overlay.keys import store, wireguard
from overlay.keys.identity import Kind
from overlay.keys.wireguard import DeviceKey
from overlay.model import WgPublicKey
from overlay.peers.cache import Cache
from overlay.peers.registry import Document
from overlay.reconcile import backoff, following
from overlay.reconcile.relaying import ASKED
from overlay.relay import server
from tests import fake_machine
from tests.node_world import (
    ALICE,
    HOME,
    OWN,
    FakeRegistry,
    RunningNode,
    World,
    device,
    document_of,
    identity,
    real_public,
    running,
    signed,
)

pytestmark = pytest.mark.blocking  # SQLite and key files

N2, N3 = (identity(Kind.NODE, name) for name in ("n2", "n3"))


@pytest.fixture(autouse=True)
def _real_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_machine, "fake_public", real_public)


@pytest.fixture
def port() -> int:
    """A port that was free in both families a moment ago."""
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as probe:
        probe.bind(("::", 0))
        number = probe.getsockname()[1]
    return int(number)


class Stage:
    """A node that may be a relay, its farm, and a tenant with the nodes n2 and n3."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.world = World()
        self.registry = FakeRegistry()

    @property
    def key(self) -> DeviceKey:
        """The relay's."""
        return DeviceKey(store.load_or_create(self.directory / "keys" / "relay.key", Kind.WG))

    def offer(
        self,
        *,
        version: int = 1,
        port: int | None = None,
        tls_port: int | None = None,
        rate_mbit: int = 0,
    ) -> Envelope:
        endpoints = tuple(f"{host}:{port or self.port}" for host in ("192.0.2.1", "[2001:db8::1]"))
        offer = RelayOffer(OWN.id, endpoints, tls_port, rate_mbit)
        return self.world.farm(OWN, version=version, relays=(offer,))

    def relay(self, *, key: WgPublicKey | None = None) -> Relay:
        public = wireguard.format_key(key or self.key.public_key)
        return Relay("r", OWN.id, public, (f"192.0.2.1:{self.port}",))

    def named(self, *names: str, version: int = 1, **more: Any) -> Envelope:
        relays = more.pop("relays", (self.relay(),))
        return self.world.network(*names, version=version, relays=relays, **more)

    def members(self) -> tuple[Envelope, ...]:
        return self.world.member("n2", 1), self.world.member("n3", 2)

    @asynccontextmanager
    async def running(self, *documents: Envelope, **more: Any) -> AsyncIterator[RunningNode]:
        registry = more.pop("registry", self.registry)
        async with running(self.directory, registry=registry, **more) as node:
            self.registry.send(*documents)
            yield node

    def is_open(self) -> bool:
        """Whether somebody listens on the relay's port in both families."""
        return all(map(self._is_taken, ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))))

    def _is_taken(self, where: tuple[socket.AddressFamily, str]) -> bool:
        family, host = where
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((host, self.port))
            except OSError:
                return True
        return False


@pytest.fixture
def stage(tmp_path: Path, port: int) -> Stage:
    return Stage(tmp_path, port)


def allowed(node: RunningNode) -> dict[str, frozenset[WgPublicKey]]:
    """Who may use the relay that runs; nobody when none does."""
    relaying = node.loop.relaying
    if relaying.relay is None or relaying.relayed is None:
        return {}
    return dict(relaying.relayed.membership())


def keys(*names: str) -> frozenset[WgPublicKey]:
    return frozenset(device(name).public_key for name in names)


def on_disk(node: RunningNode) -> set[str]:
    kinds = ("network/", "member/", "sighting/")
    return {key for kind in kinds for key in node.cache.keys(kind)}


async def test_a_node_that_is_offered_and_named_relays_for_the_members(stage: Stage) -> None:
    # NODE-060
    documents = (stage.offer(), stage.named("n2", "n3"), *stage.members())
    async with stage.running(*documents) as node:
        await node.until(lambda: allowed(node) == {HOME: keys("n2", "n3")}, "the members")
        assert stage.is_open()
        assert HOME not in node.loop.loops
        assert node.machine.pinned == {}
    said = stage.registry.last("node")
    assert said.relay_key == wireguard.format_key(stage.key.public_key)
    assert said.relay_endpoints == (f"192.0.2.1:{stage.port}", f"[2001:db8::1]:{stage.port}")
    assert (stage.directory / "keys" / "relay.key").stat().st_mode & 0o777 == 0o600
    assert not stage.is_open()


async def test_documents_may_come_in_any_order(stage: Stage) -> None:
    # NODE-006
    documents = (*stage.members(), stage.named("n2", "n3"))
    async with stage.running(stage.offer(), *documents) as node:
        await node.until(lambda: allowed(node) == {HOME: keys("n2", "n3")}, "the members")


async def test_a_node_that_is_named_and_not_offered_does_nothing(stage: Stage) -> None:
    # NODE-060
    documents = (stage.world.farm(OWN), stage.named("n2", "n3"), *stage.members())
    async with stage.running(*documents) as node:
        await node.until(lambda: node.loop.farm, "the farm")
        await node.quiet()
        assert node.loop.relaying.relayed is None
        assert not stage.is_open()
        assert on_disk(node) == set()
    assert stage.registry.last("node").relay_key is None


async def test_a_node_that_is_offered_serves_nobody_who_did_not_name_it(stage: Stage) -> None:
    # NODE-060
    documents = (stage.offer(), stage.world.network("n2", "n3"), *stage.members())
    async with stage.running(*documents) as node:
        await node.until(stage.is_open, "the port")
        await node.quiet()
        assert allowed(node) == {}
        assert on_disk(node) == set()


async def test_another_farm_s_offer_is_none(stage: Stage) -> None:
    # NODE-060
    eve = identity(Kind.FARM, "eve")
    offer = RelayOffer(OWN.id, (f"192.0.2.1:{stage.port}",))
    forged = signed(Farm(eve.id, 9, "eve", (OWN.id,), (offer,)), eve)
    async with stage.running(
        stage.world.farm(OWN), forged, stage.named("n2"), *stage.members()
    ) as node:
        await node.until(lambda: node.loop.farm, "the farm")
        await node.quiet()
        assert node.loop.relaying.offer is None
        assert not stage.is_open()


async def test_an_offer_that_is_withdrawn_leaves_nothing_but_the_key(stage: Stage) -> None:
    # NODE-061
    documents = (stage.offer(), stage.named("n2", "n3"), *stage.members())
    async with stage.running(*documents) as node:
        await node.until(lambda: allowed(node), "the members")
        stage.registry.send(stage.world.farm(OWN, version=2))
        await node.until(lambda: not stage.is_open(), "the end")
        assert on_disk(node) == set()
        assert node.loop.relaying.key is None
        await node.until(lambda: stage.registry.last("node").relay_key is None, "the description")
        before = stage.key.public_key
        stage.registry.send(stage.offer(version=3))
        await node.until(lambda: node.loop.relaying.relay, "the relay again")
        assert stage.key.public_key == before


async def test_another_rate_holds_at_once_and_nobody_has_to_come_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # REL-038
    rates: list[int] = []
    monkeypatch.setattr(server.Relay, "set_rate", lambda _, rate_mbit: rates.append(rate_mbit))
    async with stage.running(stage.offer(rate_mbit=8), stage.named("n2")) as node:
        await node.until(lambda: 8 in rates, "the rate")
        serving = node.loop.relaying.relay
        stage.registry.send(stage.offer(version=2, rate_mbit=9))
        await node.until(lambda: 9 in rates, "the other rate")
        stage.registry.send(stage.offer(version=3))
        await node.until(lambda: rates[-1] == 0, "no limit")
        assert node.loop.relaying.relay is serving


async def test_an_offer_with_tls_takes_connections_and_one_without_takes_none(stage: Stage) -> None:
    # REL-050, NODE-061
    offer = stage.offer(tls_port=stage.port)
    async with stage.running(offer, stage.named("n2"), *stage.members()) as node:
        await node.until(lambda: node.loop.relaying.streams is not None, "connections")
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, stage.port), timeout=5).close()
        await node.until(lambda: stage.registry.last("node").relay_tls_port, "the description")
        assert stage.registry.last("node").relay_tls_port == stage.port
        stage.registry.send(stage.offer(version=2))
        await node.until(lambda: stage.registry.last("node").relay_tls_port is None, "the end")
        await node.until(lambda: node.loop.relaying.streams is None, "no connections")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", stage.port), timeout=5)
        await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "the members")


async def test_a_port_for_tls_that_cannot_be_had_is_told_and_udp_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # REL-056
    monkeypatch.setattr(backoff, "FIRST_S", 0.01)
    offer = stage.offer(tls_port=stage.port)
    with socket.create_server(("0.0.0.0", stage.port)):
        async with stage.running(offer, stage.named("n2"), *stage.members()) as node:
            await node.until(lambda: node.loop.relaying.tls_error is not None, "the error")
            error = node.loop.relaying.tls_error
            assert error is not None
            assert str(stage.port) in error.message
            await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "the members")
            assert node.loop.relaying.error is None


async def test_an_offer_elsewhere_moves_the_relay(stage: Stage) -> None:
    async with stage.running(stage.offer(), stage.named("n2"), *stage.members()) as node:
        await node.until(lambda: allowed(node), "the members")
        moved = Stage(stage.directory, stage.port + 1 if stage.port < 65_000 else stage.port - 1)
        stage.registry.send(stage.offer(version=2, port=moved.port))
        await node.until(moved.is_open, "the other port")
        assert not stage.is_open()
        await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "the members")


async def test_a_node_that_was_named_before_it_was_offered_asks_for_everything(
    stage: Stage,
) -> None:
    # NODE-062
    documents = (stage.world.farm(OWN), stage.named("n2"), *stage.members())
    async with stage.running(*documents) as node:
        await node.until(lambda: node.loop.farm, "the farm")
        await node.quiet()
        stage.registry.send(stage.offer(version=2))
        await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "the members")
        assert stage.registry.resumed_from[-1] is None
        assert node.cache.setting(ASKED) is not None


async def test_the_network_document_has_the_last_word(stage: Stage) -> None:
    # NODE-061
    documents = (stage.offer(), stage.named("n2", "n3"), *stage.members())
    async with stage.running(*documents) as node:
        await node.until(lambda: allowed(node), "the members")
        stage.registry.send(stage.named("n2", version=2, revoked=(N3.id,)))
        await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "one member less")
        stage.registry.send(stage.world.network("n2", version=3))
        await node.until(lambda: allowed(node) == {}, "no network")
        assert on_disk(node) == set()
        # What was withdrawn cannot come back older.
        stage.registry.send(stage.named("n2", "n3"))
        await node.until(lambda: f"network/{HOME}" in node.refused(), "a refusal")
        assert allowed(node) == {}


async def test_a_deleted_network_is_not_relayed(stage: Stage) -> None:
    # NODE-061
    async with stage.running(stage.offer(), stage.named("n2"), *stage.members()) as node:
        await node.until(lambda: allowed(node), "the members")
        stage.registry.send(stage.named(version=2, deleted=True))
        await node.until(lambda: allowed(node) == {}, "no network")
        assert on_disk(node) == set()


async def test_a_member_that_no_document_admits_is_not_served(stage: Stage) -> None:
    # NODE-060
    stranger = stage.world.member("eve", 9)
    documents = (stage.offer(), stage.named("n2"), *stage.members(), stranger)
    async with stage.running(*documents) as node:
        await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "the member")
        await node.quiet()
        assert allowed(node) == {HOME: keys("n2")}


async def test_a_relay_serves_from_its_disk(stage: Stage) -> None:
    # NODE-010
    documents = (stage.offer(), stage.named("n2", "n3"), *stage.members())
    async with stage.running(*documents) as node:
        await node.until(lambda: allowed(node) == {HOME: keys("n2", "n3")}, "the members")
    async with stage.running(registry=None) as node:
        await node.until(lambda: allowed(node) == {HOME: keys("n2", "n3")}, "the members")
        assert HOME not in node.loop.loops


async def test_what_a_registry_leaves_out_removes_nothing(stage: Stage) -> None:
    # NODE-004
    documents = (stage.offer(), stage.named("n2", "n3"), *stage.members())
    async with stage.running(*documents) as node:
        await node.until(lambda: allowed(node) == {HOME: keys("n2", "n3")}, "the members")
        stage.registry.snapshot()
        await node.quiet()
        assert allowed(node) == {HOME: keys("n2", "n3")}


async def test_a_member_that_relays_keeps_what_either_needs(stage: Stage) -> None:
    # NODE-061
    world = stage.world
    both = stage.named("own", "n2")
    n2 = world.member("n2", 2)
    async with stage.running(stage.offer(), both, n2) as node:
        await node.until(lambda: node.peers() == keys("n2"), "a peer")
        await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "a member")
        # No member any more, but still a relay; n2 keeps its index.
        left = document_of(stage.named("own", "n2", version=2))
        left = msgspec.structs.replace(left, members=left.members[1:])
        stage.registry.send(signed(left, ALICE))
        await node.until(lambda: HOME not in node.loop.loops, "no member")
        await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "still a relay")
        assert f"network/{HOME}" in on_disk(node)
        # Whoever comes into a network is sent all of it (REG-033).
        stage.registry.send(world.network("own", "n2", version=3), n2)
        await node.until(lambda: HOME in node.loop.loops, "a member again")
        await node.until(lambda: allowed(node) == {}, "no relay")
        assert f"network/{HOME}" in on_disk(node)
        await node.until(lambda: node.peers() == keys("n2"), "a peer")


async def test_a_member_that_relays_no_longer_stays_a_member(stage: Stage) -> None:
    # NODE-061
    both, n2 = stage.named("own", "n2"), stage.world.member("n2", 2)
    async with stage.running(stage.offer(), both, n2) as node:
        await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "a member")
        await node.until(lambda: node.peers() == keys("n2"), "a peer")
        stage.registry.send(stage.world.network("own", "n2", version=2))
        await node.until(lambda: allowed(node) == {}, "no relay")
        n2_key = f"member/{HOME}/{N2.id}"
        assert {f"network/{HOME}", n2_key} <= on_disk(node)
    async with stage.running(registry=None) as node:
        await node.until(lambda: node.peers() == keys("n2"), "a peer")


async def test_no_network_gets_the_relay_s_port(stage: Stage) -> None:
    # NODE-063
    first = stage.port
    more = {"first_port": first, "last_port": first + 1}
    async with stage.running(stage.offer(), stage.world.network("own", "n2"), **more) as node:
        loop = await node.until(lambda: node.loop.loops.get(HOME), "the network")
        assert loop.listen_port == first + 1
        await node.until(stage.is_open, "the relay")


async def test_a_port_that_is_taken_is_told_and_tried_again(stage: Stage) -> None:
    # NODE-063
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        other.bind(("0.0.0.0", stage.port))
        async with stage.running(stage.offer(), stage.named("n2"), *stage.members()) as node:
            error = await node.until(lambda: node.loop.relaying.error, "an error")
            assert str(stage.port) in error.message
            assert error.remedy is not None
            other.close()
            await node.until(lambda: allowed(node) == {HOME: keys("n2")}, "the relay")
            assert node.loop.relaying.error is None


async def test_a_damaged_key_stops_the_relay_and_nothing_else(stage: Stage) -> None:
    # NODE-064
    relay = stage.relay()
    path = stage.directory / "keys" / "relay.key"
    path.write_text("zos: nonsense\n")
    named = stage.world.network("own", "n2", relays=(relay,))
    async with stage.running(stage.offer(), named, stage.world.member("n2", 2)) as node:
        await node.until(lambda: node.loop.relaying.error, "an error")
        await node.until(lambda: node.peers() == keys("n2"), "a peer")
        assert not stage.is_open()
    assert path.read_text() == "zos: nonsense\n"


async def test_a_tenant_that_names_another_key_is_not_served(stage: Stage) -> None:
    # NODE-064
    other = stage.relay(key=device("other").public_key)
    documents = (stage.offer(), stage.named("n2", relays=(other,)), *stage.members())
    async with stage.running(*documents) as node:
        await node.until(lambda: allowed(node) == {HOME: frozenset()}, "nobody")
        relayed = node.loop.relaying.relayed
        assert relayed is not None
        assert relayed.names_other_key(HOME)


async def test_what_did_not_reach_the_disk_is_not_acted_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NODE-011
    commit, failing = Cache._commit, [False]

    def fail(cache: Cache) -> None:
        if failing[0]:
            cache._db.execute("ROLLBACK")
            cache._documents = cache._count("documents")
            raise Unavailable("disk full")
        commit(cache)

    monkeypatch.setattr(Cache, "_commit", fail)
    monkeypatch.setattr(following, "DISK_RETRY_S", 0.01)
    async with stage.running(stage.offer()) as node:
        await node.until(stage.is_open, "the relay")
        await node.quiet()
        failing[0] = True
        stage.registry.send(stage.named("n2", "n3"), *stage.members())
        await node.until(lambda: "disk" in node.refused(), "the fault")
        assert allowed(node) == {}
        failing[0] = False
        await node.until(lambda: allowed(node) == {HOME: keys("n2", "n3")}, "the members")


async def test_a_sighting_of_an_earlier_life_is_taken_back(stage: Stage) -> None:
    # NODE-065: members learn from it that the relay has forgotten them
    seen = (Seen(wireguard.format_key(device("n2").public_key), "203.0.113.9:4444"),)
    async with stage.running(stage.offer(), stage.named("n2"), *stage.members()) as node:
        await node.until(lambda: allowed(node), "the members")
        node.loop.publisher.sign(Sighting(HOME, OWN.id, 1, seen), OWN)
        await node.until(lambda: stage.registry.last("sighting"), "a sighting")
    async with stage.running() as node:
        await node.until(lambda: stage.registry.last("sighting").seen == (), "an empty sighting")
        assert stage.registry.last("sighting").version == 2


async def test_sightings_of_others_outlive_a_restart(stage: Stage) -> None:
    # NODE-066
    r = identity(Kind.NODE, "r")
    relay = Relay("r", r.id, wireguard.format_key(device("r").public_key), ("192.0.2.9:1",))
    named = stage.world.network("own", "n2", relays=(relay,))
    seen = (Seen(wireguard.format_key(device("n2").public_key), "203.0.113.9:4444"),)
    said = signed(Sighting(HOME, r.id, 7, seen), r)
    lie = signed(Sighting(HOME, N3.id, 7, seen), N3)
    documents = (stage.world.farm(OWN), named, stage.world.member("n2", 2), said, lie)

    def observed(node: RunningNode) -> Any:
        loop = node.loop.loops.get(HOME)
        return loop and loop.goals.observed(device("n2").public_key)

    async with stage.running(*documents) as node:
        found = await node.until(lambda: observed(node), "a sighting")
        assert {at: str(endpoint) for at, endpoint in found.items()} == {r.id: "203.0.113.9:4444"}
        await node.quiet()
        assert node.cache.keys("sighting/") == (f"sighting/{HOME}/{r.id}",)
    async with stage.running(registry=None) as node:
        assert observed(node) == found
        # Older ones are no news, and a relay that is none any more has nothing on disk.
        older = signed(Sighting(HOME, r.id, 6, ()), r)
        node.loop.documents.take([_document(older)])
        assert observed(node) == found
        node.loop.documents.take([_document(stage.world.network("own", "n2", version=2))])
        assert observed(node) == {}
        assert node.cache.keys("sighting/") == ()


def _document(envelope: Envelope) -> Document:
    return Document(1, trust.verify(envelope).key, encode_envelope(envelope))
