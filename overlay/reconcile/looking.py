"""A look at the devices of one network: which paths work, and what follows for single peers.

Shell: it reads, and has done what `goals`, `reach`, `lastresort` and `greeting` make of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from overlay.errors import Unavailable
from overlay.model import NetworkId, PeerTraffic
from overlay.reconcile.devices import Devices, read_devices, read_traffic
from overlay.reconcile.goals import PeerGoals
from overlay.reconcile.greeting import GREETING_S
from overlay.reconcile.heard import MAX_HEARD, RECORD_EVERY_S
from overlay.reconcile.lastresort import LastResort
from overlay.reconcile.machine import Machine
from overlay.reconcile.peering import Peering
from overlay.reconcile.reach import Reach
from overlay.reconcile.schedule import Schedule

NOTHING = PeerTraffic(rx_bytes=0, tx_bytes=0)


class Looking:
    """`netns` is a name. Every look says to the schedule what it cost and when the next is due."""

    def __init__(
        self,
        network: NetworkId,
        netns: str,
        machine: Machine,
        *,
        goals: Callable[[], PeerGoals],
        peering: Peering,
        reach: Reach,
        last_resort: LastResort,
        schedule: Schedule,
    ) -> None:
        self.heard = machine.heard.of(network)  # as on disk
        self._next_record = 0.0
        self._network = network
        self._netns = netns
        self._machine = machine
        self._goals = goals
        self._peering = peering
        self._reach = reach
        self._last_resort = last_resort
        self._schedule = schedule

    async def look(self) -> Devices | None:
        """Peers whose paths do not work give way to others; None when there is no device."""
        started = time.process_time()
        clock, shell, peering = self._machine.clock, self._machine.shell, self._peering
        if (devices := await read_devices(shell, self._netns, self._goals())) is None:
            return None
        device, goals = devices.together, self._goals()
        traffic = (
            await read_traffic(shell, self._netns, goals)
            if peering.greeting_due is not None
            or goals.is_relayed
            or any(map(goals.is_in_question, device.peers))
            else {}
        )
        wall = clock.now().timestamp()
        self._goals().look(
            device,
            lambda key: traffic.get(key, NOTHING),
            wall=wall,
            now=clock.monotonic(),
        )
        if self._goals().has_unwritten:
            # Until a key that was seen in use bears traffic, what comes by it is lost.
            peering.will_greet(peer.public_key for peer in await peering.write_unwritten())
            if (devices := await read_devices(shell, self._netns, self._goals())) is None:
                return None
            device = devices.together
        goals = self._goals()
        self._record_heard(goals)
        moved = self._last_resort.look(
            goals, devices.shared, traffic, wall=wall, now=clock.monotonic()
        )
        # The exit that drains stays as it was found: a hole would be opened for another port.
        counted = {**traffic}
        if (draining := goals.draining) is not None:
            counted.pop(draining, None)
        moves = self._reach.look(goals, devices.shared, counted, wall=wall, now=clock.monotonic())
        await peering.greet_again(device, traffic)
        # Greetings wait for their turn: all looks and what they do stay within their share.
        self._schedule.looked(cost_s=time.process_time() - started)
        moves.renews += [*moved, *self._goals().take_stranded()]
        moves.asks += self._goals().doubtful
        await peering.move(moves)
        for due in (self._reach.due, self._last_resort.due):
            if due is not None:
                self._schedule.look_by(due)
        return devices

    async def look_for_takeovers(self) -> None:
        """Which keys are in use is written in the kernel alone: it is read before it is written."""
        if not self._goals().selection.coming:
            return
        devices = await read_devices(self._machine.shell, self._netns, self._goals())
        if devices is not None:
            clock = self._machine.clock
            self._goals().look_for_takeovers(
                devices.together,
                lambda _: NOTHING,
                wall=clock.now().timestamp(),
                now=clock.monotonic(),
            )

    def come_for_takeovers(self) -> None:
        """Look again when a peer may be heard by another key."""
        wall = self._machine.clock.now().timestamp()
        if (wait_s := self._goals().takeovers.next_look_s(wall=wall)) is not None:
            self._schedule.look_by(self._schedule.now + wait_s)

    def come_soon(self) -> None:
        """When those just greeted should have answered as well."""
        self.come_for_takeovers()
        if (due := self._peering.greeting_due) is not None:
            self._schedule.look_by(max(due, self._schedule.now + GREETING_S))

    def _record_heard(self, goals: PeerGoals) -> None:
        """A disk that takes nothing takes it later; it is a hint."""
        now = self._schedule.now
        if now < self._next_record or len(goals.peers) > MAX_HEARD:
            return
        if (heard := goals.heard()) != self.heard:
            self._next_record = now + RECORD_EVERY_S
            with suppress(Unavailable):
                self._machine.heard.keep(self._network, heard)
                self.heard = heard
