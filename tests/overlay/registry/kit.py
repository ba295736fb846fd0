"""Keys, documents and a running registry for tests. Time is a value that a test owns."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from overlay.documents import envelope as dsse
from overlay.documents import schema, trust
from overlay.documents.devices import NextDevice
from overlay.documents.envelope import Envelope
from overlay.documents.relays import Relay, RelayOffer, Seen, Sighting
from overlay.documents.schema import (
    Capacity,
    Document,
    Farm,
    Invitation,
    Member,
    NamedMember,
    Network,
    Node,
    Owners,
    Result,
)
from overlay.documents.trust import Verified
from overlay.keys import wireguard
from overlay.keys.identity import Identity, Kind
from overlay.peers.registry import RegistryClient, RegistryRef, Snapshot, WatchEvent
from overlay.registry import admission
from overlay.registry.admission import Stored
from overlay.registry.directory import Delivery, Directory
from overlay.registry.serve import Config, Running, running
from overlay.registry.store import Batch, Change, Store, Txn
from overlay.registry.store.sqlite import SqliteStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNIX = int(NOW.timestamp())
LOOPBACKS = ("127.0.0.1", "::1")


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def key(kind: Kind, name: str) -> Identity:
    """The same key for the same name."""
    return Identity(kind, hashlib.sha256(f"{kind} {name}".encode()).digest())


def node(name: str) -> Identity:
    return key(Kind.NODE, name)


def tenant(name: str = "t") -> Identity:
    return key(Kind.TENANT, name)


def farm(name: str = "f") -> Identity:
    return key(Kind.FARM, name)


def invite(name: str = "i") -> Identity:
    return key(Kind.INVITE, name)


def device(name: str) -> Identity:
    return key(Kind.WG, name)


def sign(document: Document, *signers: Identity) -> Envelope:
    payload = schema.encode(document)
    return dsse.sign(payload, schema.payload_type(schema.kind_of(document)), *signers)


def verified(envelope: Envelope) -> Verified:
    return trust.verify(envelope)


def network(
    owner: Identity,
    *names: str,
    name: str = "net",
    version: int = 1,
    invitations: tuple[Invitation, ...] = (),
    **fields: Any,
) -> Network:
    """A network whose named members are nodes of these names, with indexes from 1 on."""
    return Network(
        name=name,
        version=version,
        owners=Owners(1, (owner.id,)),
        range="10.0.0.0/8",
        members=tuple(NamedMember(n, node(n).id, i) for i, n in enumerate(names, 1)),
        invitations=invitations,
        **fields,
    )


def network_id(of: Network) -> str:
    return trust.network_id(of.owners, of.name)


def invitation(
    holder: Identity, *, first_index: int = 100, uses: int = 1, expires: int = UNIX + 3_600
) -> Invitation:
    name = f"inv-{holder.id[-8:]}"
    return Invitation(name, holder.id, first_index, uses, expires)


def member(of: Network, name: str, index: int, *, version: int = 1, **fields: Any) -> Member:
    fields.setdefault("device", device(f"{network_id(of)} {name}").id)
    fields.setdefault("joined", UNIX)
    return Member(
        network=network_id(of),
        node=node(name).id,
        version=version,
        name=name,
        index=index,
        **fields,
    )


def signed_member(
    of: Network,
    name: str,
    index: int,
    *,
    by: Identity | None = None,
    device_name: str | None = None,
    next_name: str | None = None,
    **fields: Any,
) -> Envelope:
    """A member document with the signatures it needs; `by` is the invitation's key."""
    if next_name is not None:
        fields["next_device"] = NextDevice(device(next_name).id, UNIX)
    key_name = device_name or f"{network_id(of)} {name}"
    fields["device"] = device(key_name).id
    if by is not None:
        fields["invitation"] = by.id
    others = (device(next_name) if next_name is not None else None, by)
    signers = (node(name), device(key_name), *(each for each in others if each is not None))
    return sign(member(of, name, index, **fields), *signers)


def signed_node(name: str, *, version: int = 1, farm_id: str | None = None) -> Envelope:
    document = Node(
        node=node(name).id,
        version=version,
        name=name,
        software="zos/test",
        backend="kernel",
        capacity=Capacity(2, 1 << 30, 1 << 34),
        farm=farm_id,
    )
    return sign(document, node(name))


def signed_farm(
    operator: Identity, *names: str, version: int = 1, relays: tuple[str, ...] = ()
) -> Envelope:
    nodes = tuple(node(n).id for n in names)
    offers = tuple(RelayOffer(node(n).id, ("192.0.2.1:51819",)) for n in relays)
    document = Farm(farm=operator.id, version=version, name="farm", nodes=nodes, relays=offers)
    return sign(document, operator)


def relay(name: str) -> Relay:
    """A relay of a network at the node of this name."""
    public = wireguard.wireguard_public_key(device(f"relay {name}").id)
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:1])
    endpoint = f"192.0.2.{number}:51819"
    return Relay(name, node(name).id, wireguard.format_key(public), (endpoint,))


def signed_sighting(
    of: Network, name: str, *, version: int = 1, seen: tuple[Seen, ...] = ()
) -> Envelope:
    document = Sighting(network_id(of), node(name).id, version, seen)
    return sign(document, node(name))


def signed_result(of: Network, name: str, *, version: int = 1) -> Envelope:
    document = Result(
        network=network_id(of),
        node=node(name).id,
        version=version,
        document_version=of.version,
        ok=True,
        at=UNIX,
    )
    return sign(document, node(name))


@asynccontextmanager
async def registry(
    path: Path,
    *,
    clock: Clock | None = None,
    identity: Identity | None = None,
    store: Store | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """A registry on both loopback addresses, with its store in `path`."""
    settings = {"addresses": LOOPBACKS, "port": 0, "request_burst": 1e6, **settings}
    if store is None:
        store = await SqliteStore.open(path / "registry.db", born=UNIX)
    async with running(
        Config(**settings),
        identity=identity or key(Kind.REGISTRY, "r"),
        clock=clock or Clock(),
        store=store,
    ) as here:
        yield here


def client(
    at: Running, who: Identity, *, clock: Clock | None = None, host: str = "127.0.0.1", **more: Any
) -> RegistryClient:
    return RegistryClient(RegistryRef.parse(at.reference(host)), who, clock or Clock(), **more)


async def snapshot(of: RegistryClient) -> Snapshot:
    """All that a caller may see."""
    async with aclosing(of.watch()) as events:
        async for event in events:
            assert isinstance(event, Snapshot)
            return event
    raise AssertionError("the stream ended")


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[WatchEvent]:
    """The next `count` events of a stream."""
    return [await anext(events) for _ in range(count)]


def wire_json(envelope: Envelope) -> dict[str, Any]:
    """An envelope as JSON, for tests that change it."""
    found: dict[str, Any] = msgspec.json.decode(dsse.encode_envelope(envelope))
    return found


class Ledger:
    """A store of the shortest kind with a directory that follows it: admission without IO."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.revision = 0
        self._written: dict[str, int] = {}
        self.deliveries: list[Delivery] = []

    def decide(self, envelope: Envelope, *, now: datetime = NOW) -> Txn | Stored:
        return admission.decide(self.directory, verified(envelope), envelope, now=now)

    def commit(self, txn: Txn) -> int | None:
        if any(self._written.get(key, 0) != revision for key, revision in txn.compares):
            return None
        self.revision += 1
        changes = [Change(key, value) for key, value in txn.puts]
        changes += [Change(key, None) for key in txn.deletes]
        for change in changes:
            self._written[change.key] = 0 if change.value is None else self.revision
        self.deliveries = self.directory.apply(Batch(self.revision, tuple(changes)))
        return self.revision

    def publish(self, envelope: Envelope, *, now: datetime = NOW) -> int:
        """What a registry does with a document when nobody else writes."""
        decision = self.decide(envelope, now=now)
        if isinstance(decision, Stored):
            return decision.revision
        revision = self.commit(decision)
        assert revision is not None
        return revision

    def told(self) -> set[tuple[str, str]]:
        """Who has to be told of which document after the last publication."""
        return {(who, d.held.key) for d in self.deliveries for who in d.audience}
