"""One tenant network on this node: passes over its network resource, for ever.

A pass brings the kernel to what the documents say and says what it did. A delta of peers takes a
short cut; a look at the device finds drift that no notification tells of; a full pass at intervals
finds the rest.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec

from overlay import addressing
from overlay.documents import trust
from overlay.documents.exits import ExitOffer
from overlay.documents.schema import Network
from overlay.errors import OverlayError, Unavailable
from overlay.keys.wireguard import DeviceKey
from overlay.model import (
    NetworkId,
    NetworkResource,
    NodeId,
    PeerTraffic,
    Publication,
    WgDevice,
    WgPublicKey,
)
from overlay.netns import resource
from overlay.netns.changes import Change
from overlay.netns.state import Attachment, Resource
from overlay.peers.cache import StoredAttachment
from overlay.peers.candidates import Surroundings, overlay_mtu_bytes
from overlay.peers.paths import Underlay
from overlay.peers.publishing import select_admitted
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.devices import Devices, find_devices, read_devices, read_traffic
from overlay.reconcile.goals import PeerGoals
from overlay.reconcile.journal import Journal
from overlay.reconcile.lastresort import LastResort
from overlay.reconcile.leaving import Leaving
from overlay.reconcile.looking import Looking
from overlay.reconcile.machine import Machine
from overlay.reconcile.membership import Gate
from overlay.reconcile.peering import Peering
from overlay.reconcile.reach import Reach
from overlay.reconcile.record import Record, is_about
from overlay.reconcile.schedule import DOCUMENTS, POLL, Schedule, most_telling

PASS_DEADLINE_S = 60.0


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
        self.attachments: tuple[StoredAttachment, ...] = ()
        self.departed: frozenset[str] = frozenset()  # members that the tenant has taken out
        self.unreachable: frozenset[str] = frozenset()
        self.gate = Gate(open=False)
        self.record = Record(network, clock=machine.clock, journal=journal)
        self.schedule = Schedule(machine.clock, machine.random)
        self._surroundings = surroundings
        self._machine = machine
        self._finished = asyncio.Event()
        self._goal_changed = True
        self._is_writing = False  # what documents ask for is on its way into the kernel
        self._repairing = False  # a pass over drift alone failed: the next one goes on with it
        self._announced: set[WgPublicKey] = set()  # peers that documents changed, not yet written
        self._backoff = Backoff(machine.random)
        self.reach = Reach(device_key.public_key)
        self.last_resort = LastResort(device_key, listen_port, machine.random)
        self.leaving = Leaving()
        self._peering = Peering(
            self.netns,
            listen_port,
            machine,
            self.record,
            goals=lambda: self.goals,
            network_resource=lambda: self.network_resource,
            on_torn=self._look_at_everything,
        )
        self._looking = Looking(
            network,
            self.netns,
            machine,
            goals=lambda: self.goals,
            peering=self._peering,
            reach=self.reach,
            last_resort=self.last_resort,
            schedule=self.schedule,
        )
        self.goals: PeerGoals = self._new_goals()
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
            heard=self._looking.heard,
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
        self._peering.will_greet(self.goals.peers)
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
            and self.record.outcome is not None
            and self.record.outcome.error is None
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

    async def wait_settled(self) -> None:
        """Until a pass has brought what is wanted now. Raises what a pass fails with."""
        while not self.is_settled:
            await self.record.wait_outcome()
            if (outcome := self.record.outcome) is not None and outcome.error is not None:
                raise outcome.error

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
        self.record.changed(report.changes)
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
        await self._looking.look_for_takeovers()
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
            await self._peering.note_device(report, desired)
            self._peering.will_greet(peer.public_key for peer in expected.put)
            if report.changes:
                desired = await self._with_late_peers(desired)
            self._peering.greet()
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
        surprises = tuple(c for c in report.changes if drifting and not is_about(c, known))
        self.record.repaired(surprises, by=by)
        self.record.changed(tuple(c for c in report.changes if c not in surprises))
        self._succeeded(version)
        self.schedule.passed(cost_s=time.process_time() - started)
        self._looking.come_soon()

    async def _with_late_peers(self, desired: Resource) -> Resource:
        """Peers that came while the rest was made do not wait until that is confirmed."""
        if self._goal_changed or desired.device is None or not self.goals.has_unwritten:
            return desired
        delta, peers = self.goals.take_unwritten(), self.goals.shared_peers()
        self._announced |= {peer.public_key for peer in delta.put} | {*delta.drop}
        made = await self._peering.apply(put=delta.put, drop=delta.drop)
        self.record.changed(made)
        self._peering.will_greet(peer.public_key for peer in delta.put)
        device = msgspec.structs.replace(desired.device, peers=peers)
        return msgspec.structs.replace(desired, device=device)

    async def _write_peers(self) -> None:
        """The short cut: what is known to have changed, without looking at the rest."""
        if not self.goals.has_unwritten:
            return
        version = self._version
        self._is_writing = True
        put = await self._peering.write_unwritten()
        self._succeeded(version, peers_only=True)
        self._peering.will_greet(peer.public_key for peer in put)
        self._peering.greet()
        self._looking.come_soon()

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
                put = await self._peering.write_unwritten()
                self._peering.will_greet(peer.public_key for peer in put)
                self._peering.greet()

    async def _learn(self, *, meanwhile: bool = False) -> Devices | None:
        """Which paths and exits work, by a look at the device; None when there is none."""
        if (devices := await self._looking.look()) is not None:
            # A device for an exit that drains comes with a full pass only.
            self._look_for_way_out(may_drain=not meanwhile or devices.drain is not None)
            self._looking.come_for_takeovers()
        return devices

    def _look_for_way_out(self, *, may_drain: bool) -> None:
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
            wall=self._machine.clock.now().timestamp(),
            now=self._now,
        )
        if self.leaving.way_out != before:
            self._machine.on_way_out(self)
        if self.leaving.due is not None:
            self.schedule.look_by(self.leaving.due)

    def _has_drifted(self, devices: Devices) -> bool:
        there = (devices.shared.public_key, devices.shared.listen_port)
        wall = int(self._machine.clock.now().timestamp())
        return there != (self.device_key.public_key, self.listen_port) or devices.have_drifted(
            self.goals, wall=wall
        )

    async def _adopt_exits(self) -> None:
        """At a start, before anything is written: what leaves the network goes on doing so."""
        if self._has_stood or self.is_exit or not self.goals.selection.has_exits:
            return
        devices = await find_devices(self._machine.shell, self.netns)
        if devices is not None:
            wall = self._machine.clock.now().timestamp()
            self.leaving.adopt(self.goals, devices.shared, devices.drain, wall=wall, now=self._now)

    # Keeping record.

    @property
    def _version(self) -> int:
        return self.document.version if self.document is not None else 0

    def _look_at_everything(self) -> None:
        """With the next pass."""
        self._goal_changed = True

    def _succeeded(self, version: int, *, peers_only: bool = False) -> None:
        self._backoff.reset()
        self._is_writing = False
        self.record.succeeded(version, peers_only=peers_only)
        self._machine.on_outcome(self)

    def _failed(self, error: OverlayError) -> None:
        self._is_writing = False
        self.record.failed(self._version, error)
        self._machine.on_outcome(self)
        self.schedule.failed(wait_s=self._backoff.next_s())
