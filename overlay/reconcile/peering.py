"""What a node does to the peers of one network: write, greet, put anew, ask.

Shell: who is a peer and by which path, whom to greet and what a silence means is decided elsewhere
(`goals`, `greeting`, `reach`, `lastresort`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from overlay.addressing import GATEWAY_HOST, host_addresses
from overlay.model import (
    Address,
    PeerTraffic,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.netns.changes import Change, CreateDevice, SetKey
from overlay.netns.converge import Report
from overlay.netns.plan import HANDSHAKE_FRESH_S
from overlay.netns.state import BIRTH_PREFIXES, DRAIN_LINK, Resource
from overlay.reconcile.greeting import Greetings
from overlay.reconcile.machine import Machine
from overlay.reconcile.packets import ask, open_ways, poke
from overlay.reconcile.reach import Moves
from overlay.reconcile.record import Record
from overlay.reconcile.wanted import Wanted


class Peering:
    """`on_torn` hears that a write ended half way: the device is to be read."""

    def __init__(
        self,
        wanted: Wanted,
        machine: Machine,
        record: Record,
        *,
        on_torn: Callable[[], None],
    ) -> None:
        self._wanted = wanted
        self._machine = machine
        self._record = record
        self._on_torn = on_torn
        self._greetings = Greetings(self._goes_first)

    def _goes_first(self, key: WgPublicKey) -> bool:
        return self._wanted.goals.goes_first(key)

    # Writing.

    async def apply(
        self, *, put: Iterable[WgPeer] = (), drop: Iterable[WgPublicKey] = ()
    ) -> tuple[Change, ...]:
        return await self._machine.configurator.apply_peers(
            self._wanted.netns, put=put, drop=drop, draining=self._wanted.goals.draining
        )

    async def write_unwritten(self) -> tuple[WgPeer, ...]:
        """Write the peers that changed; those that there are now."""
        delta = self._wanted.goals.take_unwritten()
        try:
            made = await self.apply(put=delta.put, drop=delta.drop)
        except BaseException:
            self._on_torn()
            raise
        self._record.changed(made)
        return delta.put

    async def put_anew(self, keys: Iterable[WgPublicKey]) -> None:
        """Taken off the device and put back: WireGuard begins with them from nothing."""
        # While something else was waited for, documents may have taken a peer away.
        goals = self._wanted.goals
        anew = tuple(dict.fromkeys(key for key in keys if key in goals.peers))
        if not anew:
            return
        peers = [goals.peers[key] for key in anew]
        try:
            await self.apply(drop=anew)
            await self.apply(put=peers)
        except BaseException:
            self._on_torn()
            raise
        self._wanted.goals.forget_traffic(anew)

    async def move(self, moves: Moves) -> None:
        """Do what a look at pairs that meet at relays led to."""
        if not moves:
            return
        opens = (endpoint for targets in moves.opens.values() for endpoint in targets)
        open_ways(self._wanted.listen_port, opens)
        if moves.writes:
            await self.apply(put=moves.writes)
        await self.put_anew(moves.renews)
        self.will_greet(moves.renews)
        self.greet()
        self._send(poke, moves.renews)
        self._send(ask, moves.asks)

    # Greeting.

    @property
    def greeting_due(self) -> float | None:
        """When those who were greeted should have answered, monotonic."""
        return self._greetings.due

    def will_greet(self, keys: Iterable[WgPublicKey]) -> None:
        spare = self._wanted.goals.takeovers.is_spare
        self._greetings.add(key for key in keys if not spare(key))

    def greet(self) -> None:
        """Send one packet to each new peer, or wait for its packet first (decision 0005)."""
        peers = len(self._wanted.goals.peers)
        self._send(poke, self._greetings.begin(peers=peers, now=self._machine.clock.monotonic()))

    async def greet_again(
        self, device: WgDevice, traffic: Mapping[WgPublicKey, PeerTraffic]
    ) -> None:
        """Whom we greeted in vain is greeted anew. `traffic` is the newer of the two."""
        silent = {
            key: traffic[key].rx_bytes if key in traffic else 0
            for key in self._wanted.goals.peers.keys() & device.peers.keys()
            if not device.peers[key].latest_handshake
        }
        again = self._greetings.look(silent, now=self._machine.clock.monotonic())
        await self.put_anew(again.anew)
        self._send(poke, again.poke)

    async def note_device(self, report: Report, desired: Resource) -> None:
        """Peers still hold sessions of a device that was, or of its key: they hear from us."""
        # The device of an exit that drains comes and goes beside all that.
        changes = [each for each in report.changes if not _is_of_drain(each)]
        if any(isinstance(change, CreateDevice) for change in changes):
            self.will_greet(desired.device.peers if desired.device else ())
        elif any(isinstance(change, SetKey) for change in changes):
            await self._begin_sessions(report)

    async def _begin_sessions(self, report: Report) -> None:
        """After our key was replaced: peers cannot begin, for they do not know that it was.

        What they send by the sessions that they have is still taken.
        """
        device = report.actual.device
        if device is None:
            return
        await self.put_anew(self._wanted.goals.relays)  # first: others are met there
        wall = self._machine.clock.now().timestamp()
        self._send(
            poke,
            (
                key
                for key, peer in device.peers.items()
                if wall - peer.latest_handshake < HANDSHAKE_FRESH_S
                and not self._wanted.goals.takeovers.is_spare(key)
            ),
        )

    def _send(
        self, send: Callable[[str, Iterable[Address]], None], keys: Iterable[WgPublicKey]
    ) -> None:
        """A packet to the gateway of each peer, by way of the tenant netns."""
        nr, path = self._wanted.network_resource, self._machine.shell.pins.path(self._wanted.netns)
        if nr is None or path is None:
            return
        goals = self._wanted.goals
        gateways = [
            host_addresses(nr.range_v4, nr.range_v6, index=member.index, host=GATEWAY_HOST)[0]
            for key in keys
            if (peer := goals.peers.get(key)) is not None
            and peer.endpoint is not None
            and (member := goals.selection.member_at(key)) is not None
        ]
        send(path, gateways)


def _is_of_drain(change: Change) -> bool:
    match change:
        case CreateDevice(birth_name=name):
            return name.startswith(BIRTH_PREFIXES[DRAIN_LINK])
        case SetKey(link=link):
            return link == DRAIN_LINK
    return False
