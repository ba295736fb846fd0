"""This node as an exit: while its farm offers it, for the networks that name it (EXIT-040 ..).

The egress netns itself is `overlay.exitnode`; here it is given an offer and networks, healed, and
members are told that it stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from overlay import addressing
from overlay.documents.exits import DEFAULT_RESOLVERS, ExitOffer, ExitService, learnt_families
from overlay.documents.schema import Farm
from overlay.errors import OverlayError
from overlay.exitnode.converge import EgressConfigurator
from overlay.exitnode.egress import Egress, OpenPort, select_legs, select_prefixes, source_families
from overlay.exitnode.guards import Guards
from overlay.exitnode.publishing import Decision
from overlay.model import Address, Family, InterfaceAddress, NetworkId, NodeId
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.publishing import Publishing

log = logging.getLogger(__name__)

LEARN_S = 0.5  # while the uplink waits for an address
LOOK_S = 10.0  # between looks at whether all of it still stands
TOGETHER_S = 0.05  # what comes within this time is acted on at once


def select_exit_offer(farm: Farm | None, own: NodeId) -> ExitOffer | None:
    """How the farm offers this node as an exit; None when it does not."""
    offers = farm.exits if farm is not None else ()
    return next((offer for offer in offers if offer.node == own), None)


class Exiting:
    """The role of an exit: `run` plays it."""

    def __init__(
        self,
        configurator: EgressConfigurator,
        *,
        random: Callable[[], float],
        wall: Callable[[], float],
        wanted: Callable[[], Iterable[NetworkId]],
        near: Callable[[], Iterable[InterfaceAddress]],
        ask: Callable[[], Awaitable[None]],
        guards: Callable[[Iterable[NetworkId]], Guards],
        publishing: Publishing,
        on_change: Callable[[], None],
    ) -> None:
        """`wall`: Unix seconds. `wanted`: networks of ours that name this node. `near`: our own
        underlay addresses.
        `guards`: what else is refused, of an exit of these networks, once one has asked."""
        self._configurator = configurator
        self._backoff = Backoff(random)
        self._wall = wall
        self._wanted = wanted
        self._near = near
        self._ask = ask
        self._guards = guards
        self.publishing = publishing
        self._on_change = on_change
        self._work = asyncio.Event()
        self._may_be_there = True  # something of it, perhaps of an earlier life
        self.offer: ExitOffer | None = None
        self.standing: frozenset[NetworkId] = frozenset()  # whose way out stands
        self.error: OverlayError | None = None  # why none does
        self.routed: frozenset[NetworkId] = frozenset()  # these have a part of an IPv6 prefix
        self._learnt: tuple[Family, ...] = ()  # of the families that the uplink is given

    def put_offer(self, offer: ExitOffer | None) -> None:
        """What the farm says now."""
        if offer != self.offer:
            self.offer = offer
            self._on_change()
        self.wake()

    @property
    def offer_in_use(self) -> ExitOffer | None:
        """None once it has drained, too (EXIT-062)."""
        return self.offer if self.offer is not None and self._left_s(self.offer) > 0 else None

    def _left_s(self, offer: ExitOffer) -> float:
        """How long it is in use."""
        until = offer.draining_until
        return float("inf") if until is None else until - self._wall()

    def resume(self, networks: Iterable[NetworkId]) -> None:
        """After a start: of these we have said that the way out stands; it does until we look."""
        self.standing = frozenset(networks)
        if (offer := self.offer_in_use) is not None:
            self.publishing.resume(offer)

    def wake(self) -> None:
        """Networks, their netns or our own addresses are others now."""
        self._work.set()

    def service(self, network: NetworkId) -> ExitService | None:
        """What members of the network are told; None while there is no way out here."""
        offer = self.offer_in_use
        if offer is None or network not in self.standing:
            return None
        if not (families := self._families(offer)):
            return None
        return ExitService(
            beacons=offer.beacons,
            families=families,
            resolvers=offer.resolvers or DEFAULT_RESOLVERS,
            draining_until=offer.draining_until,
            addresses=_public_addresses(offer) if offer.publish else (),
            publish=offer.publish,
            published=self.publishing.states(network),
        )

    def announced(self, network: NetworkId) -> ExitService | None:
        """What of that is said to members: a local way out is none of theirs."""
        offer = self.offer_in_use
        return None if offer is None or offer.local else self.service(network)

    async def run(self) -> None:
        """Until cancelled; what stands stays."""
        while True:
            self._work.clear()
            wait_s = await self._pass()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._work.wait()
                    await asyncio.sleep(TOGETHER_S)

    async def _pass(self) -> float:
        """The egress netns is as it should be; how long until it is looked at again."""
        if self.offer_in_use is not None:
            await self._ask()
        offer = self.offer_in_use
        networks = frozenset(self._wanted()) if offer is not None else frozenset()
        self._route(offer, networks)
        before = self.publishing.decision
        open_ports = self._decide(offer, networks)
        if not networks and not self._may_be_there:
            return LOOK_S
        self._may_be_there = True  # even when it fails midway
        try:
            made = await self._configurator.converge(self._desired(offer, networks, open_ports))
        except OverlayError as exc:
            if self.error is None or self.error.message != exc.message:
                log.warning("no way out", extra={"reason": str(exc)})
            # Members measure for themselves what stands; one pass that failed is no reason to go.
            self._stand(self.standing & networks, exc, before)
            return self._backoff.next_s()
        if made:
            log.info("exit converged", extra={"changes": len(made), "networks": len(networks)})
        self._backoff.reset()
        self._may_be_there = bool(networks)
        self._stand(networks, None, before)
        if offer is None:
            return LOOK_S
        look_s = LEARN_S if networks and self._left_to_learn(offer) else LOOK_S
        return max(0.0, min(look_s, self._left_s(offer)))

    def _route(self, offer: ExitOffer | None, networks: Iterable[NetworkId]) -> None:
        """The tenant netns of a network that has a part of the prefix leaves IPv6 as it is."""
        found = select_prefixes(offer.uplink, networks) if offer is not None else {}
        routed = frozenset(found)
        if routed != self.routed:
            self.routed = routed
            self._on_change()

    def _decide(
        self, offer: ExitOffer | None, networks: Iterable[NetworkId]
    ) -> tuple[OpenPort, ...]:
        if offer is None:
            self.publishing.close()
            return ()
        return self.publishing.decide(offer, networks).open_ports

    def _desired(
        self,
        offer: ExitOffer | None,
        networks: Iterable[NetworkId],
        open_ports: tuple[OpenPort, ...],
    ) -> Egress | None:
        if offer is None or not (legs := select_legs(networks)):
            return None
        near = {addressing.prefix_of(address) for address in self._near()}
        return Egress(
            offer,
            legs,
            tuple(sorted(near)),
            self._guards(networks),
            self._families(offer),
            open_ports,
        )

    def _families(self, offer: ExitOffer) -> tuple[Family, ...]:
        """Those of the uplink; of the node where it is the node that sends."""
        if offer.uplink.kind == "interface":
            return source_families(self._near())
        written = (*offer.uplink.addresses, *offer.uplink.gateways)
        found: set[Family] = {6 if ":" in text else 4 for text in written}
        return tuple(sorted(found.union(self._learnt)))

    def _left_to_learn(self, offer: ExitOffer) -> bool:
        """Members are told which of the families that the uplink is given are there."""
        wanted = learnt_families(offer.uplink)
        there = source_families(self._configurator.addresses)
        learnt = tuple(family for family in wanted if family in there)
        if learnt != self._learnt:
            self._learnt = learnt
            self._on_change()
        return learnt != wanted

    def _stand(
        self, standing: frozenset[NetworkId], error: OverlayError | None, before: Decision
    ) -> None:
        changed = (standing, error is None) != (self.standing, self.error is None)
        self.standing, self.error = standing, error
        if changed or self.publishing.decision != before:
            self._on_change()


def _public_addresses(offer: ExitOffer) -> tuple[Address, ...]:
    return tuple(map(addressing.address_of, map(InterfaceAddress, offer.uplink.addresses)))
