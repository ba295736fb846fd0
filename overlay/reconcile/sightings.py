"""What a relay says of where it hears members: changes only, and not too often. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from overlay.documents.fields import check_endpoint
from overlay.documents.relays import MAX_SEEN, Seen, Sighting
from overlay.errors import Rejected
from overlay.keys import wireguard
from overlay.model import Address, Endpoint, NetworkId, NodeId, WgPublicKey
from overlay.relay.limits import STREAM_PARTS, Place

SIGHTING_EVERY_S = 1.0
# Everybody in the network is sent all of it: the longer it is, the longer until the next one.
SEEN_PER_S = 128


class Sightings:
    """The latest sighting of each network, and when the next one may follow."""

    def __init__(self, own: NodeId) -> None:
        self._own = own
        self._said: dict[NetworkId, tuple[Seen, ...]] = {}
        self._next_at: dict[NetworkId, float] = {}
        self._waiting: set[NetworkId] = set()  # there is news, but it is too early

    def put_said(self, sighting: Sighting) -> None:
        """This was said before, perhaps in an earlier life."""
        self._said[NetworkId(sighting.network)] = sighting.seen

    def forget(self, network: NetworkId) -> None:
        self._said.pop(network, None)
        self._next_at.pop(network, None)
        self._waiting.discard(network)

    def due(
        self, seen: Mapping[NetworkId, tuple[Seen, ...]], *, now: float
    ) -> tuple[Sighting, ...]:
        """What is to be said of `seen` now; it counts as said from now on.

        A network of which nothing was ever seen is not spoken of.
        """
        due: list[Sighting] = []
        self._waiting.clear()
        for network, places in seen.items():
            before = self._said.get(network, ())
            if places == before:
                continue
            if now < self._next_at.get(network, now):
                self._waiting.add(network)
                continue
            self._said[network] = places
            length = max(len(places), len(before))
            self._next_at[network] = now + max(SIGHTING_EVERY_S, length / SEEN_PER_S)
            due.append(Sighting(network=network, node=self._own, version=1, seen=places))
        return tuple(due)

    def wait_s(self, *, now: float) -> float | None:
        """How long until something that waits may be said; None when nothing does."""
        return min((max(self._next_at[each] - now, 0.0) for each in self._waiting), default=None)


def see(
    keys: Iterable[WgPublicKey], where: Callable[[WgPublicKey], Place | None]
) -> tuple[Seen, ...]:
    """The members with these keys that are heard, at addresses that mean something to others."""
    found = ((key, _endpoint(where(key))) for key in keys)
    seen = (
        Seen(wireguard.format_key(key), str(endpoint))
        for key, endpoint in found
        if endpoint is not None
    )
    return tuple(sorted(seen, key=lambda each: each.public_key)[:MAX_SEEN])


def _endpoint(place: Place | None) -> Endpoint | None:
    if place is None or len(place) == STREAM_PARTS:
        return None
    try:
        return check_endpoint(str(Endpoint(Address(place[0]), place[1])), "endpoint")
    except Rejected:
        return None  # link-local, or of this machine
