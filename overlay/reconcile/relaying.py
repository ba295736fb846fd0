"""This node as a relay: while its farm offers it, for the networks that name it (NODE-060 ..).

The forwarding itself is `overlay.relay`; here it is given a key, a port and members, and what it
hears of them is published.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from overlay.documents import relays
from overlay.documents.relays import RelayOffer, Sighting
from overlay.documents.schema import Document, Member, Network
from overlay.documents.trust import Verified
from overlay.errors import OverlayError, Refused
from overlay.keys.identity import Identity
from overlay.keys.wireguard import DeviceKey
from overlay.model import Address, Endpoint, NetworkId, NodeId
from overlay.peers.cache import Cache
from overlay.ports import Clock
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.intake import Intake
from overlay.reconcile.keyring import Keyring
from overlay.reconcile.publisher import Publisher
from overlay.reconcile.relayed import Relayed, names_relay
from overlay.reconcile.sightings import Sightings, see
from overlay.relay.server import Relay, open_sockets, running

if TYPE_CHECKING:
    from overlay.relay.streams import Streams

log = logging.getLogger(__name__)

ASKED = "relay/asked"  # setting: since we are a relay, the registry was asked for everything
TOGETHER_S = 0.05  # what comes within this time is acted on at once
_ANY: dict[int, Address] = {4: Address("0.0.0.0"), 6: Address("::")}


class Relaying:
    """The role of a relay: `run` plays it. Documents are taken inside the cache's batch."""

    def __init__(
        self,
        identity: Identity,
        *,
        cache: Cache,
        intake: Intake,
        keys: Keyring,
        publisher: Publisher,
        clock: Clock,
        random: Callable[[], float],
        on_change: Callable[[], None],
        ask_again: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._own = NodeId(identity.id)
        self._cache = cache
        self._intake = intake
        self._keys = keys
        self._publisher = publisher
        self._clock = clock
        self._backoff = Backoff(random)
        self._tls_backoff = Backoff(random)
        self._on_change = on_change
        self._ask_again = ask_again
        self._key: DeviceKey | None = None
        self._sightings = Sightings(self._own)
        self._work = asyncio.Event()
        self.offer: RelayOffer | None = None
        self.relayed: Relayed | None = None  # while there is an offer, and a key
        self.relay: Relay | None = None  # while it runs
        self.error: OverlayError | None = None  # why it does not
        self.streams: Streams | None = None  # while it takes connections by TLS
        self.tls_error: OverlayError | None = None  # why it does not, though it is offered so

    # What the documents say.

    @property
    def key(self) -> DeviceKey | None:
        """The relay's key, while we are offered as one."""
        return self._key if self.relayed is not None else None

    @property
    def said(self) -> frozenset[str]:
        """The keys of our own sightings."""
        networks = self.relayed.networks if self.relayed is not None else ()
        return frozenset(
            key for each in networks if self._cache.envelope(key := self._sighting_key(each))
        )

    def holds(self, network: NetworkId) -> bool:
        """Whether the documents of the network are ours to keep."""
        return self.relayed is not None and network in self.relayed.networks

    def load(self, offer: RelayOffer | None) -> None:
        """What the farm on disk offers; the documents on disk follow by `load_document`."""
        self._take_offer(offer)
        if self.relayed is not None and self._cache.setting(ASKED) is None:
            self._ask_for_everything()

    def load_document(self, document: Document) -> bool:
        """Whether a document on disk is there (also) for the relay's sake."""
        match document:
            case Network():
                return self._load_network(document)
            case Member() if self.relayed and self.holds(NetworkId(document.network)):
                with suppress(Refused):
                    self.relayed.put_member(document)
                return True
            case Sighting(node=self._own) if self.holds(NetworkId(document.network)):
                self._sightings.put_said(document)
                return True
        return False

    def put_offer(self, offer: RelayOffer | None) -> None:
        """Act on what the farm says now. Without an offer nothing is left but the key."""
        before = self.offer
        if offer == before:
            return
        networks = tuple(self.relayed.networks) if self.relayed is not None else ()
        self._take_offer(offer)
        if offer is None:
            with self._cache.batch():
                self._cache.drop_setting(ASKED)
                for network in networks:
                    self._drop(network)
        elif before is None and self.relayed is not None:
            self._ask_for_everything()
        self._changed()

    def put_network(self, verified: Verified, network: Network, raw: bytes) -> bool:
        """Whether this node relays for the network now. Raises Refused without room for it."""
        id_ = NetworkId(verified.key.partition("/")[2])
        relayed = self.relayed
        if relayed is None or not (id_ in relayed.networks or names_relay(network, self._own)):
            return False
        if relayed.version(id_) == network.version:
            return True
        if names_relay(network, self._own):
            relayed.refuse_excess(network)
            self._intake.keep(verified, raw)
            relayed.put_network(network)
        else:
            self._intake.keep(verified, raw)
            relayed.drop(id_)
            self._drop(id_)
        self._changed()
        return id_ in relayed.networks

    def put_member(self, verified: Verified, member: Member, raw: bytes) -> bool:
        """Whether the member is one of a network that is relayed. Raises Refused without room."""
        relayed, id_ = self.relayed, NetworkId(member.network)
        if relayed is None or id_ not in relayed.networks:
            return False
        known = relayed.networks[id_].members.get(member.node)
        if known is None or known.version != member.version:
            relayed.refuse_more(member)
            self._intake.keep(verified, raw)
            relayed.put_member(member)
            self._changed()
        return True

    def restore(self) -> None:
        """Forget what did not reach the disk."""
        if self.relayed is None:
            return
        for network in tuple(self.relayed.networks):
            self.relayed.drop(network)
        for prefix in ("network/", "member/"):
            for _, found in self._intake.stored(prefix):
                if isinstance(found, Verified):
                    self.load_document(found.document)
        self._changed()

    # The role.

    async def run(self) -> None:
        """Relay while we are offered, for ever."""
        while True:
            offer, key, relayed = self.offer, self._key, self.relayed
            try:
                if offer is not None and key is not None and relayed is not None:
                    await self._relay(offer, key, relayed)
                    continue
                wait_s = None
            except OverlayError as exc:
                self._failed(exc)
                wait_s = self._backoff.next_s()
            await self._wait(wait_s)

    async def _relay(self, offer: RelayOffer, key: DeviceKey, relayed: Relayed) -> None:
        """Serve as long as the offer is for these ports. Raises Unavailable without the port."""
        listen = [Endpoint(_ANY[each.family], each.port) for each in relays.endpoints_of(offer)]
        async with running(
            key,
            open_sockets(listen),
            self._clock,
            membership=relayed.membership(),
            on_moved=self._work.set,
        ) as relay:
            log.info("relay serves", extra={"listen": [str(each) for each in listen]})
            self.relay, self.error = relay, None
            self._backoff.reset()
            self._on_change()
            try:
                async with asyncio.TaskGroup() as group:
                    streaming = group.create_task(self._stream(relay, offer, key), name="relay TLS")
                    while self.relayed is relayed and (said := self._still_at(offer)):
                        relay.set_rate(said.rate_mbit)
                        relay.allow(relayed.membership(), relayed.heirs())
                        self._publish(relay, relayed)
                        await self._wait(self._sightings.wait_s(now=self._clock.monotonic()))
                    streaming.cancel()
            finally:
                self.relay = None
                self._on_change()
        log.info("relay ended")

    def _still_at(self, served: RelayOffer) -> RelayOffer | None:
        """The offer now, if it is to be served at the same ports: nobody has to come again."""
        said = self.offer
        return said if said is not None and _ports(said) == _ports(served) else None

    async def _stream(self, relay: Relay, offer: RelayOffer, key: DeviceKey) -> None:
        """Take connections by TLS while the relay runs, if it is offered so."""
        if (port := offer.tls_port) is None:
            return
        # aiohttp's server is much to load for who needs none.
        from overlay.relay.streams import streaming

        listen = [Endpoint(_ANY[each.family], port) for each in relays.endpoints_of(offer)]
        try:
            while True:
                try:
                    listeners = open_sockets(listen, socket.SOCK_STREAM)
                except OverlayError as exc:
                    self._failed_tls(exc)
                    await asyncio.sleep(self._tls_backoff.next_s())
                    continue
                async with streaming(relay, key.identity, listeners, self._clock) as streams:
                    self.streams, self.tls_error = streams, None
                    self._tls_backoff.reset()
                    self._on_change()
                    await asyncio.get_running_loop().create_future()
        finally:
            self.streams = self.tls_error = None

    def _publish(self, relay: Relay, relayed: Relayed) -> None:
        membership = relayed.membership()
        seen = {NetworkId(id_): see(keys, relay.where) for id_, keys in membership.items()}
        if not (due := self._sightings.due(seen, now=self._clock.monotonic())):
            return
        try:
            with self._cache.batch():
                for sighting in due:
                    self._publisher.sign(sighting, self._identity)
        except OverlayError as exc:
            log.warning("sighting not published", extra={"reason": str(exc)})
        self._on_change()

    async def _wait(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._work.wait()
        await asyncio.sleep(TOGETHER_S)
        self._work.clear()

    def _failed(self, error: OverlayError) -> None:
        if self.error is None or self.error.message != error.message:
            log.error("relay does not run", extra={"reason": str(error)})
        self.error = error
        self._on_change()

    def _failed_tls(self, error: OverlayError) -> None:
        if self.tls_error is None or self.tls_error.message != error.message:
            log.error("relay takes no connections", extra={"reason": str(error)})
        self.tls_error = error
        self._on_change()

    # Small things.

    def _take_offer(self, offer: RelayOffer | None) -> None:
        self.offer, self.error = offer, None
        if offer is None:
            self.relayed = None
        elif self.relayed is None:
            try:
                self._key = self._keys.relay()
            except OverlayError as exc:
                self._failed(exc)
                self._cache.drop_setting(ASKED)
                return
            self.relayed = Relayed(self._own, own_key=self._key.public_key)

    def _ask_for_everything(self) -> None:
        """Documents that named us before we were a relay were none of our business."""
        self._ask_again()
        self._cache.set_setting(ASKED, "1")

    def _load_network(self, network: Network) -> bool:
        if self.offer is None or not names_relay(network, self._own):
            return False
        if self.relayed is not None:
            with suppress(Refused):
                self.relayed.put_network(network)
        return True

    def _drop(self, network: NetworkId) -> None:
        """Nothing of the network is on disk, unless we are a member of it."""
        self._sightings.forget(network)
        key = self._sighting_key(network)
        self._publisher.withdraw(key)
        self._cache.forget(key)
        if network not in self._cache.ports():
            self._cache.forget_below(f"member/{network}/")
            self._cache.forget(f"network/{network}")

    def _sighting_key(self, network: NetworkId) -> str:
        return f"sighting/{network}/{self._own}"

    def _changed(self) -> None:
        self._work.set()
        self._on_change()


def _ports(offer: RelayOffer) -> tuple[frozenset[tuple[int, int]], int | None]:
    """Where it is listened, at all addresses: by UDP in each family, and by TCP."""
    udp = frozenset((each.family, each.port) for each in relays.endpoints_of(offer))
    return udp, offer.tls_port
