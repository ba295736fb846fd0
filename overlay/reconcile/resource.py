"""One tenant network on this node: passes over its network resource, for ever.

A pass brings the kernel to what the documents say and says what it did. A delta of peers takes a
short cut; a look at the device finds drift that no notification tells of; a full pass at intervals
finds the rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime

import msgspec

from overlay import addressing
from overlay.documents import trust
from overlay.documents.exits import ExitOffer
from overlay.documents.schema import Network
from overlay.errors import Diverged, OverlayError, Refused, Unavailable
from overlay.keys.wireguard import DeviceKey
from overlay.model import (
    Address,
    NetworkId,
    NetworkResource,
    NodeId,
    PeerTraffic,
    Publication,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.netns import resource
from overlay.netns.changes import Change, CreateDevice, DropPeer, PutPeer, SetKey
from overlay.netns.converge import Report
from overlay.netns.plan import HANDSHAKE_FRESH_S
from overlay.netns.state import BIRTH_PREFIXES, DRAIN_LINK, Attachment, Resource
from overlay.peers.cache import StoredAttachment
from overlay.peers.candidates import Surroundings, overlay_mtu_bytes
from overlay.peers.paths import Underlay
from overlay.peers.publishing import select_admitted
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.devices import Devices, find_devices, read_devices, read_traffic
from overlay.reconcile.goals import PeerGoals
from overlay.reconcile.greeting import GREETING_S, Greetings
from overlay.reconcile.heard import MAX_HEARD, RECORD_EVERY_S
from overlay.reconcile.journal import Journal, Repair
from overlay.reconcile.lastresort import LastResort
from overlay.reconcile.leaving import Leaving
from overlay.reconcile.machine import Machine
from overlay.reconcile.membership import Gate
from overlay.reconcile.packets import ask, open_ways, poke
from overlay.reconcile.reach import Moves, Reach
from overlay.reconcile.schedule import DOCUMENTS, POLL, Schedule, most_telling

NOTHING = PeerTraffic(rx_bytes=0, tx_bytes=0)

log = logging.getLogger(__name__)

PASS_DEADLINE_S = 60.0


class Outcome(msgspec.Struct, frozen=True):
    """How the last pass ended."""

    at: datetime
    document_version: int
    error: OverlayError | None = None
    peers_only: bool = False  # whatever else is there was neither made nor looked at


class ResourceLoop:
    """Owns one network resource. `run` ends when nothing of it is left."""

    def __init__(
        self,
        network: NetworkId,
        *,
        own: NodeId,
        device_key: DeviceKey,
        listen_port: int,
        surroundings: Surroundings,
        underlay: Underlay,
        machine: Machine,
        journal: Journal,
    ) -> None:
        self.network = network
        self.node = own
        self.device_key = device_key
        self.next_key: DeviceKey | None = None  # takes over; on disk
        self.worn_key: WgPublicKey | None = None  # with which the kernel was seen to hold us
        self.listen_port = listen_port
        self.netns = addressing.netns_name(network)
        self._underlay = underlay
        self._heard = machine.heard.of(network)  # as on disk
        self._next_record = 0.0
        self.goals = self._new_goals()
        self.attachments: tuple[StoredAttachment, ...] = ()
        self.departed: frozenset[str] = frozenset()  # members that the tenant has taken out
        self.unreachable: frozenset[str] = frozenset()
        self.gate = Gate(open=False)
        self.outcome: Outcome | None = None
        self.last_change_at: datetime | None = None
        self.failures = 0  # passes in a row
        self.schedule = Schedule(machine.clock, machine.random)
        self._surroundings = surroundings
        self._machine = machine
        self.journal = journal
        self._finished = asyncio.Event()
        self._progress = asyncio.Event()
        self._goal_changed = True
        self._is_writing = False  # what documents ask for is on its way into the kernel
        self._repairing = False  # a pass over drift alone failed: the next one goes on with it
        self._announced: set[WgPublicKey] = set()  # peers that documents changed, not yet written
        self._backoff = Backoff(machine.random)
        self._greetings = Greetings(self._goes_first)
        self.reach = Reach(device_key.public_key)
        self.last_resort = LastResort(device_key, listen_port, machine.random)
        self.leaving = Leaving()
        self._offer: ExitOffer | None = None  # of our farm, for this node
        self.is_routed = False  # the network has an IPv6 prefix of its own at the exit that we are
        self._has_stood = False  # a full pass has brought all of it at least once
        self.publications: tuple[Publication, ...] = ()  # of the network, open at this exit

    # What the node's loop says.

    @property
    def document(self) -> Network | None:
        roster = self.goals.selection.roster
        return None if roster is None else roster.network

    @property
    def is_wanted(self) -> bool:
        return self.gate.open and self.goals.selection.own_index is not None

    def _new_goals(self) -> PeerGoals:
        return PeerGoals(
            self.node,
            own_key=self.device_key.public_key,
            underlay=self._underlay,
            heard=self._heard,
        )

    def reset_goals(self) -> None:
        """As if no document were known."""
        self.goals = self._new_goals()
        self._goal_changed = True

    def put_network(self, network: Network) -> None:
        selection = self.goals.selection
        before = selection.members.keys() - selection.refusals.keys()
        self.goals.put_network(network, now=self._now)
        gone = self.departed.union(before) & selection.refusals.keys()
        self.departed = frozenset(gone)
        self.changed()

    def changed(self, *, peers_only: bool = False) -> None:
        """Documents, attachments or the gate are others now: a pass is due."""
        self._goal_changed |= not peers_only
        self._repairing &= peers_only
        self.schedule.wake(DOCUMENTS)
        self._machine.on_documents(self)

    def put_way_out_here(self, offer: ExitOffer | None, *, is_routed: bool) -> None:
        """As what our farm offers this node. `is_routed`: the network has an IPv6 prefix there."""
        before = self.is_exit, self.serves_members, self.is_routed
        self._offer, self.is_routed = offer, is_routed
        if before != (self.is_exit, self.serves_members, self.is_routed):
            self.changed()

    def put_publications(self, publications: tuple[Publication, ...]) -> None:
        """What the network publishes here, as far as it got the ports."""
        if publications != self.publications:
            self.publications = publications
            self.changed()

    @property
    def is_exit(self) -> bool:
        """Both our farm and the tenant want the network to be left here."""
        return self.goals.selection.leaves_by(self._offer)

    @property
    def serves_members(self) -> bool:
        """Not only what is on this node leaves here."""
        is_local = self._offer is not None and self._offer.local
        return self.goals.selection.is_named_exit and not is_local

    @property
    def wears_its_key(self) -> bool:
        """Whether the device was seen with the key that it is to have."""
        return self.worn_key == self.device_key.public_key

    def wear(self, key: DeviceKey) -> None:
        """The device gets this key with the next pass, and peers hear from it at once."""
        self.device_key, self.next_key = key, None
        self.goals.put_own_key(key.public_key, now=self._now)
        self.reach.own_key = key.public_key
        self.last_resort.put_key(key)
        self.changed()

    def put_surroundings(self, surroundings: Surroundings, underlay: Underlay) -> None:
        """Our own links in the underlay changed; peers learn it by hearing from us."""
        self.goals.put_underlay(underlay, now=self._machine.clock.monotonic())
        self._surroundings, self._underlay = surroundings, underlay
        self.last_resort.hurry(now=self._now)
        self._will_greet(self.goals.peers)
        self.changed()

    # What is asked about it.

    @property
    def network_resource(self) -> NetworkResource | None:
        return self.goals.selection.network_resource(
            listen_port=self.listen_port, mtu_bytes=overlay_mtu_bytes(self._surroundings)
        )

    @property
    def is_settled(self) -> bool:
        """The last pass brought what the documents say now."""
        return (
            not self._goal_changed
            and not self._is_writing
            and not self.goals.has_unwritten
            and self.outcome is not None
            and self.outcome.error is None
        )

    def desired(self) -> Resource | None:
        nr = self.network_resource if self.is_wanted else None
        if nr is None:
            return None
        return resource.desired_resource(
            nr,
            device_key=self.device_key.public_key,
            # A copy: documents may arrive while the kernel is written.
            peers=self.goals.shared_peers(),
            attachments=self.workloads(nr),
            devices=self.goals.selection.access_subnets(),
            is_exit=self.is_exit,
            is_routed=self.is_routed,
            serves_members=self.serves_members,
            has_exits=self.goals.selection.has_exits and not self.is_exit,
            way_out=self.goals.mark(self.goals.way_out),
            drain=self.goals.drain(),
            publications=self.publications if self.is_exit else (),
            admitted=select_admitted(self.goals.selection, nr, own=self.node, hosts=self.hosts),
        )

    @property
    def hosts(self) -> dict[str, int]:
        """The workloads that are attached here, by name."""
        return {stored.name: stored.host for stored in self.attachments}

    def workloads(self, nr: NetworkResource) -> tuple[Attachment, ...]:
        return tuple(
            resource.workload_attachment(
                nr, name=stored.name, netns=stored.netns, link=stored.link, host=stored.host
            )
            for stored in self.attachments
        )

    def is_announced(self) -> bool:
        """Whether the registry holds our member document, so that others can learn of us."""
        own = self.goals.selection.own_member
        return own is not None and self._machine.publisher.is_accepted(
            trust.document_key(own), own.version
        )

    def announcement_error(self) -> OverlayError | None:
        """Why the registry does not take our member document."""
        key = f"member/{self.network}/{self.node}"
        return self._machine.publisher.refusals.get(key)

    async def plan(self) -> tuple[Change, ...]:
        """What a full pass would change now."""
        desired = self.desired()
        return () if desired is None else await self._machine.configurator.plan(desired)

    async def read_device(self) -> tuple[WgDevice | None, dict[WgPublicKey, PeerTraffic]]:
        shell = self._machine.shell
        devices = await read_devices(shell, self.netns, self.goals)
        traffic = await read_traffic(shell, self.netns, self.goals)
        return (None if devices is None else devices.together), traffic

    async def _apply_peers(
        self, *, put: Iterable[WgPeer] = (), drop: Iterable[WgPublicKey] = ()
    ) -> tuple[Change, ...]:
        return await self._machine.configurator.apply_peers(
            self.netns, put=put, drop=drop, draining=self.goals.draining
        )

    async def wait_settled(self) -> None:
        """Until a pass has brought what is wanted now. Raises what a pass fails with."""
        while not self.is_settled:
            progress, before = self._progress, self.outcome
            await progress.wait()
            if self.outcome is not before and self.outcome and self.outcome.error:
                raise self.outcome.error

    # The loop.

    async def run(self) -> None:
        """Passes until the network is no longer ours and nothing of it is left."""
        async with self.last_resort.running():
            while not self._finished.is_set():
                reasons = await self.schedule.next_reasons()
                try:
                    async with asyncio.timeout(PASS_DEADLINE_S):
                        await self._pass(reasons)
                except TimeoutError:
                    self._failed(Unavailable(f"a pass took more than {PASS_DEADLINE_S:g} s"))
                except OverlayError as exc:
                    self._failed(exc)

    @property
    def _now(self) -> float:
        return self.schedule.now

    async def _pass(self, reasons: set[str]) -> None:
        if not self.is_wanted:
            await self._remove()
        elif reasons <= {DOCUMENTS} and not self._goal_changed:
            await self._write_peers()
        elif reasons <= {DOCUMENTS, POLL} and not self._goal_changed:
            await self._write_peers()
            await self._look()
        elif self._has_stood and reasons == {POLL}:
            await self._look_meanwhile()
        else:
            await self._converge(by=most_telling(reasons))

    async def _remove(self) -> None:
        """Nothing is left; a network that is only waiting for somebody stays on record."""
        version = self._version
        self.leaving.close()
        self.last_resort.hang_up()
        report = await self._machine.configurator.remove(self.netns)
        self.goals.take_unwritten()
        self._note_changes(report.changes)
        self._succeeded(version)
        self._goal_changed = True  # should the gate open: everything is to be made
        self.schedule.rest()
        if not self.is_ours:
            self._finished.set()

    @property
    def is_ours(self) -> bool:
        """Whether the documents give us a place in the network."""
        return self.goals.selection.own_index is not None

    async def _converge(self, *, by: str) -> None:
        started = time.process_time()
        await self._look_for_takeovers()
        await self._adopt_exits()
        drifting, self._goal_changed = self._repairing or not self._goal_changed, False
        key = self.device_key
        version, expected = self._version, self.goals.take_unwritten()
        self._announced |= {peer.public_key for peer in expected.put} | {*expected.drop}
        desired = self.desired()
        if desired is None:
            self._goal_changed = True
            return
        self._is_writing = not drifting or bool(expected)
        configurator = self._machine.configurator
        try:
            report = await configurator.make(desired, private_key=key)
            # The device of an exit that drains comes and goes beside all that.
            changes = [each for each in report.changes if not _is_of_drain(each)]
            if any(isinstance(change, CreateDevice) for change in changes):
                # Peers still hold sessions of the device that was: they learn by hearing from us.
                self._will_greet(desired.device.peers if desired.device else ())
            elif any(isinstance(change, SetKey) for change in changes):
                await self._begin_sessions(report)
            self._will_greet(peer.public_key for peer in expected.put)
            if report.changes:
                desired = await self._with_late_peers(desired)
            self._greet()
            if report.changes:
                report = await configurator.confirm(desired, report)
        except BaseException:
            self._repairing = drifting and not self._goal_changed
            self._goal_changed = True
            raise
        self._has_stood = True
        self.worn_key = key.public_key
        self._repairing, known = False, self._announced
        self._announced = set()
        self.unreachable = report.unreachable
        surprises = tuple(c for c in report.changes if drifting and not _is_about(c, known))
        self._note_repairs(surprises, by=by)
        self._note_changes(tuple(c for c in report.changes if c not in surprises))
        self._succeeded(version)
        self.schedule.passed(cost_s=time.process_time() - started)
        self._look_soon()

    async def _with_late_peers(self, desired: Resource) -> Resource:
        """Peers that came while the rest was made do not wait until that is confirmed."""
        if self._goal_changed or desired.device is None or not self.goals.has_unwritten:
            return desired
        delta, peers = self.goals.take_unwritten(), self.goals.shared_peers()
        self._announced |= {peer.public_key for peer in delta.put} | {*delta.drop}
        made = await self._apply_peers(put=delta.put, drop=delta.drop)
        self._note_changes(made)
        self._will_greet(peer.public_key for peer in delta.put)
        device = msgspec.structs.replace(desired.device, peers=peers)
        return msgspec.structs.replace(desired, device=device)

    async def _write_peers(self) -> None:
        """The short cut: what is known to have changed, without looking at the rest."""
        if not self.goals.has_unwritten:
            return
        version = self._version
        self._is_writing = True
        put = await self._apply_unwritten()
        self._succeeded(version, peers_only=True)
        self._will_greet(peer.public_key for peer in put)
        self._greet()
        self._look_soon()

    async def _apply_unwritten(self) -> tuple[WgPeer, ...]:
        """Write the peers that changed; those that there are now."""
        delta = self.goals.take_unwritten()
        try:
            made = await self._apply_peers(put=delta.put, drop=delta.drop)
        except BaseException:
            self._goal_changed = True  # the next pass looks at everything
            raise
        self._note_changes(made)
        return delta.put

    async def _look(self) -> None:
        """Read the device: which paths work, and has anybody changed a peer?"""
        devices = await self._learn()
        # With another way out, marks, rules and devices change along: that takes a full pass.
        if devices is None or self._goal_changed:
            await self._converge(by=POLL)
        elif self.goals.has_unwritten:
            await self._write_peers()
        elif self._has_drifted(devices):
            await self._converge(by=POLL)

    async def _look_meanwhile(self) -> None:
        """While passes fail, what stands goes on: ways and exits that break give way (NODE-079)."""
        self.schedule.looked(cost_s=0.0)
        with suppress(OverlayError):  # of the full pass, which is tried again, is told
            if await self._learn(meanwhile=True) is not None and self.goals.has_unwritten:
                self._will_greet(peer.public_key for peer in await self._apply_unwritten())
                self._greet()

    async def _learn(self, *, meanwhile: bool = False) -> Devices | None:
        """Which paths and exits work, by a look at the device; None when there is none."""
        started = time.process_time()
        clock, shell = self._machine.clock, self._machine.shell
        if (devices := await read_devices(shell, self.netns, self.goals)) is None:
            return None
        device = devices.together
        traffic = (
            await read_traffic(shell, self.netns, self.goals)
            if self._greetings.due is not None
            or self.goals.is_relayed
            or any(map(self.goals.is_in_question, device.peers))
            else {}
        )
        wall = clock.now().timestamp()
        self.goals.look(
            device,
            lambda key: traffic.get(key, NOTHING),
            wall=wall,
            now=clock.monotonic(),
        )
        if self.goals.has_unwritten:
            # Until a key that was seen in use bears traffic, what comes by it is lost.
            self._will_greet(peer.public_key for peer in await self._apply_unwritten())
            if (devices := await read_devices(shell, self.netns, self.goals)) is None:
                return None
            device = devices.together
        self._record_heard()
        moved = self.last_resort.look(
            self.goals, devices.shared, traffic, wall=wall, now=clock.monotonic()
        )
        # The exit that drains stays as it was found: a hole would be opened for another port.
        counted = {**traffic}
        if (draining := self.goals.draining) is not None:
            counted.pop(draining, None)
        moves = self.reach.look(
            self.goals, devices.shared, counted, wall=wall, now=clock.monotonic()
        )
        await self._greet_again(device, traffic)
        # Greetings wait for their turn: all looks and what they do stay within their share.
        self.schedule.looked(cost_s=time.process_time() - started)
        moves.renews += [*moved, *self.goals.take_stranded()]
        moves.asks += self.goals.doubtful
        await self._move(moves)
        # A device for an exit that drains comes with a full pass only.
        self._look_for_way_out(wall=wall, may_drain=not meanwhile or devices.drain is not None)
        self._look_for_takeovers_soon()
        return devices

    def _look_for_way_out(self, *, wall: float, may_drain: bool) -> None:
        nr, netns = self.network_resource, self._machine.shell.pins.path(self.netns)
        if nr is None or netns is None:
            return
        somebody = self.attachments or self.goals.selection.access_subnets()
        before = self.leaving.way_out
        self._goal_changed |= self.leaving.look(
            self.goals,
            nr,
            netns,
            is_needed=bool(somebody) and not self.is_exit,
            may_drain=may_drain,
            wall=wall,
            now=self._now,
        )
        if self.leaving.way_out != before:
            self._machine.on_way_out(self)
        if self.leaving.due is not None:
            self.schedule.look_by(self.leaving.due)

    def _record_heard(self) -> None:
        """A disk that takes nothing takes it later; it is a hint."""
        if self._now < self._next_record or len(self.goals.peers) > MAX_HEARD:
            return
        if (heard := self.goals.heard()) != self._heard:
            self._next_record = self._now + RECORD_EVERY_S
            with suppress(Unavailable):
                self._machine.heard.keep(self.network, heard)
                self._heard = heard

    def _has_drifted(self, devices: Devices) -> bool:
        there = (devices.shared.public_key, devices.shared.listen_port)
        wall = int(self._machine.clock.now().timestamp())
        return there != (self.device_key.public_key, self.listen_port) or devices.have_drifted(
            self.goals, wall=wall
        )

    async def _greet_again(
        self, device: WgDevice, traffic: Mapping[WgPublicKey, PeerTraffic]
    ) -> None:
        """Whom we greeted in vain is greeted anew. `traffic` is the newer of the two."""
        silent = {
            key: traffic[key].rx_bytes if key in traffic else 0
            for key in self.goals.peers.keys() & device.peers.keys()
            if not device.peers[key].latest_handshake
        }
        again = self._greetings.look(silent, now=self._now)
        await self._put_anew(again.anew)
        self._send_pokes(again.poke)

    async def _move(self, moves: Moves) -> None:
        """Do what a look at pairs that meet at relays led to, and look again when it may tell."""
        if moves:
            open_ways(self.listen_port, (e for targets in moves.opens.values() for e in targets))
            if moves.writes:
                await self._apply_peers(put=moves.writes)
            await self._put_anew(tuple(moves.renews))
            self._will_greet(moves.renews)
            self._greet()
            self._send_pokes(moves.renews)
            self._send_inside(ask, moves.asks)
        for due in (self.reach.due, self.last_resort.due):
            if due is not None:
                self.schedule.look_by(due)

    async def _put_anew(self, keys: tuple[WgPublicKey, ...]) -> None:
        # While something else was waited for, documents may have taken a peer away.
        keys = tuple(key for key in keys if key in self.goals.peers)
        if not keys:
            return
        keys = tuple(dict.fromkeys(keys))
        peers = [self.goals.peers[key] for key in keys]
        try:
            await self._apply_peers(drop=keys)
            await self._apply_peers(put=peers)
        except BaseException:
            self._goal_changed = True  # the next pass looks at everything
            raise
        self.goals.forget_traffic(keys)

    async def _look_for_takeovers(self) -> None:
        """Which keys are in use is written in the kernel alone: it is read before it is written."""
        if not self.goals.selection.coming:
            return
        devices = await read_devices(self._machine.shell, self.netns, self.goals)
        if devices is not None:
            wall = self._machine.clock.now().timestamp()
            self.goals.look_for_takeovers(
                devices.together, lambda _: NOTHING, wall=wall, now=self._now
            )

    async def _adopt_exits(self) -> None:
        """At a start, before anything is written: what leaves the network goes on doing so."""
        if self._has_stood or self.is_exit or not self.goals.selection.has_exits:
            return
        devices = await find_devices(self._machine.shell, self.netns)
        if devices is not None:
            wall = self._machine.clock.now().timestamp()
            self.leaving.adopt(self.goals, devices.shared, devices.drain, wall=wall, now=self._now)

    def _look_for_takeovers_soon(self) -> None:
        wall = self._machine.clock.now().timestamp()
        if (wait_s := self.goals.takeovers.next_look_s(wall=wall)) is not None:
            self.schedule.look_by(self._now + wait_s)

    async def _begin_sessions(self, report: Report) -> None:
        """After our key was replaced: peers cannot begin, for they do not know that it was.

        What they send by the sessions that they have is still taken.
        """
        device = report.actual.device
        if device is None:
            return
        await self._put_anew(tuple(self.goals.relays))  # first: others are met there
        wall = self._machine.clock.now().timestamp()
        self._send_pokes(
            key
            for key, peer in device.peers.items()
            if wall - peer.latest_handshake < HANDSHAKE_FRESH_S
            and not self.goals.takeovers.is_spare(key)
        )

    def _will_greet(self, keys: Iterable[WgPublicKey]) -> None:
        spare = self.goals.takeovers.is_spare
        self._greetings.add(key for key in keys if not spare(key))

    def _look_soon(self) -> None:
        """When those just greeted should have answered, or may be heard by another key."""
        self._look_for_takeovers_soon()
        if (due := self._greetings.due) is not None:
            self.schedule.look_by(max(due, self._now + GREETING_S))

    def _goes_first(self, key: WgPublicKey) -> bool:
        return self.goals.goes_first(key)

    def _greet(self) -> None:
        """Send one packet to each new peer, or wait for its packet first (decision 0005)."""
        self._send_pokes(self._greetings.begin(peers=len(self.goals.peers), now=self._now))

    def _send_pokes(self, keys: Iterable[WgPublicKey]) -> None:
        self._send_inside(poke, keys)

    def _send_inside(
        self, send: Callable[[str, Iterable[Address]], None], keys: Iterable[WgPublicKey]
    ) -> None:
        """A packet to the gateway of each peer, by way of the tenant netns."""
        nr, path = self.network_resource, self._machine.shell.pins.path(self.netns)
        if nr is None or path is None:
            return
        gateways = [
            addressing.address_of(
                addressing.host_address(
                    addressing.subnet_v4(nr.range_v4, member.index), addressing.GATEWAY_HOST
                )
            )
            for key in keys
            if (peer := self.goals.peers.get(key)) is not None
            and peer.endpoint is not None
            and (member := self.goals.selection.member_at(key)) is not None
        ]
        send(path, gateways)

    # Keeping record.

    @property
    def _version(self) -> int:
        return self.document.version if self.document is not None else 0

    def _succeeded(self, version: int, *, peers_only: bool = False) -> None:
        self._backoff.reset()
        self._is_writing, self.failures = False, 0
        self.outcome = Outcome(self._machine.clock.now(), version, peers_only=peers_only)
        self._machine.on_outcome(self)
        self._progress.set()
        self._progress = asyncio.Event()

    def _failed(self, error: OverlayError) -> None:
        before = self.outcome
        self._is_writing = False
        self.failures += 1
        if before is None or before.error is None or before.error.message != error.message:
            level = logging.ERROR if isinstance(error, Diverged | Refused) else logging.WARNING
            log.log(level, "pass failed", extra={"network": self.network, "reason": str(error)})
        self.outcome = Outcome(self._machine.clock.now(), self._version, error)
        self._machine.on_outcome(self)
        self._progress.set()
        self._progress = asyncio.Event()
        self.schedule.failed(wait_s=self._backoff.next_s())

    def _note_changes(self, changes: tuple[Change, ...]) -> None:
        if not changes:
            return
        self.last_change_at = self._machine.clock.now()
        for change in changes if log.isEnabledFor(logging.DEBUG) else ():
            said = {"network": self.network, "change": change.describe()}
            log.debug("changed", extra=said)
        log.info("converged", extra={"network": self.network, "changes": len(changes)})

    def _note_repairs(self, changes: tuple[Change, ...], *, by: str) -> None:
        for change in changes:
            self.last_change_at = self._machine.clock.now()
            says = change.describe()
            self.journal.repair(Repair(self.last_change_at, self.network, says, by))
            log.info("repaired", extra={"network": self.network, "change": says, "by": by})


def _is_of_drain(change: Change) -> bool:
    match change:
        case CreateDevice(birth_name=name):
            return name.startswith(BIRTH_PREFIXES[DRAIN_LINK])
        case SetKey(link=link):
            return link == DRAIN_LINK
    return False


def _is_about(change: Change, keys: set[WgPublicKey]) -> bool:
    match change:
        case PutPeer(peer=peer):
            return peer.public_key in keys
        case DropPeer(public_key=key):
            return key in keys
    return False
