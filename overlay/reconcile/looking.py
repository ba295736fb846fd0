"""A look at the devices of one network: which paths work, and what follows for single peers.

Shell: it reads, and has done what `goals`, `reach`, `lastresort` and `greeting` make of it.
"""

from __future__ import annotations

import time

from overlay.model import PeerTraffic
from overlay.reconcile.devices import Devices, read_devices, read_traffic
from overlay.reconcile.greeting import GREETING_S
from overlay.reconcile.heard import MAX_HEARD, LastHeard
from overlay.reconcile.lastresort import LastResort
from overlay.reconcile.machine import Machine
from overlay.reconcile.peering import Peering
from overlay.reconcile.reach import Reach
from overlay.reconcile.schedule import Schedule
from overlay.reconcile.wanted import Wanted

NOTHING = PeerTraffic(rx_bytes=0, tx_bytes=0)
MAX_DOUBTFUL = 64  # are asked at one look; the others at the next, when these have answered
DOUBT_LOOK_S = 0.5  # until then an answer has come


class Looking:
    """Every look says to the schedule what it cost and when the next is due."""

    def __init__(
        self,
        wanted: Wanted,
        machine: Machine,
        *,
        peering: Peering,
        reach: Reach,
        last_resort: LastResort,
        heard: LastHeard,
        schedule: Schedule,
    ) -> None:
        self._wanted = wanted
        self._machine = machine
        self._peering = peering
        self._reach = reach
        self._last_resort = last_resort
        self._heard = heard
        self._schedule = schedule

    async def look(self) -> Devices | None:
        """Peers whose paths do not work give way to others; None when there is no device."""
        started = time.process_time()
        clock, shell, peering = self._machine.clock, self._machine.shell, self._peering
        netns = self._wanted.netns
        if (devices := await read_devices(shell, netns, self._wanted.goals)) is None:
            return None
        device, goals = devices.together, self._wanted.goals
        traffic = (
            await read_traffic(shell, netns, goals)
            if peering.greeting_due is not None
            or goals.is_relayed
            or any(map(goals.is_in_question, device.peers))
            else {}
        )
        wall = clock.now().timestamp()
        self._wanted.goals.look(
            device,
            lambda key: traffic.get(key, NOTHING),
            wall=wall,
            now=clock.monotonic(),
        )
        if self._wanted.goals.has_unwritten:
            # Until a key that was seen in use bears traffic, what comes by it is lost.
            peering.will_greet(peer.public_key for peer in await peering.write_unwritten())
            if (devices := await read_devices(shell, netns, self._wanted.goals)) is None:
                return None
            device = devices.together
        goals = self._wanted.goals
        if self._heard.is_due(now=clock.monotonic()) and len(goals.peers) <= MAX_HEARD:
            self._heard.put(goals.heard(), now=clock.monotonic())
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
        moves.renews += [*moved, *self._wanted.goals.take_stranded()]
        if doubtful := self._wanted.goals.doubtful:
            moves.asks = [*dict.fromkeys((*moves.asks, *doubtful[:MAX_DOUBTFUL]))]
            self._schedule.look_by(self._schedule.now + DOUBT_LOOK_S)
        await peering.move(moves)
        for due in (self._reach.due, self._last_resort.due):
            if due is not None:
                self._schedule.look_by(due)
        return devices

    async def look_for_takeovers(self) -> None:
        """Which keys are in use is written in the kernel alone: it is read before it is written."""
        if not self._wanted.goals.selection.coming:
            return
        devices = await read_devices(self._machine.shell, self._wanted.netns, self._wanted.goals)
        if devices is not None:
            clock = self._machine.clock
            self._wanted.goals.look_for_takeovers(
                devices.together,
                lambda _: NOTHING,
                wall=clock.now().timestamp(),
                now=clock.monotonic(),
            )

    def come_for_takeovers(self) -> None:
        """Look again when a peer may be heard by another key."""
        wall = self._machine.clock.now().timestamp()
        if (wait_s := self._wanted.goals.takeovers.next_look_s(wall=wall)) is not None:
            self._schedule.look_by(self._schedule.now + wait_s)

    def come_soon(self) -> None:
        """When those just greeted should have answered as well."""
        self.come_for_takeovers()
        if (due := self._peering.greeting_due) is not None:
            self._schedule.look_by(max(due, self._schedule.now + GREETING_S))
