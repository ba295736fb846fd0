"""Which key of a member bears its traffic while the member replaces it (spec KEY-026). Pure.

The member says beforehand which key is to come, so that key is a peer without allowed IPs. The
first handshake of it proves that the member uses it: from then on, and for good, it bears what the
former bore. Clocks decide nothing but when to look closely, and when to ask by ourselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from overlay.model import WgPeer, WgPublicKey
from overlay.peers.selection import Coming, Selection

NEAR_S = 5.0  # around the time that was said: clocks of nodes differ a little
NEAR_LOOK_S = 0.02  # what comes by the key before we have seen it is lost
# The member begins, for it alone knows the moment; initiations that cross cancel each other. When
# both replaced their keys, neither can reach the other by the former, and one of them is later.
ASK_AFTER_S, OTHER_ASKS_AFTER_S = 3.0, 8.0
ASK_FOR_S = 3_600.0  # then it is gone, or never did it
FORMER_S = 180.0  # REJECT_AFTER_TIME: no session of the former key is older


class Fate(Enum):
    """What follows for a key to come."""

    TAKES_OVER = "takes over"
    IS_ASKED = "is asked"  # by keepalives, for it has no allowed IPs
    IS_LEFT_ALONE = "is left alone"
    OUTLIVED = "outlived the former"  # the former is no peer any more


class Takeovers:
    """The keys to come that were seen in use, of the peers that `selection` has."""

    __slots__ = (
        "_asked",
        "_former",
        "_late",
        "_selection",
        "_since",
        "own_key",
    )

    def __init__(self, selection: Selection, own_key: WgPublicKey) -> None:
        self._selection = selection
        self.own_key = own_key
        self._since: dict[WgPublicKey, float] = {}  # monotonic
        self._former: dict[WgPublicKey, WgPublicKey] = {}  # of each of these
        self._late: set[WgPublicKey] = set()  # formers of keys that should be in use
        self._asked: set[WgPublicKey] = set()

    def is_taken(self, key: WgPublicKey | None) -> bool:
        """Whether this is a key to come that was seen in use."""
        return key in self._since

    @property
    def taken(self) -> frozenset[WgPublicKey]:
        return frozenset(self._since)

    def take(self, key: WgPublicKey, former: WgPublicKey, *, now: float) -> None:
        """This key bears the member's traffic from now on."""
        self._since.setdefault(key, now)
        self._former[key] = former

    def end(self) -> frozenset[WgPublicKey]:
        """Forget what documents speak of no more; the keys of which something else holds now."""
        if not self._former:
            return frozenset()
        coming, ended = self._selection.coming, set[WgPublicKey]()
        for key, former in tuple(self._former.items()):
            if key not in coming or coming[key].former != former:
                ended |= {key, former}
                del self._since[key], self._former[key]
        return frozenset(ended)

    def bears_for(self, key: WgPublicKey) -> WgPublicKey | None:
        """The key whose allowed IPs this peer has now; None when it has none."""
        if (coming := self._selection.coming.get(key)) is not None:
            return coming.former if key in self._since else None
        if self._since and self._selection.successor_of(key) in self._since:
            return None
        return key

    def is_spare(self, key: WgPublicKey) -> bool:
        """Whether it is a second peer of its member, which bears nothing now."""
        return bool(self._selection.coming) and self.bears_for(key) is None

    def is_late(self, key: WgPublicKey) -> bool:
        """Whether this key should have been replaced by now, and was not that we know of."""
        return key in self._late

    def look(
        self,
        peers: Mapping[WgPublicKey, WgPeer],
        is_unanswered: Callable[[WgPublicKey], bool],
        *,
        wall: float,
        now: float,
    ) -> Iterator[tuple[WgPublicKey, Coming, Fate]]:
        """What follows for each key to come, of a device that shows `peers`.

        `is_unanswered` says of a key that is late whether something was sent to it in vain.
        """
        self._asked &= self._selection.coming.keys()
        self._late = set()
        for key, it in tuple(self._selection.coming.items()):
            if (since := self._since.get(key)) is not None:
                if now - since >= FORMER_S:
                    yield key, it, Fate.OUTLIVED
            elif _handshake(peers, key):
                self.take(key, it.former, now=now)
                yield key, it, Fate.TAKES_OVER
            elif self._asks_from(key, it) <= wall < it.at + ASK_FOR_S:
                self._late.add(it.former)
                # All others hear of it from the registry, and need not hear at once.
                had_session = _handshake(peers, it.former) > it.at - FORMER_S
                if had_session or is_unanswered(it.former):
                    self._asked.add(key)
                yield key, it, Fate.IS_ASKED if key in self._asked else Fate.IS_LEFT_ALONE
            else:
                yield key, it, Fate.IS_LEFT_ALONE

    def rest(self) -> None:
        """As after a look when no key is to come."""
        if self._asked or self._late:
            self._asked, self._late = set(), set()

    def next_look_s(self, *, wall: float) -> float | None:
        """In how many seconds a key to come may be seen in use; None when none is expected."""
        waits = (
            NEAR_LOOK_S if abs(it.at - wall) <= NEAR_S else it.at - NEAR_S - wall
            for key, it in self._selection.coming.items()
            if key not in self._since
        )
        return min((wait for wait in waits if wait > 0), default=None)

    def _asks_from(self, key: WgPublicKey, coming: Coming) -> float:
        return coming.at + (ASK_AFTER_S if self.own_key < key else OTHER_ASKS_AFTER_S)


def _handshake(peers: Mapping[WgPublicKey, WgPeer], key: WgPublicKey) -> int:
    return peers[key].latest_handshake if key in peers else 0
