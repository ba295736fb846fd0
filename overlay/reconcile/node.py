"""All networks of one node: what arrives goes to its loop, what is ours goes to the registry.

No kernel change follows from anything unsigned or stale: documents pass `Intake`, are durable, and
only then reach a loop. What the registry leaves out removes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from overlay.documents import schema, trust
from overlay.documents.envelope import parse_envelope
from overlay.documents.schema import Farm, Member, Network, Node, Result
from overlay.documents.trust import Verified
from overlay.errors import Refused, Rejected, Unavailable
from overlay.keys.identity import Identity
from overlay.model import NetworkId, NodeId
from overlay.netns.converge import Configurator
from overlay.netns.ports import Shell
from overlay.peers import candidates
from overlay.peers.cache import Cache
from overlay.peers.candidates import Surroundings
from overlay.peers.registry import Bookmark, Document, RegistryClient, Snapshot
from overlay.ports import Clock
from overlay.reconcile import membership, workloads
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.feed import BATCH_DOCUMENTS, Batch, Feed
from overlay.reconcile.intake import Intake
from overlay.reconcile.journal import Journal
from overlay.reconcile.keyring import Keyring
from overlay.reconcile.machine import LinkNotices, Machine, Notices
from overlay.reconcile.networks import Networks
from overlay.reconcile.publisher import Publisher
from overlay.reconcile.resource import NOTIFICATION, ResourceLoop
from overlay.reconcile.results import Results
from overlay.reconcile.settings import NodeSettings
from overlay.reconcile.surroundings import select_surroundings

log = logging.getLogger(__name__)

MAX_EARLY_MEMBERS = 512  # that came before their network
SURROUNDINGS_S = 10.0  # our links are looked at again after this time, or when told
SETTLE_S = 0.2
RESTART_S = 5.0  # after a fault of ours
DISK_RETRY_S = 2.0
DISK = "disk"  # in the journal, what keeps documents from being stored


class NodeLoop:
    """The networks of one node. `load` first, then `run`, for ever."""

    def __init__(
        self,
        identity: Identity,
        settings: NodeSettings,
        *,
        keys: Path,
        cache: Cache,
        configurator: Configurator,
        shell: Shell,
        clock: Clock,
        random: Callable[[], float],
        notices: Notices,
        link_notices: LinkNotices,
    ) -> None:
        self.id = NodeId(identity.id)
        self.settings = settings
        self.journal = Journal()
        self.generation = 0
        self.intake = Intake(cache)
        self.feed = Feed(clock=clock, backoff=Backoff(random), resume=self._revision)
        self.publisher = Publisher(
            self.intake, clock=clock, backoff=Backoff(random), on_conflict=self._take_conflict
        )
        self.results = Results(self.publisher, identity, clock=clock)
        self.clock = clock
        self.identity = identity
        self.joining = asyncio.Lock()
        self.keys = Keyring(keys, identity)
        self._cache = cache
        self._notices = notices
        self._link_notices = link_notices
        self.machine = Machine(
            configurator, shell, clock, random, self.publisher, self._note_outcome
        )
        self.networks = Networks(
            self.id,
            settings,
            cache=cache,
            keys=self.keys,
            machine=self.machine,
            journal=self.journal,
            results=self.results,
        )
        self.loops = self.networks.loops
        self.refused = self.networks.refused
        self._early: OrderedDict[str, bytes] = OrderedDict()
        self._group: asyncio.TaskGroup | None = None
        self._changed = asyncio.Event()
        self._client: RegistryClient | None = None
        self._has_client = asyncio.Event()
        self._resync = asyncio.Event()
        self._opened: list[ResourceLoop] = []  # in this batch
        self._touched: dict[NetworkId, bool] = {}  # -> whether more than peers changed

    # Life.

    async def load(self) -> None:
        """Take what is on disk. Networks come up from there without anybody's help."""
        self.networks.surroundings = await self._read_surroundings()
        for _, verified in self._stored("farm/"):
            if isinstance(verified.document, Farm) and verified.document.farm == self.settings.farm:
                self.networks.farm = verified.document
        for key, verified in self._stored("network/"):
            if isinstance(verified.document, Network):
                self._reopen(NetworkId(key.partition("/")[2]), verified.document)
        self._load_members()
        self._load_results()
        with self._cache.batch():
            for loop in self.loops.values():
                self.networks.refresh(loop)
            self._describe_node()
        for key in self._own_keys():
            self.publisher.offer(key)

    def _reopen(self, network: NetworkId, document: Network) -> None:
        """A network whose key file is damaged stays as it is; the others run."""
        try:
            self.networks.open(network, document)
        except Rejected as exc:
            log.error("network not served", extra={"network": network, "reason": str(exc)})
            self.networks.refuse(network, document, Refused(exc.message, remedy=exc.remedy))

    def _load_members(self) -> None:
        for _, verified in self._stored("member/"):
            member = verified.document
            if isinstance(member, Member) and (loop := self.networks.get(member.network)):
                loop.goals.put_member(member, now=self.clock.monotonic())

    def _load_results(self) -> None:
        for key, verified in self._stored("result/"):
            if isinstance(verified.document, Result) and self.networks.get(
                verified.document.network
            ):
                self.results.put(verified.document)
            else:
                self._cache.forget(key)

    async def run(self) -> None:
        """Serve until cancelled. What is in the kernel stays."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name, task in (
                ("documents", self._take_events),
                ("publisher", self.publisher.run),
                ("feed", self._follow),
                ("links", self._watch_links),
                ("notifications", self._watch_resources),
            ):
                group.create_task(self._supervise(task, name), name=name)
            for loop in self.loops.values():
                self._start(loop)

    def connect(self, client: RegistryClient) -> None:
        """Use this registry from now on."""
        self._client = client
        self._has_client.set()

    @property
    def farm(self) -> Farm | None:
        """The latest document of our farm."""
        return self.networks.farm

    @property
    def surroundings(self) -> Surroundings:
        return self.networks.surroundings

    @property
    def client(self) -> RegistryClient | None:
        return self._client

    @property
    def backend(self) -> str:
        return self.machine.shell.wireguard.name

    @property
    def revision(self) -> int | None:
        """Up to where the registry has been followed."""
        return self._revision()

    async def wait_change(self, generation: int) -> None:
        """Until something that status shows is other than at `generation`."""
        while self.generation <= generation:
            await self._changed.wait()

    # Tasks.

    async def _follow(self) -> None:
        await self._has_client.wait()
        while (client := self._client) is not None:
            connected = partial(self._connected, client)
            async with asyncio.TaskGroup() as group:
                following = group.create_task(
                    self.feed.run(client, on_connected=connected), name="registry stream"
                )
                await self._resync.wait()
                self._resync.clear()
                following.cancel()

    def _connected(self, client: RegistryClient) -> None:
        self.publisher.connect(client)
        self._bump()

    async def _take_events(self) -> None:
        while True:
            for batch in await self.feed.next_batches():
                await self._take_surely(batch)

    async def _take_surely(self, event: Batch) -> None:
        """Nothing that came is forgotten because the disk takes nothing: it is taken again."""
        while True:
            try:
                await self._take_event(event)
            except Unavailable as exc:
                if self.journal.refuse(DISK, exc, now=self.clock.now()):
                    log.error("disk takes nothing", extra={"reason": str(exc)})
                self._bump()
                await asyncio.sleep(DISK_RETRY_S)
            else:
                self.journal.accept(DISK)
                return

    async def _take_event(self, event: Batch) -> None:
        match event:
            case tuple():
                self.take(event)
            case Snapshot(revision=revision, documents=documents):
                for start in range(0, len(documents), BATCH_DOCUMENTS):
                    self.take(documents[start : start + BATCH_DOCUMENTS])
                    await asyncio.sleep(0)
                for key in self._own_keys() - {document.key for document in documents}:
                    self.publisher.offer(key)
                self._note_revision(revision)
            case Bookmark(revision=revision):
                self._note_revision(revision)
        self._bump()

    async def _watch_links(self) -> None:
        """Our addresses changed: say so, and be heard from the new ones."""
        changed = asyncio.Event()
        with self._link_notices(changed.set):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SURROUNDINGS_S):
                        await changed.wait()
                        await asyncio.sleep(SETTLE_S)
                changed.clear()
                with suppress(Unavailable):
                    self.put_surroundings(await self._read_surroundings())

    async def _watch_resources(self) -> None:
        """What others change in a tenant netns, or do to its pin, is looked at."""
        async with self._notices:
            self._follow_netns()
            async for netns in self._notices:
                for loop in self.loops.values():
                    if loop.netns == netns:
                        loop.wake(NOTIFICATION)

    def _follow_netns(self) -> None:
        self._notices.follow(loop.netns for loop in self.loops.values() if loop.is_wanted)

    async def _supervise(self, task: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """A fault in one task is ours: it is shown, and the others go on."""
        while True:
            try:
                await task()
                return
            except Exception:  # the one broad except: it supervises all tasks
                log.exception("task failed", extra={"task": name})
                self.journal.refuse(
                    f"task/{name}",
                    Unavailable("a fault in zos; the log has the details"),
                    now=self.clock.now(),
                )
                self._bump()
                await asyncio.sleep(RESTART_S)

    def _start(self, loop: ResourceLoop) -> None:
        if self._group is not None:
            name = f"network {loop.network}"
            self._group.create_task(self._serve(loop), name=name)

    async def _serve(self, loop: ResourceLoop) -> None:
        await self._supervise(loop.run, f"network {loop.network}")
        self._retire(loop)

    # Documents.

    def take(self, documents: Iterable[Document]) -> None:
        """Verify, store, and only then act on. What is refused is noted and changes nothing."""
        with self._durable():
            for document in documents:
                self._take(document.key, document.envelope)

    @contextmanager
    def _durable(self) -> Iterator[None]:
        """What happens in the block is on disk before any loop acts on it, or did not happen."""
        self._touched, self._opened = {}, []
        farm = self.networks.farm
        try:
            with self._cache.batch():
                yield
        except BaseException:
            self.networks.farm = farm
            for opened in self._opened:
                del self.loops[opened.network]
            for network in self._touched.keys() & self.loops.keys():
                self._reload(self.loops[network])
            raise
        for opened in self._opened:
            self._start(opened)
        for network, more in self._touched.items():
            if (loop := self.loops.get(network)) is not None:
                loop.changed(peers_only=not more)

    def _reload(self, loop: ResourceLoop) -> None:
        """Forget what did not reach the disk."""
        loop.reset_goals()
        for key, verified in self._stored("network/"):
            if key == f"network/{loop.network}" and isinstance(verified.document, Network):
                loop.put_network(verified.document)
        for _, verified in self._stored(f"member/{loop.network}/"):
            if isinstance(verified.document, Member):
                loop.goals.put_member(verified.document, now=self.clock.monotonic())

    def _take(self, key: str, raw: bytes) -> None:
        try:
            verified = self.intake.verify(raw, key=key)
            self._accept(verified, raw)
            self.journal.accept(key)
        except Rejected as exc:
            if self.journal.refuse(key, exc, now=self.clock.now()):
                log.warning("document refused", extra={"key": key[:160], "reason": str(exc)})

    def _accept(self, verified: Verified, raw: bytes) -> None:
        match verified.document:
            case Farm() as farm:
                if farm.farm == self.settings.farm and farm != self.farm:
                    self.intake.keep(verified, raw)
                    self.networks.farm = farm
                    self._refresh_all()
            case Network() as network:
                self._accept_network(verified, network, raw)
            case Member() as member:
                self._accept_member(verified, member, raw)
            case Node() | Result() as own:
                if own.node == self.id:
                    self.publisher.note_accepted(verified.key, verified.version)

    def _accept_network(self, verified: Verified, network: Network, raw: bytes) -> None:
        id_ = NetworkId(verified.key.partition("/")[2])
        loop = self.loops.get(id_)
        if loop is None:
            if network.deleted or all(m.node != self.id for m in network.members):
                return  # it is no business of ours
            loop = self._admit(verified, network, raw)
            self._take_early(id_)
        elif loop.document != network:
            self.intake.keep(verified, raw)
            loop.put_network(network)
        else:
            return
        self.networks.refresh(loop)
        self._touched[id_] = True

    def _admit(
        self, verified: Verified, network: Network, raw: bytes, *, joined: bool = False
    ) -> ResourceLoop:
        """A network that is new to us. Raises Refused when there is no room for it.

        One that somebody here joined is not kept out by those that may not use this node anyway:
        anybody can name it in as many as there may be.
        """
        id_ = NetworkId(verified.key.partition("/")[2])
        others = (other for other in self.loops.values() if other.gate.open or not joined)
        try:
            held = tuple(d for other in others if (d := other.document))
            membership.refuse_excess(held, network)
            self.networks.reserve_port(id_)
        except Refused as exc:
            self.networks.refuse(id_, network, exc)
            raise
        self.intake.keep(verified, raw)
        self.refused.pop(id_, None)
        loop = self.networks.open(id_, network)
        self._opened.append(loop)
        return loop

    def adopt(
        self, network: NetworkId, documents: Iterable[Document], *, invitation: Identity
    ) -> None:
        """Act on a network that was joined by token: its document comes first, then members."""
        first, *members = documents
        self.keys.keep_invitation(network, invitation)
        with self._durable():
            self._cache.set_setting(f"joined/{network}", invitation.id)
            if network not in self.loops:
                verified = self.intake.verify(first.envelope, key=first.key)
                if not isinstance(verified.document, Network):
                    raise Rejected(f"{first.key} is no network document")
                self._admit(verified, verified.document, first.envelope, joined=True)
            for member in members:
                self._take(member.key, member.envelope)
            self.networks.refresh(self.loops[network])
            self._touched[network] = True
        self._bump()

    def _accept_member(self, verified: Verified, member: Member, raw: bytes) -> None:
        loop = self.loops.get(NetworkId(member.network))
        if loop is None:
            self._early[verified.key] = raw
            if len(self._early) > MAX_EARLY_MEMBERS:
                self._early.popitem(last=False)
            return
        if member.node == self.id:
            self.publisher.note_accepted(verified.key, verified.version)
        known = loop.goals.selection.members.get(member.node)
        if known is not None and known.version == member.version:
            return
        self.intake.keep(verified, raw)
        loop.goals.put_member(member, now=self.clock.monotonic())
        if member.node == self.id:
            self.networks.refresh(loop)
        self._touched.setdefault(loop.network, member.node == self.id)

    def _take_early(self, network: NetworkId) -> None:
        for key in [key for key in self._early if key.startswith(f"member/{network}/")]:
            self._take(key, self._early.pop(key))

    def _take_conflict(self, document: Document) -> None:
        """The registry has another document in the place of ours: perhaps a newer one of ours.

        After our disk was lost or restored it is one that we forgot: ours becomes newer than that.
        """
        self.take((document,))
        try:
            held = trust.verify(parse_envelope(document.envelope))
            stored = self.intake.own_envelope(held.key)
            own = None if stored is None else trust.verify(stored)
        except Rejected:
            return
        if own is not None and own.version <= held.version and own.digest != held.digest:
            with self._cache.batch():
                self.intake.outdo(held)
                self._sign_again(own.document)

    def _sign_again(self, document: schema.Document) -> None:
        match document:
            case Member(node=self.id) as member if loop := self.networks.get(member.network):
                self.networks.publish_member(loop, member)
            case (Node(node=self.id) | Result(node=self.id)) as said:
                self.publisher.sign(said, self.identity)

    def _refresh_all(self) -> None:
        for loop in self.loops.values():
            self.networks.refresh(loop)
            self._touched[loop.network] = True

    def _retire(self, loop: ResourceLoop) -> None:
        """Nothing is left in the kernel: nor is anything on disk, but the floors."""
        network = loop.network
        log.info("network removed", extra={"network": network})
        self.networks.forget(network)
        if self.refused:
            # There is room for a network that was turned away; ask for everything again.
            self.refused.clear()
            self._cache.drop_setting(self._revision_name)
            self._resync.set()
        self._bump()

    # What others hear of us.

    def _note_outcome(self, loop: ResourceLoop) -> None:
        self._bump()
        self._follow_netns()
        workloads.drop_ended(loop, self._cache)
        outcome = loop.outcome
        if outcome is None or not loop.gate.open:
            return
        if outcome.error is None or loop.failures > 1:  # one failure may be a moment's
            self.results.report(loop.network, outcome.document_version, outcome.error)

    def _describe_node(self) -> None:
        settings = self.settings
        said = Node(
            node=self.id,
            version=1,
            name=settings.name,
            software=settings.software,
            backend=self.machine.shell.wireguard.name,
            capacity=settings.capacity,
            farm=settings.farm,
        )
        key = trust.document_key(said)
        held = next((v.document for k, v in self._stored("node/") if k == key), None)
        if not isinstance(held, Node) or msgspec.structs.replace(held, version=1) != said:
            self.publisher.sign(said, self.identity)

    def _own_keys(self) -> set[str]:
        members = {
            f"member/{loop.network}/{self.id}"
            for loop in self.loops.values()
            if self.id in loop.goals.selection.members
        }
        return {f"node/{self.id}", *members, *self.results.keys()}

    # Surroundings and small things.

    async def _read_surroundings(self) -> Surroundings:
        underlay = await self.machine.shell.kernel.read(None)
        return select_surroundings(underlay, mtu_bytes=self.settings.mtu_bytes)

    def put_surroundings(self, found: Surroundings) -> None:
        if found == self.surroundings:
            return
        log.info("own links changed", extra={"addresses": len(found.addresses)})
        self.networks.surroundings = found
        underlay = candidates.underlay_of(found, declared=self.settings.endpoints)
        with self._cache.batch():
            for loop in self.loops.values():
                loop.put_surroundings(found, underlay)
                self.networks.refresh(loop)
        self._bump()

    def _stored(self, prefix: str) -> Iterator[tuple[str, Verified]]:
        for key, found in list(self.intake.stored(prefix)):
            if isinstance(found, Verified):
                yield key, found
            else:
                self.journal.refuse(key, found, now=self.clock.now())
                log.error("document on disk refused", extra={"key": key, "reason": str(found)})

    @property
    def _revision_name(self) -> str:
        return f"revision/{self._client.ref.id}" if self._client else "revision"

    def _revision(self) -> int | None:
        stored = self._cache.setting(self._revision_name)
        return None if stored is None else int(stored)

    def _note_revision(self, revision: int) -> None:
        if self._revision() != revision:
            self._cache.set_setting(self._revision_name, str(revision))

    def now(self) -> int:
        """Unix seconds."""
        return int(self.clock.now().timestamp())

    def _bump(self) -> None:
        self.generation += 1
        self._changed.set()
        self._changed = asyncio.Event()
