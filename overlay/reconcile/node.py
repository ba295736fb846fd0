"""All networks of one node: what arrives goes to its loop, what is ours goes to the registry.

What the registry leaves out removes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from overlay import addressing
from overlay.documents.exits import ExitOffer
from overlay.documents.published import PortSpan
from overlay.documents.relays import Sighting, endpoints_of
from overlay.documents.schema import Farm, Member, Network, Result
from overlay.errors import Refused, Rejected, Unavailable
from overlay.exitnode.converge import EgressConfigurator
from overlay.exitnode.publishing import reserved_ports
from overlay.keys.identity import Identity
from overlay.model import NetworkId, NodeId
from overlay.netns.converge import Configurator
from overlay.netns.ports import Shell
from overlay.peers import candidates
from overlay.peers.cache import Cache
from overlay.peers.candidates import Surroundings
from overlay.peers.registry import Bookmark, Document, RegistryClient, Snapshot
from overlay.peers.selection import Selection
from overlay.ports import Clock
from overlay.reconcile import workloads
from overlay.reconcile.acceptance import Acceptance
from overlay.reconcile.answering import Answering
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.description import Description
from overlay.reconcile.exiting import Exiting, select_exit_offer
from overlay.reconcile.feed import BATCH_DOCUMENTS, Batch, Feed
from overlay.reconcile.guarding import Guarding
from overlay.reconcile.heard import Heard
from overlay.reconcile.intake import Intake
from overlay.reconcile.journal import Journal
from overlay.reconcile.keyring import Keyring
from overlay.reconcile.machine import LinkNotices, Machine, Notices
from overlay.reconcile.naming import Naming
from overlay.reconcile.networks import Networks
from overlay.reconcile.publisher import Publisher
from overlay.reconcile.publishing import Publishing
from overlay.reconcile.relayed import select_offer
from overlay.reconcile.relaying import Relaying
from overlay.reconcile.resource import ResourceLoop
from overlay.reconcile.results import Results
from overlay.reconcile.rotating import Rotating
from overlay.reconcile.schedule import NOTIFICATION
from overlay.reconcile.settings import NodeSettings
from overlay.reconcile.surroundings import select_surroundings

log = logging.getLogger(__name__)

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
            configurator,
            shell,
            clock,
            random,
            self.publisher,
            on_outcome=self._note_outcome,
            heard=Heard(cache),
            on_documents=self._note_names,
            on_way_out=self._note_way_out,
        )
        self.relaying = Relaying(
            identity,
            cache=cache,
            intake=self.intake,
            keys=self.keys,
            publisher=self.publisher,
            clock=clock,
            random=random,
            on_change=self._note_relaying,
            ask_again=self._ask_again,
        )
        guarding = Guarding(
            farm=lambda: self.farm,
            selection=self._selection,
            registry=lambda: self._client.ref.host if self._client is not None else None,
            declared=settings.endpoints,
            monotonic=clock.monotonic,
        )
        self.exiting = Exiting(
            EgressConfigurator(shell),
            random=random,
            wall=lambda: clock.now().timestamp(),
            wanted=self._exit_networks,
            near=lambda: self.surroundings.addresses,
            ask=guarding.ask,
            guards=guarding.guards,
            publishing=Publishing(
                self.id, cache, lambda: self.loops, reserved=self._reserved_ports
            ),
            on_change=self._note_exiting,
        )
        self.networks = Networks(
            self.id,
            settings,
            cache=cache,
            keys=self.keys,
            machine=self.machine,
            relaying=self.relaying,
            exiting=self.exiting,
            journal=self.journal,
            results=self.results,
        )
        self.rotating = Rotating(
            self.id,
            settings.rotation,
            cache=cache,
            keys=self.keys,
            networks=self.networks,
            publisher=self.publisher,
            clock=clock,
            on_change=self._bump,
        )
        self.loops = self.networks.loops
        self.answering = Answering(
            self.loops,
            exiting=self.exiting,
            name_servers=shell.name_servers,
            random=random,
            on_change=self._bump,
        )
        self.refused = self.networks.refused
        self.documents = Acceptance(
            identity,
            settings,
            cache=cache,
            intake=self.intake,
            keys=self.keys,
            networks=self.networks,
            publisher=self.publisher,
            relaying=self.relaying,
            exiting=self.exiting,
            journal=self.journal,
            clock=clock,
            on_open=self._start,
        )
        self.description = Description(
            identity,
            settings,
            backend=shell.wireguard.name,
            relaying=self.relaying,
            intake=self.intake,
            publisher=self.publisher,
        )
        self._group: asyncio.TaskGroup | None = None
        self._changed = asyncio.Event()
        self._naming = Naming(self.networks)
        self._client: RegistryClient | None = None
        self._has_client = asyncio.Event()
        self._resync = asyncio.Event()
        self._asks_again = False  # for everything; until a snapshot comes no revision counts

    # Life.

    async def load(self) -> None:
        """Take what is on disk. Networks come up from there without anybody's help."""
        self.networks.surroundings = await self._read_surroundings()
        self.networks.forget_strangers()
        for _, verified in self.documents.stored("farm/"):
            if isinstance(verified.document, Farm) and verified.document.farm == self.settings.farm:
                self.networks.farm = verified.document
        self.relaying.load(select_offer(self.farm, self.id))
        self.exiting.put_offer(select_exit_offer(self.farm, self.id))
        ports = self._cache.ports()
        for key, verified in self.documents.stored("network/"):
            if not isinstance(verified.document, Network):
                continue
            is_relayed = self.relaying.load_document(verified.document)
            # A network that is ours has a port, from the transaction that brought it.
            if (network := NetworkId(key.partition("/")[2])) in ports:
                self._reopen(network, verified.document)
            elif not is_relayed:
                self._cache.forget(key)
                self._cache.forget_below(f"member/{network}/")
        self._load_members()
        self._load_results()
        self.exiting.resume(
            loop.network
            for loop in self.loops.values()
            if (own := loop.goals.selection.own_member) is not None
            and own.exit is not None
            and loop.goals.selection.is_exit
        )
        with self._cache.batch():
            for loop in self.loops.values():
                self.networks.refresh(loop)
            self.description.publish()
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
        for _, verified in self.documents.stored("member/"):
            member = verified.document
            self.relaying.load_document(member)
            if isinstance(member, Member) and (loop := self.networks.get(member.network)):
                loop.goals.put_member(member, now=self.clock.monotonic())
        for _, verified in self.documents.stored("sighting/"):
            said = verified.document
            self.relaying.load_document(said)
            if isinstance(said, Sighting) and (loop := self.networks.get(said.network)):
                loop.goals.put_sighting(said, now=self.clock.monotonic())

    def _load_results(self) -> None:
        for key, verified in self.documents.stored("result/"):
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
                ("relay", self.relaying.run),
                ("exit", self.exiting.run),
                ("names", self._naming.run),
                ("name servers", self.answering.run),
                ("keys", self.rotating.run),
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
                self.documents.take(event)
            case Snapshot(revision=revision, documents=documents):
                self._asks_again = False
                for start in range(0, len(documents), BATCH_DOCUMENTS):
                    self.documents.take(documents[start : start + BATCH_DOCUMENTS])
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
                        loop.schedule.wake(NOTIFICATION)

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

    def adopt(
        self, network: NetworkId, documents: Iterable[Document], *, invitation: Identity
    ) -> None:
        """Act on a network that was joined by token: its document comes first, then members."""
        self.documents.adopt(network, documents, invitation=invitation)
        self._bump()

    def _take_conflict(self, document: Document) -> None:
        self.documents.take_conflict(document)

    def _retire(self, loop: ResourceLoop) -> None:
        """Nothing is left in the kernel: nor is anything on disk, but the floors."""
        network = loop.network
        log.info("network removed", extra={"network": network})
        self.networks.forget(network)
        if self.refused:
            # There is room for a network that was turned away; ask for everything again.
            self.refused.clear()
            self._ask_again()
        self._bump()

    def _ask_again(self) -> None:
        """Have the registry send everything."""
        self._cache.drop_setting(self._revision_name)
        self._asks_again = True
        self._resync.set()

    # What others hear of us.

    def _note_outcome(self, loop: ResourceLoop) -> None:
        self._bump()
        own, outcome = loop.goals.selection.own_member, loop.record.outcome
        if own is not None and (own.next_device is not None or loop.next_key is not None):
            self.rotating.wake()
        if outcome is None or not outcome.peers_only:
            self._follow_netns()
            workloads.drop_ended(loop, self._cache)
            self._naming.note(loop)
            self.answering.note(loop)
            if loop.goals.selection.is_exit or loop.network in self.exiting.standing:
                self.exiting.wake()
        if outcome is None or not loop.gate.open:
            return
        if outcome.error is None or loop.record.failures > 1:  # one failure may be a moment's
            self.results.report(loop.network, outcome.document_version, outcome.error)

    def _selection(self, network: NetworkId) -> Selection | None:
        loop = self.networks.get(network)
        return loop.goals.selection if loop is not None else None

    def _note_names(self, loop: ResourceLoop) -> None:
        self.answering.note(loop)

    def _note_way_out(self, loop: ResourceLoop) -> None:
        self.answering.note_way_out(loop)

    def _exit_networks(self) -> Iterator[NetworkId]:
        """Those of ours that name this node as an exit."""
        for loop in self.loops.values():
            if loop.is_wanted and loop.is_exit:
                yield loop.network

    def _reserved_ports(self, offer: ExitOffer) -> Iterable[PortSpan]:
        """At which this node itself is reached by the addresses of its uplink."""
        relay, settings = select_offer(self.farm, self.id), self.settings
        return reserved_ports(
            offer,
            own=map(addressing.address_of, self.surroundings.addresses),
            wireguard=settings.endpoints,
            wireguard_ports=settings.last_port - settings.first_port + 1,
            relays=endpoints_of(relay) if relay is not None else (),
        )

    def _note_exiting(self) -> None:
        """The way out stands or does not, which members are told."""
        with suppress(Unavailable), self._cache.batch():
            for loop in self.loops.values():
                self.networks.refresh(loop)
                self.answering.note_way_out(loop)
        self._bump()

    def _note_relaying(self) -> None:
        """What the relay does changed, perhaps also what we are to tenants."""
        with suppress(Unavailable):  # it is tried again at the next change, and at the next start
            self.description.publish()
        self._bump()

    def _own_keys(self) -> set[str]:
        members = {
            f"member/{loop.network}/{self.id}"
            for loop in self.loops.values()
            if self.id in loop.goals.selection.members
        }
        return {f"node/{self.id}", *members, *self.results.keys(), *self.relaying.said}

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

    @property
    def _revision_name(self) -> str:
        return f"revision/{self._client.ref.id}" if self._client else "revision"

    def _revision(self) -> int | None:
        stored = self._cache.setting(self._revision_name)
        return None if stored is None else int(stored)

    def _note_revision(self, revision: int) -> None:
        if self._revision() != revision and not self._asks_again:
            self._cache.set_setting(self._revision_name, str(revision))

    def now(self) -> int:
        """Unix seconds."""
        return int(self.clock.now().timestamp())

    def _bump(self) -> None:
        self.generation += 1
        self._changed.set()
        self._changed = asyncio.Event()
