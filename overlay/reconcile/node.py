"""All networks of one node: what arrives goes to its loop, what is ours goes to the registry.

What the registry leaves out removes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from overlay import addressing
from overlay.documents.exits import ExitOffer
from overlay.documents.published import PortSpan
from overlay.documents.relays import endpoints_of
from overlay.documents.schema import Farm
from overlay.errors import OverlayError, Unavailable
from overlay.exitnode.converge import EgressConfigurator
from overlay.exitnode.named import is_exit
from overlay.exitnode.publishing import reserved_ports
from overlay.keys.identity import Identity
from overlay.model import NetworkId, NodeId
from overlay.netns.converge import Configurator
from overlay.netns.ports import Shell
from overlay.peers.cache import Cache
from overlay.peers.candidates import Surroundings
from overlay.peers.registry import Document
from overlay.peers.selection import Selection
from overlay.ports import Clock
from overlay.reconcile import workloads
from overlay.reconcile.acceptance import Acceptance
from overlay.reconcile.answering import Answering
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.description import Description
from overlay.reconcile.exiting import Exiting
from overlay.reconcile.following import Following
from overlay.reconcile.guarding import Guarding
from overlay.reconcile.heard import Heard
from overlay.reconcile.intake import Intake
from overlay.reconcile.journal import Journal
from overlay.reconcile.keyring import Keyring
from overlay.reconcile.links import Links
from overlay.reconcile.machine import LinkNotices, Machine, Notices
from overlay.reconcile.naming import Naming
from overlay.reconcile.networks import Networks
from overlay.reconcile.publisher import Publisher
from overlay.reconcile.publishing import Publishing
from overlay.reconcile.relayed import select_offer
from overlay.reconcile.relaying import Relaying
from overlay.reconcile.resource import ResourceLoop
from overlay.reconcile.restoring import restore
from overlay.reconcile.results import Results
from overlay.reconcile.rotating import Rotating
from overlay.reconcile.schedule import NOTIFICATION
from overlay.reconcile.settings import NodeSettings

log = logging.getLogger(__name__)

RESTART_S = 5.0  # after a fault of ours


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
            registry=lambda: client.ref.host if (client := self.following.client) else None,
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
        self.following = Following(
            self.documents,
            cache=cache,
            clock=clock,
            random=random,
            publisher=self.publisher,
            journal=self.journal,
            own_keys=self._own_keys,
            on_change=self._bump,
        )
        self.links = Links(
            shell.kernel,
            settings,
            cache=cache,
            networks=self.networks,
            notices=link_notices,
            on_change=self._bump,
        )

    # Life.

    async def load(self) -> None:
        """Take what is on disk. Networks come up from there without anybody's help."""
        self.networks.surroundings = await self.links.read()
        restore(
            self.documents,
            self.id,
            self.settings,
            cache=self._cache,
            networks=self.networks,
            relaying=self.relaying,
            exiting=self.exiting,
            results=self.results,
            clock=self.clock,
        )
        with self._cache.batch():
            for loop in self.loops.values():
                self.networks.refresh(loop)
            self.description.publish()
        for key in self._own_keys():
            self.publisher.offer(key)

    async def run(self) -> None:
        """Serve until cancelled. What is in the kernel stays."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name, task in (
                ("documents", self.following.take_events),
                ("publisher", self.publisher.run),
                ("feed", self.following.run),
                ("links", self.links.watch),
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

    @property
    def farm(self) -> Farm | None:
        """The latest document of our farm."""
        return self.networks.farm

    @property
    def surroundings(self) -> Surroundings:
        return self.networks.surroundings

    @property
    def backend(self) -> str:
        return self.machine.shell.wireguard.name

    async def wait_change(self, generation: int) -> None:
        """Until something that status shows is other than at `generation`."""
        while self.generation <= generation:
            await self._changed.wait()

    # Tasks.

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
        while True:
            await self._supervise(loop.passes.run, f"network {loop.network}")
            if loop.is_ours:  # once more, named while the last of it went
                continue
            if self._retire(loop):
                return
            await asyncio.sleep(RESTART_S)

    def adopt(
        self, network: NetworkId, documents: Iterable[Document], *, invitation: Identity
    ) -> None:
        """Act on a network that was joined by token: its document comes first, then members."""
        self.documents.adopt(network, documents, invitation=invitation)
        self._bump()

    def _ask_again(self) -> None:
        self.following.ask_again()

    def _take_conflict(self, document: Document) -> None:
        self.documents.take_conflict(document)

    def _retire(self, loop: ResourceLoop) -> bool:
        """Nothing is left in the kernel: nor is anything on disk, but the floors; or nothing has
        changed, because the disk takes nothing."""
        network = loop.network
        try:
            self.networks.forget(network)
        except OverlayError as exc:
            log.warning("network not forgotten", extra={"network": network, "reason": str(exc)})
            return False
        log.info("network removed", extra={"network": network})
        if self.refused:
            # There is room for a network that was turned away; ask for everything again.
            with suppress(OverlayError):  # who goes next asks
                self._ask_again()
                self.refused.clear()
        self._bump()
        return True

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
            if is_exit(loop.goals.selection) or loop.network in self.exiting.standing:
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

    def now(self) -> int:
        """Unix seconds."""
        return int(self.clock.now().timestamp())

    def _bump(self) -> None:
        self.generation += 1
        self._changed.set()
        self._changed = asyncio.Event()
