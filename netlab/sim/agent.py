"""A node: what it has accepted, what it says of itself, and its network resources.

Mirrors the shell of `overlay.reconcile` (acceptance, networks, publisher, feed) around the real
rules: what is news, who is a member, what a member offers. Signatures are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from netlab.sim import cast
from netlab.sim.directory import Record, seal
from netlab.sim.internet import Host
from netlab.sim.resource import Resource, Surroundings
from netlab.sim.uplink import Uplink
from overlay.documents import trust
from overlay.documents.schema import Document, EndpointCandidate, Member, Network
from overlay.documents.trust import Floor, Verified
from overlay.errors import Rejected
from overlay.exitnode.named import is_exit
from overlay.model import Endpoint, NetworkId
from overlay.peers import candidates
from overlay.reconcile import membership

FIRST_PORT = 51_820


class Agent:
    """One node. Nothing it does fails; what it refuses is counted.

    With an `uplink` its operator offers it as an exit.
    """

    __slots__ = (
        "_documents",
        "_floors",
        "_keys",
        "_offers",
        "_on_publish",
        "_surroundings",
        "_underlay",
        "_world",
        "declared",
        "host",
        "id",
        "inbox",
        "is_awake",
        "is_connected",
        "number",
        "outbox",
        "refused",
        "resources",
        "revision",
        "uplink",
    )

    def __init__(
        self,
        host: Host,
        *,
        declared: tuple[Endpoint, ...],
        uplink: Uplink | None,
        world: Surroundings,
        on_publish: Callable[[Agent], None],
    ) -> None:
        self.number = host.number
        self.id = cast.node_id(host.number)
        self.host = host
        self.declared = declared
        self.uplink = uplink
        self.resources: dict[NetworkId, Resource] = {}
        self.revision = 0
        self.is_awake = True
        self.is_connected = False
        self.inbox: list[Record] = []
        self.outbox: dict[str, Verified] = {}
        self.refused = 0
        self._floors: dict[str, Floor] = {}
        self._documents: dict[NetworkId, dict[str, Document]] = {}  # on disk, by key
        self._world = world
        self._on_publish = on_publish
        self._keys = 0
        self._settle(host.surroundings)

    def _settle(self, surroundings: candidates.Surroundings) -> None:
        """These are its links from now on, and what follows from them."""
        self._surroundings = surroundings
        self._underlay = candidates.underlay_of(surroundings, declared=self.declared)
        self._offers: dict[int, tuple[EndpointCandidate, ...]] = {}  # by port

    # What comes from the registry.

    def take(self, batch: Iterable[Verified]) -> None:
        """Act on what is news; the rest changes nothing."""
        touched: dict[NetworkId, None] = {}
        for verified in batch:
            try:
                trust.is_news(verified, self._floors.get(verified.key))
                self._accept(verified, touched)
            except Rejected:
                self.refused += 1
        for network in touched:
            if (resource := self.resources.get(network)) is None:
                continue
            if resource.goals.selection.own_index is None:
                self._retire(network)
            else:
                resource.write()

    def _accept(self, verified: Verified, touched: dict[NetworkId, None]) -> None:
        match verified.document:
            case Network() as network:
                self._accept_network(verified, network, touched)
            case Member() as member:
                network_id = NetworkId(member.network)
                resource = self.resources.get(network_id)
                if resource is None or _holds(resource, member):
                    return
                self._keep(verified, network_id)
                resource.put_member(member)
                touched[network_id] = None

    def _accept_network(
        self, verified: Verified, network: Network, touched: dict[NetworkId, None]
    ) -> None:
        id_ = NetworkId(verified.key.partition("/")[2])
        resource = self.resources.get(id_)
        if resource is None:
            if all(member.node != self.id for member in network.members):
                return
            resource = self._open(id_)
        elif (roster := resource.goals.selection.roster) and roster.network == network:
            return
        self._keep(verified, id_)
        resource.put_network(network)
        self._refresh(resource)
        touched[id_] = None

    def _keep(self, verified: Verified, network: NetworkId) -> None:
        self._floors[verified.key] = Floor(verified.version, verified.digest)
        self._documents.setdefault(network, {})[verified.key] = verified.document

    def _open(self, network: NetworkId) -> Resource:
        ports = {resource.port for resource in self.resources.values()}
        port = FIRST_PORT
        while port in ports:
            port += 1
        self._keys += 1
        resource = self.resources[network] = Resource(
            self.id,
            key=cast.device_key(self.number, self._keys - 1),
            host=self.host,
            port=port,
            underlay=self._underlay,
            world=self._world,
        )
        return resource

    def _retire(self, network: NetworkId) -> None:
        """Nothing is left of the network but the floors."""
        self.resources.pop(network).close()
        self._documents.pop(network, None)
        self.outbox.pop(f"member/{network}/{self.id}", None)

    # What it says of itself.

    def _refresh(self, resource: Resource) -> None:
        """Publish what others should know of us, if they do not."""
        selection = resource.goals.selection
        if selection.roster is None:
            return
        before = selection.own_member
        resource.uplink = self.uplink if self.uplink is not None and is_exit(selection) else None
        member = membership.own_member(
            selection.roster,
            self.id,
            device=resource.key.id,
            endpoints=self._offer(resource.port),
            before=before,
            now=int(self._world.timeline.wall),
            service=None if resource.uplink is None else resource.uplink.service(),
        )
        if member is None or membership.says_the_same(before, member):
            return
        floor = self._floors.get(trust.document_key(member))
        version = 1 if floor is None else floor.version + 1
        verified = seal(msgspec.structs.replace(member, version=version))
        self._keep(verified, selection.roster.id)
        if isinstance(verified.document, Member):
            resource.put_member(verified.document)
        self.outbox[verified.key] = verified
        self._on_publish(self)

    def _offer(self, port: int) -> tuple[EndpointCandidate, ...]:
        if port not in self._offers:
            self._offers[port] = candidates.own_candidates(
                self._surroundings,
                declared=self.declared,
                listen_port=port,
                first_port=FIRST_PORT,
            )
        return self._offers[port]

    # What happens to it.

    def note_offer(self) -> None:
        """Its operator says something else of it as an exit."""
        if self.is_awake and self.uplink is not None:
            for resource in self.resources.values():
                self._refresh(resource)

    def note_move(self) -> None:
        """Its links have other addresses."""
        found = self.host.surroundings
        if found == self._surroundings:
            return
        self._settle(found)
        for resource in self.resources.values():
            resource.put_underlay(self._underlay)
            self._refresh(resource)

    def stop(self, *, with_devices: bool) -> None:
        """The process is gone, or all of the machine: a device alone lives on without us."""
        self.is_awake = False
        for resource in self.resources.values():
            resource.is_awake = False
            if with_devices:
                resource.device.sleep()

    def wake(self) -> None:
        """The machine goes on where it slept."""
        self.is_awake = True
        for resource in self.resources.values():
            resource.is_awake = True
            resource.device.wake()
        self.note_move()
        self.note_offer()
        for resource in self.resources.values():
            resource.look_anew()

    def start(self, *, reboot: bool) -> None:
        """Begin again from the disk; after a reboot there are no devices any more."""
        self.is_awake = True
        self._settle(self.host.surroundings)
        for network, resource in self.resources.items():
            held = self._documents[network].values()
            network_document = next(d for d in held if isinstance(d, Network))
            members = [d for d in held if isinstance(d, Member)]
            resource.begin_again(network_document, members, self._underlay, reboot=reboot)
            self._refresh(resource)
            resource.write()


def _holds(resource: Resource, member: Member) -> bool:
    known = resource.goals.selection.members.get(member.node)
    return known is not None and known.version == member.version
