"""The networks that are ours: a loop and a port for each, and what we say of ourselves there."""

from __future__ import annotations

import logging
from collections import OrderedDict

from overlay.documents import trust
from overlay.documents.names import WorkloadName
from overlay.documents.relays import endpoints_of, relay_of
from overlay.documents.schema import EndpointCandidate, Farm, Member, Network
from overlay.errors import OverlayError, Refused, Rejected
from overlay.keys.wireguard import DeviceKey
from overlay.model import NetworkId, NodeId
from overlay.peers import candidates
from overlay.peers.cache import Cache, lowest_free
from overlay.peers.candidates import Surroundings
from overlay.reconcile import membership
from overlay.reconcile.exiting import Exiting
from overlay.reconcile.journal import Journal
from overlay.reconcile.keyring import Keyring
from overlay.reconcile.machine import Machine
from overlay.reconcile.relayed import select_offer
from overlay.reconcile.relaying import Relaying
from overlay.reconcile.resource import ResourceLoop
from overlay.reconcile.results import Results
from overlay.reconcile.settings import NodeSettings

log = logging.getLogger(__name__)

MAX_REFUSED_NETWORKS = 128


class Networks:
    """Also those that were turned away, with why."""

    def __init__(
        self,
        own: NodeId,
        settings: NodeSettings,
        *,
        cache: Cache,
        keys: Keyring,
        machine: Machine,
        relaying: Relaying,
        exiting: Exiting,
        journal: Journal,
        results: Results,
    ) -> None:
        self.loops: dict[NetworkId, ResourceLoop] = {}
        self.refused: OrderedDict[NetworkId, tuple[Network, Refused]] = OrderedDict()
        self.farm: Farm | None = None
        self.surroundings = Surroundings()
        self._own = own
        self._settings = settings
        self._cache = cache
        self._keys = keys
        self._machine = machine
        self._clock = machine.clock
        self._publisher = machine.publisher
        self._relaying = relaying
        self._exiting = exiting
        self._journal = journal
        self._results = results

    def get(self, network: str) -> ResourceLoop | None:
        return self.loops.get(NetworkId(network))

    def open(self, network: NetworkId, document: Network) -> ResourceLoop:
        """A loop for the network, which does nothing yet. Raises Rejected for a damaged key."""
        declared = self._settings.endpoints
        loop = ResourceLoop(
            network,
            own=self._own,
            device_key=self._keys.device(network),
            listen_port=self.reserve_port(network),
            surroundings=self.surroundings,
            underlay=candidates.underlay_of(self.surroundings, declared=declared),
            machine=self._machine,
            journal=self._journal,
        )
        loop.next_key = self._next_key(network)
        loop.attachments = self._cache.attachments(network)
        loop.put_network(document)
        self.loops[network] = loop
        self._share_polls()
        return loop

    def _next_key(self, network: NetworkId) -> DeviceKey | None:
        """One that cannot be used was used by nobody, so it goes."""
        try:
            return self._keys.next_device(network)
        except Rejected as exc:
            log.error("next key deleted", extra={"network": network, "reason": str(exc)})
            self._keys.drop_next_device(network)
            return None

    def reserve_port(self, network: NetworkId) -> int:
        """The listen port of the network, the same for as long as the network is ours."""
        ports = self._cache.ports()
        if network in ports:
            return ports[network]
        first, last = self._settings.first_port, self._settings.last_port
        offer = select_offer(self.farm, self._own)
        relayed = (endpoint.port for endpoint in endpoints_of(offer)) if offer else ()
        port = lowest_free((*ports.values(), *relayed), first=first, last=last)
        if port is None:
            raise Refused(
                f"no listen port from {first} to {last} is free",
                remedy="widen listen_ports in /etc/zos/node.toml",
            )
        self._cache.set_port(network, port)
        return port

    def refresh(self, loop: ResourceLoop) -> None:
        """Gate and member document are what the documents and our links ask for now."""
        loop.put_way_out_here(
            self._exiting.offer_in_use,
            is_routed=loop.network in self._exiting.routed,
        )
        roster = loop.goals.selection.roster
        if roster is None:
            return
        joined = self._cache.setting(f"joined/{loop.network}") is not None
        loop.gate = membership.select_gate(
            self._own, farm=self._settings.farm, listed=self.farm, joined=joined
        )
        if not loop.gate.open:
            if loop.goals.selection.own_index is not None:
                error = Refused(loop.gate.message, remedy=loop.gate.remedy)
                self._results.report(loop.network, roster.network.version, error)
            return
        before = loop.goals.selection.members.get(self._own)
        said = before.next_device if before is not None else None
        if said is not None and said.device == loop.device_key.id and not loop.wears_its_key:
            return  # the former key is gone, and of the new one nobody hears before it is in use
        member = membership.own_member(
            roster,
            self._own,
            device=loop.device_key.id,
            endpoints=self.own_endpoints(loop.listen_port),
            before=before,
            now=int(self._clock.now().timestamp()),
            workloads=(WorkloadName(stored.name, stored.host) for stored in loop.attachments),
            service=self._exiting.announced(loop.network),
            next_device=said
            if loop.next_key and said and said.device == loop.next_key.id
            else None,
        )
        if member is not None and not membership.says_the_same(before, member):
            self.publish_member(loop, member)

    def publish_member(self, loop: ResourceLoop, member: Member) -> None:
        try:
            signed = self._publisher.sign(
                member, *self._keys.member_signers(member, loop.device_key)
            )
        except OverlayError as exc:
            key = trust.document_key(member)
            if self._journal.refuse(key, exc, now=self._clock.now()):
                log.error("own member not signed", extra={"key": key, "reason": str(exc)})
            return
        if isinstance(signed.document, Member):
            before = loop.network_resource
            loop.goals.put_member(signed.document, now=self._clock.monotonic())
            # What only others are told changes nothing here.
            loop.changed(peers_only=loop.network_resource == before)
            if self._exiting.offer is not None:
                self._exiting.wake()  # ports that are published lead to where it says

    def own_endpoints(self, listen_port: int) -> tuple[EndpointCandidate, ...]:
        return candidates.own_candidates(
            self.surroundings,
            declared=self._settings.endpoints,
            listen_port=listen_port,
            first_port=self._settings.first_port,
        )

    def refuse(self, network: NetworkId, document: Network, error: Refused) -> None:
        """Not acted on, and the tenant learns why."""
        known = self.refused.get(network)
        self.refused[network] = (document, error)
        if len(self.refused) > MAX_REFUSED_NETWORKS:
            self.refused.popitem(last=False)
        elif known is None or known[0].version != document.version:
            self._results.report(network, document.version, error)

    def forget(self, network: NetworkId) -> None:
        """Nothing of the network is on disk any more, but the floors.

        Raises what the cache raises, and then nothing has changed.
        """
        with self._cache.batch():
            if not self._relaying.holds(network):
                self._cache.forget_below(f"member/{network}/")
                self._cache.forget_below(f"sighting/{network}/")
                self._cache.forget(f"network/{network}")
            self._cache.free_port(network)
            self._cache.drop_attachments(network)
            self._cache.drop_setting(f"joined/{network}")
            self._cache.drop_setting(f"rotation/{network}")
            self._machine.heard.forget(network)
        del self.loops[network]
        self._publisher.withdraw(f"member/{network}/{self._own}")
        try:
            self._keys.forget(network)
        except OverlayError as exc:  # `forget_strangers` will, at the next start
            log.warning("keys not forgotten", extra={"network": network, "reason": str(exc)})
        self._journal.forget_below(f"member/{network}/")
        self._share_polls()

    def forget_sightings(self, loop: ResourceLoop) -> None:
        """Nothing is on disk of what those said who are no relay of the network any more."""
        prefix = f"sighting/{loop.network}/"
        for key in list(self._cache.keys(prefix)):
            if relay_of(loop.goals.selection.relays, key.removeprefix(prefix)) is None:
                self._cache.forget(key)

    def forget_strangers(self) -> None:
        """Neither key nor port is left of a network that is not on disk.

        Keys are files, so a kill may come between one and the document that it belongs to.
        """
        known = {NetworkId(key.partition("/")[2]) for key in self._cache.keys("network/")}
        for name in self._keys.forget_others(known):
            log.info("key of no network deleted", extra={"file": name})
        for network in self._cache.ports().keys() - known:
            self._cache.free_port(network)

    def _share_polls(self) -> None:
        for loop in self.loops.values():
            loop.schedule.sharers = len(self.loops)
