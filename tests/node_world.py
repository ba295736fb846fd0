"""A node on a machine in memory, and a registry that does what it is told, lies included."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from nacl.bindings import crypto_scalarmult_base

from overlay import addressing
from overlay.documents import schema, trust
from overlay.documents.envelope import Envelope, encode_envelope, parse_envelope, sign
from overlay.documents.relays import RelayOffer
from overlay.documents.schema import (
    Capacity,
    Document,
    EndpointCandidate,
    Farm,
    Invitation,
    Member,
    NamedMember,
    Network,
    Owners,
)
from overlay.documents.trust import Verified
from overlay.errors import Unavailable
from overlay.keys.identity import Identity, Kind, Signer
from overlay.keys.wireguard import DeviceKey
from overlay.model import CandidateKind, FarmId, NetworkId, WgDevice, WgPublicKey
from overlay.netns.converge import Configurator
from overlay.peers import registry
from overlay.peers.cache import Cache, open_cache
from overlay.peers.registry import PublishConflict, RegistryRef, Snapshot, WatchEvent
from overlay.reconcile.node import NodeLoop
from overlay.reconcile.settings import NodeSettings
from tests.fake_machine import FakeMachine

REGISTRY = RegistryRef("192.0.2.200", 8443, "registry1test")  # type: ignore[arg-type]
START = datetime(2030, 1, 1, tzinfo=UTC)
PATIENCE_S = 30.0  # ends a hang and measures nothing
CAPACITY = Capacity(cpus=1, memory_bytes=1, disk_bytes=1)


def seed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def identity(kind: Kind, name: str) -> Identity:
    return Identity.from_seed(kind, seed(f"{kind} {name}"))


def device(name: str) -> DeviceKey:
    return DeviceKey.from_seed(seed(f"device {name}"))


OWN = identity(Kind.NODE, "own")
ALICE = identity(Kind.TENANT, "alice")
FARMER = identity(Kind.FARM, "basement")
INVITE = identity(Kind.INVITE, "invite")
OWNERS = Owners(threshold=1, keys=(ALICE.id,))


class World:
    """Makes documents, signed by whoever the test wants."""

    def farm(
        self, *nodes: Identity, version: int = 1, relays: tuple[RelayOffer, ...] = ()
    ) -> Envelope:
        farm = Farm(FARMER.id, version, "basement", tuple(node.id for node in nodes), relays)
        return signed(farm, FARMER)

    def network(
        self, *names: str, version: int = 1, name: str = "home", signer: Signer = ALICE, **more: Any
    ) -> Envelope:
        """Named members get the indexes 1, 2, ... in the order of `names`."""
        members = tuple(
            NamedMember(member, identity(Kind.NODE, member).id, index)
            for index, member in enumerate(names, 1)
        )
        network = Network(
            name=name,
            version=version,
            owners=OWNERS,
            range="10.1.0.0/16",
            members=members,
            **more,
        )
        schema.check(network)
        return signed(network, signer)

    def invitation(self, *, first_index: int = 100, uses: int = 2, expires: int = 0) -> Invitation:
        return Invitation(
            "guests", INVITE.id, first_index, uses, expires or int(START.timestamp()) + 3_600
        )

    def member(
        self,
        name: str,
        index: int,
        *,
        version: int = 1,
        network: NetworkId | None = None,
        endpoints: tuple[str, ...] = ("192.0.2.7:51820", "[2001:db8::7]:51820"),
        kind: CandidateKind = CandidateKind.DECLARED,
        signers: tuple[Signer, ...] | None = None,
        **more: Any,
    ) -> Envelope:
        more.setdefault("device", device(name).id)
        member = Member(
            network=network or HOME,
            node=identity(Kind.NODE, name).id,
            version=version,
            name=name,
            index=index,
            joined=int(START.timestamp()),
            endpoints=tuple(EndpointCandidate(kind, e) for e in endpoints),
            **more,
        )
        return signed(member, *(signers or (identity(Kind.NODE, name), device(name))))


HOME = NetworkId(trust.network_id(OWNERS, "home"))


def signed(document: Document, *signers: Signer) -> Envelope:
    kind = schema.kind_of(document)
    return sign(schema.encode(document), schema.payload_type(kind), *signers)


def document_of(envelope: Envelope) -> Any:
    return trust.verify(envelope).document


class FakeClock:
    """Wall-clock time that tests move; monotonic time runs, because loops wait by it."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        return START + self.offset

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class FakeRegistry:
    """Holds what is published; sends what the test says, true or not."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.published: list[Verified] = []
        self.down = False
        self.refuse: Callable[[Verified], None] = lambda _: None
        self.resumed_from: list[int | None] = []
        self._revision = itertools.count(1)
        self._streams: list[asyncio.Queue[WatchEvent]] = []

    def refuse_what_is_no_news(self, verified: Verified) -> None:
        """As a registry does: what it holds is at least as new."""
        raw = self.held.get(verified.key)
        held = trust.verify(parse_envelope(raw)) if raw is not None else None
        if held is not None and held.version >= verified.version:
            there = registry.Document(1, verified.key, self.held[verified.key])
            raise PublishConflict("no news", field="version", current=there)

    def client(self, ref: RegistryRef = REGISTRY, signer: Signer = OWN) -> FakeClient:
        return FakeClient(self, ref)

    def send(self, *envelopes: Envelope) -> None:
        """Everybody who watches is sent these, and a bookmark."""
        for envelope in envelopes:
            self.send_raw(trust.document_key(_unverified(envelope)), encode_envelope(envelope))

    def send_raw(self, key: str, raw: bytes) -> None:
        revision = next(self._revision)
        self.held[key] = raw
        self._tell(registry.Document(revision, key, raw))
        self._tell(registry.Bookmark(revision))

    def snapshot(self, *envelopes: Envelope) -> None:
        documents = tuple(
            registry.Document(1, trust.document_key(_unverified(e)), encode_envelope(e))
            for e in envelopes
        )
        self._tell(Snapshot(next(self._revision), documents))

    def last(self, kind: str) -> Any:
        """The newest published document of a kind."""
        found = [v.document for v in self.published if v.key.startswith(f"{kind}/")]
        return found[-1] if found else None

    def _tell(self, event: WatchEvent) -> None:
        for stream in self._streams:
            stream.put_nowait(event)

    async def watch(self, from_revision: int | None) -> AsyncIterator[WatchEvent]:
        if self.down:
            raise Unavailable("registry down")
        self.resumed_from.append(from_revision)
        stream: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self._streams.append(stream)
        for key, raw in self.held.items():
            stream.put_nowait(registry.Document(1, key, raw))
        stream.put_nowait(registry.Bookmark(next(self._revision)))
        while True:
            yield await stream.get()


class FakeClient:
    def __init__(self, registry: FakeRegistry, ref: RegistryRef) -> None:
        self.ref = ref
        self._registry = registry

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def publish(self, envelope: Envelope) -> int:
        if self._registry.down:
            raise Unavailable("registry down")
        verified = trust.verify(envelope)
        self._registry.refuse(verified)
        self._registry.published.append(verified)
        self._registry.held[verified.key] = encode_envelope(envelope)
        return len(self._registry.published)

    async def fetch(self, key: str) -> registry.Document | None:
        raw = self._registry.held.get(key)
        return None if raw is None else registry.Document(1, key, raw)

    async def list(self, kind: str, network: str | None = None) -> tuple[registry.Document, ...]:
        prefix = f"{kind}/{network}/"
        return tuple(
            registry.Document(1, k, raw)
            for k, raw in self._registry.held.items()
            if k.startswith(prefix)
        )

    def watch(self, from_revision: int | None = None) -> AsyncIterator[WatchEvent]:
        return self._registry.watch(from_revision)


def taken(index: int) -> Callable[[Verified], None]:
    """A registry in which this index has just been taken by somebody else."""

    def refuse(verified: Verified) -> None:
        if isinstance(verified.document, Member) and verified.document.index == index:
            raise PublishConflict(f"index {index} is taken", field="index")

    return refuse


class FakeNotices:
    """Notifications are what the test says they are."""

    def __init__(self) -> None:
        self.followed: set[str] = set()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self.links_changed: Callable[[], None] = lambda: None

    async def __aenter__(self) -> FakeNotices:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def follow(self, names: Iterable[str]) -> None:
        self.followed = set(names)

    def __aiter__(self) -> FakeNotices:
        return self

    async def __anext__(self) -> str:
        return await self._queue.get()

    def tell(self) -> None:
        """Something changed in every netns that is followed."""
        for name in self.followed:
            self._queue.put_nowait(name)

    @contextmanager
    def links(self, wake: Callable[[], None]) -> Iterator[None]:
        self.links_changed = wake
        yield


class RunningNode:
    """A node on a machine in memory, with the loops running."""

    def __init__(
        self, loop: NodeLoop, cache: Cache, machine: FakeMachine, notices: FakeNotices
    ) -> None:
        self.loop = loop
        self.cache = cache
        self.machine = machine
        self.notices = notices
        self.clock = loop.clock

    def device(self, network: NetworkId = HOME) -> WgDevice | None:
        """The WireGuard device as the kernel has it."""
        netns = self.machine.pinned.get(addressing.netns_name(network))
        link = netns.links.get("wg0") if netns is not None else None
        if link is None or link.device is None:
            return None
        return WgDevice(link.device.public_key, link.device.listen_port, dict(link.device.peers))

    def peers(self, network: NetworkId = HOME) -> set[WgPublicKey]:
        found = self.device(network)
        return set() if found is None else set(found.peers)

    def reasons(self) -> list[str]:
        """Everything that is said to have been refused."""
        inside = [
            refused.reason
            for loop in self.loop.loops.values()
            for refused in loop.goals.selection.refusals.values()
        ]
        return [refusal.reason for refusal in self.loop.journal.refusals] + inside

    def refused(self) -> set[str]:
        """The keys of what is said to have been refused."""
        return {refusal.key for refusal in self.loop.journal.refusals}

    async def until(self, look: Callable[[], Any], what: str) -> Any:
        """What `look` finds, as soon as it finds something."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                generation = self.loop.generation
                if found := look():
                    return found
                try:
                    async with asyncio.timeout(0.05):
                        await self.loop.wait_change(generation)
                except TimeoutError:
                    continue

    async def quiet(self) -> None:
        """Everything that was sent has been looked at, and the loops have settled."""
        await self.until(
            lambda: (
                self.loop.following.feed.events.empty()
                and all(
                    each.passes.is_settled or not each.is_wanted
                    for each in self.loop.loops.values()
                )
            ),
            "quiet",
        )
        await asyncio.sleep(0)


@asynccontextmanager
async def running(
    directory: Path,
    *,
    machine: FakeMachine | None = None,
    registry: FakeRegistry | None = None,
    clock: FakeClock | None = None,
    own: Identity = OWN,
    farm: str | None = FARMER.id,
    **settings: Any,
) -> AsyncIterator[RunningNode]:
    """A node from what is on disk in `directory`, until the block ends."""
    machine = machine or FakeMachine()
    underlay = machine.underlay
    if "eth0" not in underlay.links:
        eth0 = machine.new_link(underlay, "eth0", "")
        eth0.up = True
        eth0.addresses = [
            addressing.InterfaceAddress("192.0.2.1/24"),
            addressing.InterfaceAddress("2001:db8::1/64"),
        ]
    clock = clock or FakeClock()
    shell = machine.shell
    notices = FakeNotices()
    with open_cache(directory / "node.db") as cache:
        node = NodeLoop(
            own,
            NodeSettings(
                name="own",
                software="test",
                capacity=CAPACITY,
                farm=FarmId(farm) if farm else None,
                **settings,
            ),
            keys=directory / "keys",
            cache=cache,
            configurator=Configurator(shell, clock=clock),
            shell=shell,
            clock=clock,
            random=lambda: 0.5,
            notices=notices,
            link_notices=notices.links,
        )
        if registry is not None:
            node.following.connect(registry.client())  # type: ignore[arg-type]
        await node.load()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(node.run())
            found = RunningNode(node, cache, machine, notices)
            try:
                yield found
            finally:
                task.cancel()


def real_public(private_key: Any) -> WgPublicKey:
    """The public key that WireGuard would tell."""
    return WgPublicKey(crypto_scalarmult_base(private_key.reveal()))


def _unverified(envelope: Envelope) -> Any:
    return schema.parse_document(envelope.payload, envelope.payload_type)


def tampered(envelope: Envelope, **changes: Any) -> Envelope:
    """Other content under the same signatures."""
    document = msgspec.structs.replace(_unverified(envelope), **changes)
    return Envelope(envelope.payload_type, schema.encode(document), envelope.signatures)
