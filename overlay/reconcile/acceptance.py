"""From what anybody may have sent to what this node acts on.

No kernel change follows from anything unsigned or stale: documents pass `Intake`, are durable, and
only then reach a loop.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from overlay.documents import schema, trust
from overlay.documents.envelope import parse_envelope
from overlay.documents.relays import Sighting, relay_of
from overlay.documents.schema import Farm, Member, Network, Node, Result
from overlay.documents.trust import Verified
from overlay.errors import Refused, Rejected
from overlay.keys.identity import Identity
from overlay.model import NetworkId, NodeId
from overlay.peers.cache import Cache
from overlay.peers.registry import Document
from overlay.ports import Clock
from overlay.reconcile import membership
from overlay.reconcile.exiting import Exiting, select_exit_offer
from overlay.reconcile.intake import Intake
from overlay.reconcile.journal import Journal
from overlay.reconcile.keyring import Keyring
from overlay.reconcile.networks import Networks
from overlay.reconcile.publisher import Publisher
from overlay.reconcile.relayed import select_offer
from overlay.reconcile.relaying import Relaying
from overlay.reconcile.resource import ResourceLoop
from overlay.reconcile.settings import NodeSettings

log = logging.getLogger(__name__)

MAX_EARLY_MEMBERS = 512  # that came before their network


class Acceptance:
    """Takes documents to the networks they are about; `on_open` hears of each new network."""

    def __init__(
        self,
        identity: Identity,
        settings: NodeSettings,
        *,
        cache: Cache,
        intake: Intake,
        keys: Keyring,
        networks: Networks,
        publisher: Publisher,
        relaying: Relaying,
        exiting: Exiting,
        journal: Journal,
        clock: Clock,
        on_open: Callable[[ResourceLoop], None],
    ) -> None:
        self._own = NodeId(identity.id)
        self._identity = identity
        self._settings = settings
        self._cache = cache
        self._intake = intake
        self._keys = keys
        self._networks = networks
        self._loops = networks.loops
        self._publisher = publisher
        self._relaying = relaying
        self._exiting = exiting
        self._journal = journal
        self._clock = clock
        self._on_open = on_open
        self._early: OrderedDict[str, bytes] = OrderedDict()
        self._opened: list[ResourceLoop] = []  # in this batch
        self._touched: dict[NetworkId, bool] = {}  # -> whether more than peers changed

    def stored(self, prefix: str) -> Iterator[tuple[str, Verified]]:
        """What is on disk and good; the rest is noted."""
        for key, found in list(self._intake.stored(prefix)):
            if isinstance(found, Verified):
                yield key, found
            else:
                self._journal.refuse(key, found, now=self._clock.now())
                log.error("document on disk refused", extra={"key": key, "reason": str(found)})

    def take(self, documents: Iterable[Document]) -> None:
        """Verify, store, and only then act on. What is refused is noted and changes nothing."""
        with self._durable():
            for document in documents:
                self._take(document.key, document.envelope)

    @contextmanager
    def _durable(self) -> Iterator[None]:
        """What happens in the block is on disk before any loop acts on it, or did not happen."""
        self._touched, self._opened = {}, []
        farm = self._networks.farm
        try:
            with self._cache.batch():
                yield
        except BaseException:
            self._networks.farm = farm
            for opened in self._opened:
                del self._loops[opened.network]
            for network in self._touched.keys() & self._loops.keys():
                self._reload(self._loops[network])
            self._relaying.restore()
            raise
        self._relaying.put_offer(select_offer(self._networks.farm, self._own))
        self._exiting.put_offer(select_exit_offer(self._networks.farm, self._own))
        for opened in self._opened:
            self._on_open(opened)
        for network, more in self._touched.items():
            if (loop := self._loops.get(network)) is not None:
                loop.changed(peers_only=not more)

    def _reload(self, loop: ResourceLoop) -> None:
        """Forget what did not reach the disk."""
        loop.reset_goals()
        for key, verified in self.stored("network/"):
            if key == f"network/{loop.network}" and isinstance(verified.document, Network):
                loop.put_network(verified.document)
        for _, verified in self.stored(f"member/{loop.network}/"):
            if isinstance(verified.document, Member):
                loop.goals.put_member(verified.document, now=self._clock.monotonic())
        for _, verified in self.stored(f"sighting/{loop.network}/"):
            if isinstance(verified.document, Sighting):
                loop.goals.put_sighting(verified.document, now=self._clock.monotonic())

    def _take(self, key: str, raw: bytes) -> None:
        try:
            verified = self._intake.verify(raw, key=key)
            self._accept(verified, raw)
            self._journal.accept(key)
        except Rejected as exc:
            if self._journal.refuse(key, exc, now=self._clock.now()):
                log.warning("document refused", extra={"key": key[:160], "reason": str(exc)})

    def _accept(self, verified: Verified, raw: bytes) -> None:
        match verified.document:
            case Farm() as farm:
                if farm.farm == self._settings.farm and farm != self._networks.farm:
                    self._intake.keep(verified, raw)
                    self._networks.farm = farm
                    self._refresh_all()
            case Network() as network:
                self._accept_network(verified, network, raw)
            case Member() as member:
                self._accept_member(verified, member, raw)
            case Sighting() as sighting if sighting.node != self._own:
                self._accept_sighting(verified, sighting, raw)
            case (Node() | Result() | Sighting()) as own:
                if own.node == self._own:
                    self._publisher.note_accepted(verified.key, verified.version)

    def _accept_network(self, verified: Verified, network: Network, raw: bytes) -> None:
        id_ = NetworkId(verified.key.partition("/")[2])
        if self._relaying.put_network(verified, network, raw):
            self._take_early(id_)
        loop = self._loops.get(id_)
        if loop is None:
            if network.deleted or all(m.node != self._own for m in network.members):
                return  # it is no business of ours
            loop = self._admit(verified, network, raw)
            self._take_early(id_)
        elif loop.document != network:
            self._intake.keep(verified, raw)
            loop.put_network(network)
            self._networks.forget_sightings(loop)
        else:
            return
        self._networks.refresh(loop)
        self._touched[id_] = True

    def _admit(
        self, verified: Verified, network: Network, raw: bytes, *, joined: bool = False
    ) -> ResourceLoop:
        """A network that is new to us. Raises Refused when there is no room for it.

        One that somebody here joined is not kept out by those that may not use this node anyway:
        anybody can name it in as many as there may be.
        """
        id_ = NetworkId(verified.key.partition("/")[2])
        others = (other for other in self._loops.values() if other.gate.open or not joined)
        try:
            held = tuple(d for other in others if (d := other.document))
            membership.refuse_excess(held, network)
            self._networks.reserve_port(id_)
        except Refused as exc:
            self._networks.refuse(id_, network, exc)
            raise
        self._intake.keep(verified, raw)
        self._networks.refused.pop(id_, None)
        loop = self._networks.open(id_, network)
        self._opened.append(loop)
        return loop

    def adopt(
        self, network: NetworkId, documents: Iterable[Document], *, invitation: Identity
    ) -> None:
        """Act on a network that was joined by token: its document comes first, then members."""
        first, *members = documents
        self._keys.keep_invitation(network, invitation)
        with self._durable():
            self._cache.set_setting(f"joined/{network}", invitation.id)
            if network not in self._loops:
                verified = self._intake.verify(first.envelope, key=first.key)
                if not isinstance(verified.document, Network):
                    raise Rejected(f"{first.key} is no network document")
                self._admit(verified, verified.document, first.envelope, joined=True)
            for member in members:
                self._take(member.key, member.envelope)
            self._networks.refresh(self._loops[network])
            self._touched[network] = True

    def _accept_member(self, verified: Verified, member: Member, raw: bytes) -> None:
        loop = self._loops.get(NetworkId(member.network))
        is_relayed = self._relaying.put_member(verified, member, raw)
        if loop is None:
            if is_relayed:
                return
            self._early[verified.key] = raw
            if len(self._early) > MAX_EARLY_MEMBERS:
                self._early.popitem(last=False)
            return
        if member.node == self._own:
            self._publisher.note_accepted(verified.key, verified.version)
        known = loop.goals.selection.members.get(member.node)
        if known is not None and known.version == member.version:
            return
        self._intake.keep(verified, raw)
        loop.goals.put_member(member, now=self._clock.monotonic())
        if member.node == self._own:
            self._networks.refresh(loop)
        self._touched.setdefault(loop.network, member.node == self._own)

    def _accept_sighting(self, verified: Verified, sighting: Sighting, raw: bytes) -> None:
        """On disk as well: it is not sent again to who has seen it before a restart."""
        loop = self._loops.get(NetworkId(sighting.network))
        if loop is None or relay_of(loop.goals.selection.relays, sighting.node) is None:
            return
        self._intake.keep(verified, raw)
        loop.goals.put_sighting(sighting, now=self._clock.monotonic())
        self._touched.setdefault(loop.network, False)

    def _take_early(self, network: NetworkId) -> None:
        for key in [key for key in self._early if key.startswith(f"member/{network}/")]:
            self._take(key, self._early.pop(key))

    def take_conflict(self, document: Document) -> None:
        """The registry has another document in the place of ours: perhaps a newer one of ours.

        After our disk was lost or restored it is one that we forgot: ours becomes newer than that.
        """
        self.take((document,))
        try:
            held = trust.verify(parse_envelope(document.envelope))
            stored = self._intake.own_envelope(held.key)
            own = None if stored is None else trust.verify(stored)
        except Rejected:
            return
        if own is not None and own.version <= held.version and own.digest != held.digest:
            with self._cache.batch():
                self._intake.outdo(held)
                self._sign_again(own.document)

    def _sign_again(self, document: schema.Document) -> None:
        match document:
            case Member(node=self._own) as member if loop := self._networks.get(member.network):
                if member.device == loop.device_key.id:  # else it says another one soon
                    self._networks.publish_member(loop, member)
            case Sighting(network=network) if not self._relaying.holds(NetworkId(network)):
                pass  # of a network that does not name us any more
            case (Node(node=self._own) | Result(node=self._own) | Sighting(node=self._own)) as said:
                self._publisher.sign(said, self._identity)

    def _refresh_all(self) -> None:
        for loop in self._loops.values():
            self._networks.refresh(loop)
            self._touched[loop.network] = True
