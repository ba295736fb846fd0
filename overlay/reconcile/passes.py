"""Passes over one network resource, for ever.

A pass brings the kernel to what is wanted and says what it did. A delta of peers takes a short cut;
a look at the device finds drift that no notification tells of; a full pass at intervals finds the
rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

from overlay.errors import OverlayError, Unavailable
from overlay.exitnode.named import has_exits
from overlay.model import WgPublicKey
from overlay.netns.state import Resource
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.devices import Devices, find_devices
from overlay.reconcile.draining import shared_peers
from overlay.reconcile.heard import LastHeard
from overlay.reconcile.lastresort import LastResort
from overlay.reconcile.leaving import Leaving
from overlay.reconcile.looking import Looking
from overlay.reconcile.machine import Machine
from overlay.reconcile.peering import Peering
from overlay.reconcile.reach import Reach
from overlay.reconcile.record import Record, is_about
from overlay.reconcile.schedule import DOCUMENTS, POLL, Schedule, most_telling
from overlay.reconcile.wanted import Wanted

PASS_DEADLINE_S = 60.0


class Passes:
    """`run` ends when the network is no longer ours and nothing of it is left."""

    def __init__(
        self,
        wanted: Wanted,
        machine: Machine,
        *,
        record: Record,
        schedule: Schedule,
        reach: Reach,
        last_resort: LastResort,
        leaving: Leaving,
        heard: LastHeard,
        on_outcome: Callable[[], None],
        on_way_out: Callable[[], None],
    ) -> None:
        self.worn_key: WgPublicKey | None = None  # with which the kernel was seen to hold us
        self.unreachable: frozenset[str] = frozenset()  # ports of workloads
        self._wanted = wanted
        self._machine = machine
        self._record = record
        self._schedule = schedule
        self._last_resort = last_resort
        self._leaving = leaving
        self._on_outcome = on_outcome
        self._on_way_out = on_way_out
        self._is_gone = False  # nothing of it is in the kernel, and it was not ours
        self._goal_changed = True
        self._is_writing = False  # what documents ask for is on its way into the kernel
        self._repairing = False  # a pass over drift alone failed: the next one goes on with it
        self._announced: set[WgPublicKey] = set()  # peers that documents changed, not yet written
        self._has_stood = False  # a full pass has brought all of it at least once
        self._backoff = Backoff(machine.random)
        self._peering = Peering(wanted, machine, record, on_torn=self.look_at_everything)
        self._looking = Looking(
            wanted,
            machine,
            peering=self._peering,
            reach=reach,
            last_resort=last_resort,
            heard=heard,
            schedule=schedule,
        )

    @property
    def is_settled(self) -> bool:
        """The last pass brought what the documents say now."""
        return (
            not self._goal_changed
            and not self._is_writing
            and not self._wanted.goals.has_unwritten
            and self._record.outcome is not None
            and self._record.outcome.error is None
        )

    def look_at_everything(self) -> None:
        """With the next pass."""
        self._goal_changed = True

    def note_goal(self) -> None:
        """More than peers are wanted otherwise: what the next pass changes is no drift."""
        self._goal_changed, self._repairing = True, False

    def will_greet(self, keys: Iterable[WgPublicKey]) -> None:
        """With the next pass that writes."""
        self._peering.will_greet(keys)

    async def run(self) -> None:
        """Passes until the network is no longer ours and nothing of it is left."""
        async with self._last_resort.running():
            while self._wanted.is_ours or not self._is_gone:
                reasons = await self._schedule.next_reasons()
                try:
                    async with asyncio.timeout(PASS_DEADLINE_S):
                        await self._pass(reasons)
                except TimeoutError:
                    self._failed(Unavailable(f"a pass took more than {PASS_DEADLINE_S:g} s"))
                except OverlayError as exc:
                    self._failed(exc)

    @property
    def _now(self) -> float:
        return self._schedule.now

    async def _pass(self, reasons: set[str]) -> None:
        if not self._wanted.is_wanted:
            await self._remove()
            return
        self._is_gone = False
        if reasons <= {DOCUMENTS} and not self._goal_changed:
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
        self._leaving.close()
        self._last_resort.hang_up()
        report = await self._machine.configurator.remove(self._wanted.netns)
        self._wanted.goals.take_unwritten()
        self._record.changed(report.changes)
        self._succeeded(version)
        self._goal_changed = True  # should the gate open: everything is to be made
        self._schedule.rest()
        self._is_gone = not self._wanted.is_ours

    async def _converge(self, *, by: str) -> None:
        started = time.process_time()
        await self._looking.look_for_takeovers()
        await self._adopt_exits()
        drifting, self._goal_changed = self._repairing or not self._goal_changed, False
        key = self._wanted.device_key
        version, expected = self._version, self._wanted.goals.take_unwritten()
        self._announced |= {peer.public_key for peer in expected.put} | {*expected.drop}
        desired = self._wanted.desired()
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
        self._record.repaired(surprises, by=by)
        self._record.changed(tuple(c for c in report.changes if c not in surprises))
        self._succeeded(version)
        self._schedule.passed(cost_s=time.process_time() - started)
        self._looking.come_soon()

    async def _with_late_peers(self, desired: Resource) -> Resource:
        """Peers that came while the rest was made do not wait until that is confirmed."""
        if self._goal_changed or desired.device is None or not self._wanted.goals.has_unwritten:
            return desired
        delta = self._wanted.goals.take_unwritten()
        peers = shared_peers(self._wanted.goals)
        self._announced |= {peer.public_key for peer in delta.put} | {*delta.drop}
        made = await self._peering.apply(put=delta.put, drop=delta.drop)
        self._record.changed(made)
        self._peering.will_greet(peer.public_key for peer in delta.put)
        device = msgspec.structs.replace(desired.device, peers=peers)
        return msgspec.structs.replace(desired, device=device)

    async def _write_peers(self) -> None:
        """The short cut: what is known to have changed, without looking at the rest."""
        if not self._wanted.goals.has_unwritten:
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
        elif self._wanted.goals.has_unwritten:
            await self._write_peers()
        elif self._has_drifted(devices):
            await self._converge(by=POLL)

    async def _look_meanwhile(self) -> None:
        """While passes fail, what stands goes on: ways and exits that break give way (NODE-079)."""
        self._schedule.looked(cost_s=0.0)
        with suppress(OverlayError):  # of the full pass, which is tried again, is told
            if await self._learn(meanwhile=True) is not None and self._wanted.goals.has_unwritten:
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
        nr, netns = self._wanted.network_resource, self._machine.shell.pins.path(self._wanted.netns)
        if nr is None or netns is None:
            return
        somebody = self._wanted.attachments or self._wanted.goals.selection.access_subnets()
        before = self._leaving.way_out
        self._goal_changed |= self._leaving.look(
            self._wanted.goals,
            nr,
            netns,
            is_needed=bool(somebody) and not self._wanted.is_exit,
            may_drain=may_drain,
            wall=self._machine.clock.now().timestamp(),
            now=self._now,
        )
        if self._leaving.way_out != before:
            self._on_way_out()
        if self._leaving.due is not None:
            self._schedule.look_by(self._leaving.due)

    def _has_drifted(self, devices: Devices) -> bool:
        there = (devices.shared.public_key, devices.shared.listen_port)
        wall = int(self._machine.clock.now().timestamp())
        wanted = self._wanted
        return there != (wanted.device_key.public_key, wanted.listen_port) or devices.have_drifted(
            wanted.goals, wall=wall
        )

    async def _adopt_exits(self) -> None:
        """At a start, before anything is written: what leaves the network goes on doing so."""
        if self._has_stood or self._wanted.is_exit or not has_exits(self._wanted.goals.selection):
            return
        devices = await find_devices(self._machine.shell, self._wanted.netns)
        if devices is not None:
            wall = self._machine.clock.now().timestamp()
            self._leaving.adopt(
                self._wanted.goals, devices.shared, devices.drain, wall=wall, now=self._now
            )

    # Keeping record.

    @property
    def _version(self) -> int:
        roster = self._wanted.goals.selection.roster
        return 0 if roster is None else roster.network.version

    def _succeeded(self, version: int, *, peers_only: bool = False) -> None:
        self._backoff.reset()
        self._is_writing = False
        self._record.succeeded(version, peers_only=peers_only)
        self._on_outcome()

    def _failed(self, error: OverlayError) -> None:
        self._is_writing = False
        self._record.failed(self._version, error)
        self._on_outcome()
        self._schedule.failed(wait_s=self._backoff.next_s())
