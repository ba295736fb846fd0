"""Names inside networks are answered: by a name server for each network of ours (DNS-020 ..).

Here it is decided what each is to serve and when; one that ends is started again. A network works
without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec

from overlay import addressing
from overlay.addressing import address_of
from overlay.documents.exits import ExitService
from overlay.documents.names import WorkloadName
from overlay.documents.schema import Member, Network
from overlay.errors import OverlayError
from overlay.model import Address, NetworkId, NetworkResource
from overlay.netns.dns import NameService, format_hosts
from overlay.netns.ports import NameServers
from overlay.netns.waiting import in_thread
from overlay.peers import zone
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.exiting import Exiting
from overlay.reconcile.resource import ResourceLoop

log = logging.getLogger(__name__)

TOGETHER_S = 0.05  # what comes within this time is served at once
RESTART_S = 0.25  # after one has ended: one that ends at once is no busy loop
# Before all names are written down again: a second, in which others come, or in a large network
# twenty times what it cost.
REST_S = 1.0
REST = 20.0


class Answers(msgspec.Struct):
    """What the name server of one network serves, and why it does not."""

    service: NameService
    domain: str
    names: int
    left_out: int  # places that have no name because there are too many
    error: OverlayError | None = None
    is_served: bool = False
    next_at: float = 0.0  # by the event loop's clock: names are not written down anew before


class Answering:
    """The name servers of all networks: `run` sees to them."""

    def __init__(
        self,
        loops: Mapping[NetworkId, ResourceLoop],
        *,
        exiting: Exiting,
        name_servers: NameServers,
        random: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self.answers: dict[NetworkId, Answers] = {}
        self._loops = loops
        self._exiting = exiting
        self._servers = name_servers
        self._backoff = Backoff(random)
        self._on_change = on_change
        self._work = asyncio.Event()
        self._noted: set[NetworkId] = set()
        self._renamed: set[NetworkId] = set()  # of these, names may be others now
        self._due: dict[NetworkId, float] = {}  # when to look again, by the event loop's clock

    def note(self, loop: ResourceLoop) -> None:
        """Documents, workloads or the network resource are others now."""
        self._renamed.add(loop.network)
        self.note_way_out(loop)

    def note_way_out(self, loop: ResourceLoop) -> None:
        """The way out of this network is another one."""
        self._noted.add(loop.network)
        self._work.set()

    async def run(self) -> None:
        """Until cancelled; what serves goes on."""
        self._servers.follow(self._note_end)
        for loop in self._loops.values():
            self.note(loop)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._due.values(), default=None)):
                    await self._work.wait()
            await asyncio.sleep(TOGETHER_S)
            await self._pass()

    async def _pass(self) -> None:
        """All that are noted or due are served."""
        now = asyncio.get_running_loop().time()
        self._work.clear()
        noted, self._noted = self._noted, set()
        noted |= {network for network, at in self._due.items() if at <= now}
        failures = 0
        for network in noted:
            self._due.pop(network, None)
            if (loop := self._loops.get(network)) is None:
                self._forget(network)
            else:
                failures += not await self._serve(loop)
        if not failures:
            self._backoff.reset()

    async def _serve(self, loop: ResourceLoop) -> bool:
        """Whether it could be done; else it is tried again."""
        nr, document = loop.network_resource, loop.document
        if not loop.is_wanted or nr is None or document is None:
            self._forget(loop.network)
            return True
        # Before the first pass there are no addresses to answer at.
        outcome = loop.record.outcome
        if loop.network not in self.answers and (outcome is None or outcome.error is not None):
            return True
        return await self._serve_wanted(loop, document, nr)

    async def _serve_wanted(
        self, loop: ResourceLoop, document: Network, nr: NetworkResource
    ) -> bool:
        answers = self.answers.get(loop.network)
        before = _told(answers)
        now = asyncio.get_running_loop().time()
        if answers is None or (loop.network in self._renamed and now >= answers.next_at):
            self._renamed.discard(loop.network)
            answers = await self._written(loop, document, nr)
            self.answers[loop.network] = answers
        elif loop.network in self._renamed:
            self._due[loop.network] = answers.next_at
        answers.service = msgspec.structs.replace(
            answers.service, resolvers=usable_resolvers(self._way_out(loop))
        )
        await self._apply(loop.netns, answers)
        if not loop.is_wanted:  # any more: there may be no netns to serve in
            self._forget(loop.network)
            return True
        if answers.error is not None:
            self._due[loop.network] = now + self._backoff.next_s()
        if _told(answers) != before:
            self._tell(loop.network, answers)
        return answers.is_served

    def _way_out(self, loop: ResourceLoop) -> ExitService | None:
        """The way out that works now: our own, where we are an exit."""
        return self._exiting.service(loop.network) if loop.is_exit else loop.leaving.way_out

    async def _written(self, loop: ResourceLoop, document: Network, nr: NetworkResource) -> Answers:
        """All names of the network, written down."""
        before = self.answers.get(loop.network)
        members = tuple(_admitted(loop))
        text, found, cost_s = await in_thread(_write_down, document, members, nr)
        service = NameService(
            addresses=(address_of(nr.gateway_v4), address_of(nr.gateway_v6)),
            ranges=(nr.range_v4, nr.range_v6),
            top=zone.TOP,
            hosts=text,
        )
        return Answers(
            service,
            domain=found.domain,
            names=len(found.places),
            left_out=found.left_out,
            error=before.error if before is not None else None,
            is_served=before is not None and before.is_served,
            next_at=asyncio.get_running_loop().time() + max(REST_S, REST * cost_s),
        )

    async def _apply(self, netns: str, answers: Answers) -> None:
        try:
            await self._servers.serve(netns, answers.service)
        except OverlayError as exc:
            answers.is_served, answers.error = False, exc
        else:
            answers.is_served, answers.error = True, None

    def _tell(self, network: NetworkId, answers: Answers) -> None:
        said = {"network": network, "names": answers.names}
        if answers.error is not None:
            log.warning("no names", extra={**said, "reason": str(answers.error)})
        else:
            log.debug("names served", extra=said)
        self._on_change()

    def _note_end(self, netns: str) -> None:
        for loop in self._loops.values():
            if loop.netns == netns and (answers := self.answers.get(loop.network)) is not None:
                log.warning("name server ended", extra={"network": loop.network})
                answers.is_served = False
                self._due[loop.network] = asyncio.get_running_loop().time() + RESTART_S
                self._work.set()

    def _forget(self, network: NetworkId) -> None:
        self.answers.pop(network, None)
        self._renamed.discard(network)
        self._due.pop(network, None)


def _told(answers: Answers | None) -> tuple[object, ...]:
    """All that status shows of it."""
    if answers is None:
        return ()
    error = answers.error.message if answers.error is not None else ""
    said = answers.service
    return answers.names, answers.left_out, answers.is_served, error, said.addresses, said.resolvers


def usable_resolvers(way_out: ExitService | None) -> tuple[Address, ...]:
    """Who is asked about names outside: those of a family that the exit lets out, or nobody."""
    if way_out is None:
        return ()
    return tuple(
        Address(address)
        for address in way_out.resolvers
        if (6 if ":" in address else 4) in way_out.families
    )


def _admitted(loop: ResourceLoop) -> Iterable[Member]:
    """Members, ourselves as we shall say once what is attached is published."""
    selection = loop.goals.selection
    for node, member in selection.members.items():
        if node == loop.node:
            attached = (WorkloadName(stored.name, stored.host) for stored in loop.attachments)
            yield zone.with_workloads(member, attached)
        elif node not in selection.refusals:
            yield member


def _write_down(
    document: Network, members: Iterable[Member], nr: NetworkResource
) -> tuple[str, zone.Zone, float]:
    """The text of the hosts file, what is in it, and what it took."""
    started = time.thread_time()
    found = zone.select_zone(document, members)
    places = (
        (
            addressing.host_addresses(nr.range_v4, nr.range_v6, index=place.index, host=place.host),
            place.names,
        )
        for place in found.places
    )
    text = format_hosts(places, domain=found.domain)
    return text, found, time.thread_time() - started
