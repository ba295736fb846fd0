"""One tenant network on one node: the real goals, over a device that is a model.

Mirrors what `overlay.reconcile.passes` does around its decisions, without waiting and writing:
write what changed, greet whom it concerns, look at the device, and let paths give way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import count

from netlab.sim.clock import Timeline
from netlab.sim.inner import Inner
from netlab.sim.internet import Host, Internet
from netlab.sim.tunnel import Traffic
from netlab.sim.uplink import Uplink
from netlab.sim.wireguard import Device
from overlay.addressing import GATEWAY_HOST, address_of, host_addresses
from overlay.documents.schema import Member, Network
from overlay.errors import OverlayError
from overlay.exitnode.named import has_exits
from overlay.keys.wireguard import DeviceKey
from overlay.model import (
    NetworkResource,
    NodeId,
    PeerTraffic,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.netns.changes import Change, DropPeer, PutPeer
from overlay.netns.plan import plan_peer_delta, plan_peers
from overlay.peers.paths import HANDSHAKE_FRESH_S, Underlay, is_on_trial
from overlay.reconcile.goals import PeerGoals

LOOK_S = 0.5  # from a change on the device to the look that finds it: the node's POLL_MIN_S
GREETING_S = 0.1
MTU_BYTES = 1_420


class Surroundings:
    """What the resources of a world share."""

    __slots__ = ("faults", "internet", "numbers", "ports", "timeline", "traffic")

    def __init__(self, timeline: Timeline, internet: Internet) -> None:
        self.timeline = timeline
        self.internet = internet
        self.traffic = Traffic()
        self.numbers = count(1)
        self.ports: dict[tuple[int, int], Device] = {}
        self.faults: list[str] = []  # promises seen broken on the way


class Resource:
    """Owns one device. `is_awake` is the node's: a sleeper looks at nothing.

    `uplink` is where members leave the network here, while this is an exit of it. `documents` and
    `writes` count what came and what was brought to the device.
    """

    __slots__ = (
        "_changed",
        "_doubted",
        "_greeted",
        "_looked_at",
        "_timeline",
        "_underlay",
        "_world",
        "device",
        "documents",
        "goals",
        "host",
        "is_awake",
        "key",
        "on_answer",
        "own",
        "port",
        "uplink",
        "writes",
    )

    def __init__(
        self,
        own: NodeId,
        *,
        key: DeviceKey,
        host: Host,
        port: int,
        underlay: Underlay,
        world: Surroundings,
    ) -> None:
        self.own = own
        self.key = key
        self.port = port
        self.is_awake = True
        self.host = host
        self.uplink: Uplink | None = None
        self.on_answer: Callable[[Inner], None] = _tell_nobody
        self.writes = 0
        self.documents = 0
        self._world = world
        self._timeline = world.timeline
        self._underlay = underlay
        self.goals = self._new_goals()
        self.device = self._new_device()
        self._changed: dict[WgPublicKey, None] = {}  # since the last look
        self._greeted: set[WgPublicKey] = set()
        self._looked_at = 0.0
        self._doubted: tuple[WgPublicKey, ...] = ()  # before the last look

    def _new_goals(self) -> PeerGoals:
        return PeerGoals(self.own, own_key=self.key.public_key, underlay=self._underlay)

    def _new_device(self) -> Device:
        world = self._world
        return Device(
            self.key.public_key,
            self.host,
            self.port,
            timeline=world.timeline,
            internet=world.internet,
            ports=world.ports,
            traffic=world.traffic,
            numbers=world.numbers,
            on_change=self.note_change,
            on_try=self._note_try,
            on_inner=self._take,
        )

    @property
    def network_resource(self) -> NetworkResource | None:
        return self.goals.selection.network_resource(listen_port=self.port, mtu_bytes=MTU_BYTES)

    # What the node says.

    def put_network(self, network: Network) -> None:
        self.documents += 1
        self.goals.put_network(network, now=self._timeline.now)

    def put_member(self, member: Member) -> None:
        self.documents += 1
        self.goals.put_member(member, now=self._timeline.now)

    def put_underlay(self, underlay: Underlay) -> None:
        """Other addresses: whom we hear of nothing hears of us."""
        self._underlay = underlay
        self.goals.put_underlay(underlay, now=self._timeline.now)
        self.write()
        self._greet(self.goals.peers)

    def begin_again(
        self, network: Network, members: Iterable[Member], underlay: Underlay, *, reboot: bool
    ) -> None:
        """As after a start of the node: goals from what is on its disk, the device as it is."""
        self.is_awake = True
        self._underlay = underlay
        self.goals = self._new_goals()
        self.put_network(network)
        for member in members:
            self.put_member(member)
        if reboot:
            self.device.close()
            self.device = self._new_device()
        self._looked_at = 0.0
        self.converge()
        self.look_anew()
        if reboot:
            self._greet(self.goals.peers)

    def look_anew(self) -> None:
        """Everything on the device is news."""
        self._changed = {}
        for key in self.device.tunnels:
            self.note_change(key)

    def close(self) -> None:
        self.is_awake = False
        self.on_answer = _tell_nobody
        self.device.close()

    # Writing.

    def converge(self) -> None:
        """Compare all of the device, as a full pass does."""
        expected = self.goals.take_unwritten()
        self._apply(
            plan_peers(
                desired=self.goals.peers,
                actual=self.device.shown(self.device.tunnels),
                now=int(self._timeline.wall),
            )
        )
        self._greet([peer.public_key for peer in expected.put])

    def write(self) -> None:
        """Bring what changed to the device."""
        if not self.goals.has_unwritten or not self.is_awake:
            return
        delta = self.goals.take_unwritten()
        try:
            changes = plan_peer_delta(put=delta.put, drop=delta.drop)
        except OverlayError as exc:
            self._world.faults.append(f"{self.own}: peers that cannot be written: {exc}")
            return
        self._apply(changes)
        self._greet([peer.public_key for peer in delta.put])

    def _apply(self, changes: Iterable[Change]) -> None:
        self.writes += 1
        leads_out = has_exits(self.goals.selection)
        for change in changes:
            match change:
                case DropPeer(public_key=key):
                    self.device.drop(key)
                case PutPeer(peer=peer):
                    self._check_path(peer)
                    self.device.put(peer)
                    if leads_out:
                        self._check_way_out()

    def _check_way_out(self) -> None:
        """At no moment has more than one peer the way out, or a part of it (LAB-113)."""
        outside, holders = self.goals.selection.outside(), self.device.holders
        if len({holders[prefix] for prefix in outside if prefix in holders}) > 1:
            self._world.faults.append(f"{self.own}: more than one peer holds the way out")

    def _check_path(self, peer: WgPeer) -> None:
        """A path that works, as the last look could see, is not given up."""
        tunnel, endpoint = self.device.tunnels.get(peer.public_key), peer.endpoint
        if tunnel is None or endpoint is None or endpoint == tunnel.endpoint:
            return
        if peer.public_key in self._doubted:
            return  # of that handshake nobody could tell which endpoint it was made with
        at = int(tunnel.latest_handshake)
        if at <= tunnel.written_at:
            return  # that handshake was made by way of another one (NODE-049)
        if (
            self._timeline.wall - at < HANDSHAKE_FRESH_S
            and tunnel.latest_handshake < self._looked_at
        ):
            age_s = self._timeline.wall - at
            self._world.faults.append(
                f"{self.own} gives up {tunnel.endpoint} for {endpoint},"
                f" {age_s:.1f} s after a handshake"
            )

    def _greet(self, keys: Collection[WgPublicKey]) -> None:
        """One packet to each, the lower key first; then a look at who has answered."""
        if not keys:
            return
        for key in keys:
            if self.key.public_key < key:
                self.device.greet(key)
        if not self._greeted:
            self._timeline.after(GREETING_S, self._greet_again)
        self._greeted.update(keys)

    def _greet_again(self) -> None:
        greeted, self._greeted = self._greeted, set()
        if not self.is_awake:
            return
        tunnels, peers = self.device.tunnels, self.goals.peers
        for key in sorted(greeted):
            tunnel = tunnels.get(key)
            if tunnel is None or tunnel.latest_handshake or key not in peers:
                continue
            if self.key.public_key < key:
                self.device.drop(key)
                self.device.put(peers[key])
            self.device.greet(key)
        if self._changed:
            self._look()

    def _ask(self, keys: Iterable[WgPublicKey]) -> None:
        """An echo request to the gateway of each."""
        nr, selection = self.network_resource, self.goals.selection
        for key in keys:
            if nr is None or (member := selection.member_at(key)) is None:
                continue
            gateway, _ = host_addresses(
                nr.range_v4, nr.range_v6, index=member.index, host=GATEWAY_HOST
            )
            now = self._timeline.now
            self.device.carry(Inner(address_of(nr.gateway_v4), gateway, now, _pass_by, True))

    # What comes by it.

    def _take(self, inner: Inner) -> None:
        """The gateway answers, an exit lets out, and nobody else passes anything on."""
        nr = self.network_resource
        if nr is not None and inner.target in map(address_of, (nr.gateway_v4, nr.gateway_v6)):
            if inner.is_answer:
                self.on_answer(inner)
            elif inner.is_echo:
                self._answer(inner)
        elif self.uplink is not None and self.uplink.carries(inner.target):
            self._let_out(inner)

    def _let_out(self, inner: Inner) -> None:
        roster = self.goals.selection.roster
        if roster is None or all(each.node != self.own for each in roster.network.exits):
            self._world.faults.append(f"{self.own} lets out whom it is no exit for")
        inner.on_out(self.own, inner)
        if inner.is_echo:
            self._answer(inner)

    def _answer(self, inner: Inner) -> None:
        self.device.carry(inner._replace(source=inner.target, target=inner.source, is_answer=True))

    # Looking.

    def note_change(self, key: WgPublicKey) -> None:
        """The device changed: the next poll shows it."""
        if not self._changed:
            self._timeline.after(LOOK_S, self._poll)
        self._changed[key] = None

    def _note_try(self, key: WgPublicKey) -> None:
        """How much was sent is looked at only where another endpoint may be tried by then."""
        if self.goals.is_in_question(key) and not self._is_on_trial(key):
            self.note_change(key)

    def _is_on_trial(self, key: WgPublicKey) -> bool:
        """Nothing can follow from the next look: no session, and a wait that is not over."""
        path, tunnel = self.goals.path(key), self.device.tunnels[key]
        if path is None or path.alive or self.goals.selection.coming:
            return False
        timeline = self._timeline
        return timeline.wall - tunnel.latest_handshake > HANDSHAKE_FRESH_S and is_on_trial(
            path, now=timeline.now + LOOK_S
        )

    def _poll(self) -> None:
        if self.is_awake and self._changed:
            self._look()

    def _look(self) -> None:
        """What a look at all peers would find, found at those that changed."""
        device, goals, now, wall = self.device, self.goals, self._timeline.now, self._timeline.wall
        changed, self._changed = self._changed, {}
        if not device.is_up:
            return
        shown, path_to = device.shown(changed), goals.path
        self._doubted = tuple(
            [key for key in changed if (path := path_to(key)) is not None and path.doubtful]
        )
        seen = WgDevice(device.key, device.port, shown)
        goals.look(seen, self._traffic, wall=wall, now=now)
        self._looked_at = wall
        if doubtful := goals.doubtful:
            self._ask(doubtful)
        # The node looks for drift at its next poll when it has something to write at this one.
        if goals.has_unwritten:
            self.write()
        if drifted := self._drifted(changed):
            actual = device.shown(drifted)
            self._apply(plan_peers(desired=drifted, actual=actual, now=int(wall)))
        for key, peer in shown.items():
            rest_s = peer.latest_handshake + HANDSHAKE_FRESH_S - wall
            # Between changes time alone makes a difference, once: when the handshake is old.
            if rest_s > 0.0:
                self._timeline.after(rest_s, self._grow_stale, key)

    def _traffic(self, key: WgPublicKey) -> PeerTraffic:
        tunnel = self.device.tunnels[key]
        return PeerTraffic(tunnel.heard_bytes, tunnel.sent_bytes)

    def _drifted(self, keys: Iterable[WgPublicKey]) -> dict[WgPublicKey, WgPeer]:
        """Whose endpoint is another than is wanted; nothing else changes by itself."""
        peers, tunnels = self.goals.peers, self.device.tunnels
        drifted = {}
        for key in keys:
            tunnel, wanted = tunnels.get(key), peers.get(key)
            if tunnel is not None and wanted is not None and wanted.endpoint != tunnel.endpoint:
                drifted[key] = wanted
        return drifted

    def _grow_stale(self, key: WgPublicKey) -> None:
        tunnel = self.device.tunnels.get(key)
        if tunnel is None or not self.is_awake:
            return
        if self._timeline.wall - int(tunnel.latest_handshake) >= HANDSHAKE_FRESH_S:
            self.note_change(key)


def _tell_nobody(_: Inner) -> None:
    """Nobody here asks anybody outside."""


def _pass_by(exit_: NodeId, inner: Inner) -> None:
    """What stays inside comes out nowhere."""
