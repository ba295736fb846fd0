"""This node as an exit that workloads are reached by: who holds which port (PUB-010 ..).

Decisions are `overlay.exitnode.publishing`'s; here claims come from the networks, and holders are
kept on disk, so that a start takes a port from nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

import msgspec

from overlay.documents.exits import ExitOffer
from overlay.documents.published import PortSpan, PublishedState, parse_ports
from overlay.errors import Rejected, Unavailable
from overlay.exitnode.named import is_exit
from overlay.exitnode.publishing import Claim, Decision, Port, decide
from overlay.model import NetworkId, NodeId
from overlay.peers.cache import Cache
from overlay.peers.publishing import select_published
from overlay.reconcile.resource import ResourceLoop

log = logging.getLogger(__name__)

HOLDERS = "published"  # a setting: {"tcp/8080": "net1..."}


class Publishing:
    """What became of all that networks publish here; `decide` brings it up to date."""

    def __init__(
        self,
        own: NodeId,
        cache: Cache,
        loops: Callable[[], Mapping[NetworkId, ResourceLoop]],
        *,
        reserved: Callable[[ExitOffer], Iterable[PortSpan]],
    ) -> None:
        """`reserved`: ports that the node itself is reached at by an offer's addresses."""
        self._own = own
        self._cache = cache
        self._loops = loops
        self._reserved = reserved
        self._stored = cache.setting(HOLDERS) or "{}"
        self.decision = Decision(holders=dict(_holders(self._stored)))

    def decide(self, offer: ExitOffer, networks: Iterable[NetworkId]) -> Decision:
        """What becomes of the claims of these networks, which are told."""
        self.decision = decide(
            offer,
            self._claims(networks),
            holders=self.decision.holders,
            reserved=self._reserved(offer),
        )
        self._store()
        self._tell()
        return self.decision

    def resume(self, offer: ExitOffer) -> None:
        """After a start: as before it, until it is known which networks may use this node."""
        named = (n for n, loop in self._loops().items() if is_exit(loop.goals.selection))
        self.decide(offer, tuple(named))

    def close(self) -> None:
        """Nothing is open while this node is no exit; who held a port holds it when it is again."""
        self.decision = Decision(holders=self.decision.holders)
        self._tell()

    def states(self, network: NetworkId) -> tuple[PublishedState, ...]:
        """What the members of a network are told."""
        return tuple(
            PublishedState(*each.claim.port, each.state) for each in self.decision.of(network)
        )

    def _claims(self, networks: Iterable[NetworkId]) -> Iterator[Claim]:
        for network in networks:
            loop = self._loops().get(network)
            nr = loop.network_resource if loop is not None else None
            if loop is None or nr is None:
                continue
            selection = loop.goals.selection
            for published, to in select_published(selection, nr, exit_=self._own):
                yield Claim(network, published, to)

    def _tell(self) -> None:
        for network, loop in self._loops().items():
            loop.put_publications(self.decision.publications(network))

    def _store(self) -> None:
        held = {f"{protocol}/{port}": to for (protocol, port), to in self.decision.holders.items()}
        text = msgspec.json.encode(held, order="sorted").decode()
        # A disk that takes nothing takes it with the next decision.
        if text != self._stored:
            with suppress(Unavailable):
                self._cache.set_setting(HOLDERS, text)
                self._stored = text


def _holders(text: str) -> Iterator[tuple[Port, NetworkId]]:
    """What is on disk; a part that makes no sense holds nothing."""
    try:
        stored = msgspec.json.decode(text, type=dict[str, str])
        for ports, network in stored.items():
            span = parse_ports(ports)
            yield (span.protocol, span.first), NetworkId(network)
    except (msgspec.DecodeError, Rejected) as exc:
        log.warning("holders of published ports not read", extra={"reason": str(exc)})
