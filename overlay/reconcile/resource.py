"""One tenant network on this node: what is wanted of its network resource, and who is told.

`passes` bring it about.
"""

from __future__ import annotations

from overlay import addressing
from overlay.documents import trust
from overlay.documents.exits import ExitOffer
from overlay.documents.schema import Network
from overlay.errors import OverlayError
from overlay.exitnode.named import has_exits, is_named_exit, leaves_by
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
from overlay.reconcile import draining
from overlay.reconcile.devices import read_devices, read_traffic
from overlay.reconcile.goals import PeerGoals
from overlay.reconcile.heard import LastHeard
from overlay.reconcile.journal import Journal
from overlay.reconcile.lastresort import LastResort
from overlay.reconcile.leaving import Leaving
from overlay.reconcile.machine import Machine
from overlay.reconcile.membership import Gate
from overlay.reconcile.passes import Passes
from overlay.reconcile.reach import Reach
from overlay.reconcile.record import Record
from overlay.reconcile.schedule import DOCUMENTS, Schedule


class ResourceLoop:
    """Owns one network resource."""

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
        self.listen_port = listen_port
        self.netns = addressing.netns_name(network)
        self._underlay = underlay
        self.attachments: tuple[StoredAttachment, ...] = ()
        self.departed: frozenset[str] = frozenset()  # members that the tenant has taken out
        self.gate = Gate(open=False)
        self.record = Record(network, clock=machine.clock, journal=journal)
        self.schedule = Schedule(machine.clock, machine.random)
        self._surroundings = surroundings
        self._machine = machine
        self.reach = Reach(device_key.public_key)
        self.last_resort = LastResort(device_key, listen_port, machine.random)
        self.leaving = Leaving()
        self._heard = LastHeard(machine.heard, network)
        self.goals: PeerGoals = self._new_goals()
        self._offer: ExitOffer | None = None  # of our farm, for this node
        self.is_routed = False  # the network has an IPv6 prefix of its own at the exit that we are
        self.publications: tuple[Publication, ...] = ()  # of the network, open at this exit
        self.passes = Passes(
            self,
            machine,
            record=self.record,
            schedule=self.schedule,
            reach=self.reach,
            last_resort=self.last_resort,
            leaving=self.leaving,
            heard=self._heard,
            on_outcome=lambda: machine.on_outcome(self),
            on_way_out=lambda: machine.on_way_out(self),
        )

    # What the node's loop says.

    @property
    def document(self) -> Network | None:
        roster = self.goals.selection.roster
        return None if roster is None else roster.network

    @property
    def is_wanted(self) -> bool:
        return self.gate.open and self.is_ours

    @property
    def is_ours(self) -> bool:
        """Whether the documents give us a place in the network."""
        return self.goals.selection.own_index is not None

    def _new_goals(self) -> PeerGoals:
        return PeerGoals(
            self.node,
            own_key=self.device_key.public_key,
            underlay=self._underlay,
            heard=self._heard.places,
        )

    def reset_goals(self) -> None:
        """As if no document were known."""
        self.goals = self._new_goals()
        self.passes.look_at_everything()

    def put_network(self, network: Network) -> None:
        selection = self.goals.selection
        before = selection.members.keys() - selection.refusals.keys()
        self.goals.put_network(network, now=self.schedule.now)
        gone = self.departed.union(before) & selection.refusals.keys()
        self.departed = frozenset(gone)
        self.changed()

    def changed(self, *, peers_only: bool = False) -> None:
        """Documents, attachments or the gate are others now: a pass is due."""
        if not peers_only:
            self.passes.note_goal()
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
        return leaves_by(self.goals.selection, self._offer)

    @property
    def serves_members(self) -> bool:
        """Not only what is on this node leaves here."""
        is_local = self._offer is not None and self._offer.local
        return is_named_exit(self.goals.selection) and not is_local

    @property
    def wears_its_key(self) -> bool:
        """Whether the device was seen with the key that it is to have."""
        return self.passes.worn_key == self.device_key.public_key

    def wear(self, key: DeviceKey) -> None:
        """The device gets this key with the next pass, and peers hear from it at once."""
        self.device_key, self.next_key = key, None
        self.goals.put_own_key(key.public_key, now=self.schedule.now)
        self.reach.own_key = key.public_key
        self.last_resort.put_key(key)
        self.changed()

    def put_surroundings(self, surroundings: Surroundings, underlay: Underlay) -> None:
        """Our own links in the underlay changed; peers learn it by hearing from us."""
        self.goals.put_underlay(underlay, now=self._machine.clock.monotonic())
        self._surroundings, self._underlay = surroundings, underlay
        self.last_resort.hurry(now=self.schedule.now)
        self.passes.will_greet(self.goals.peers)
        self.changed()

    # What is asked about it.

    @property
    def network_resource(self) -> NetworkResource | None:
        return self.goals.selection.network_resource(
            listen_port=self.listen_port, mtu_bytes=overlay_mtu_bytes(self._surroundings)
        )

    def desired(self) -> Resource | None:
        nr = self.network_resource if self.is_wanted else None
        if nr is None:
            return None
        return resource.desired_resource(
            nr,
            device_key=self.device_key.public_key,
            # A copy: documents may arrive while the kernel is written.
            peers=draining.shared_peers(self.goals),
            attachments=self.workloads(nr),
            devices=self.goals.selection.access_subnets(),
            is_exit=self.is_exit,
            is_routed=self.is_routed,
            serves_members=self.serves_members,
            has_exits=has_exits(self.goals.selection) and not self.is_exit,
            way_out=draining.mark_of(self.goals, self.goals.way_out),
            drain=draining.select_drain(self.goals),
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
        while not self.passes.is_settled:
            await self.record.wait_outcome()
            if (outcome := self.record.outcome) is not None and outcome.error is not None:
                raise outcome.error
