"""Where peers were heard that no document leads to, on disk.

A node that lost its devices has forgotten the sessions that hidden peers still hold, and cannot be
reached in them. It alone can begin again, and only if it knows where they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from overlay import addressing
from overlay.errors import Rejected, Unavailable
from overlay.model import Endpoint, NetworkId, WgPublicKey
from overlay.peers.cache import Cache

MAX_HEARD = 256  # by network; in a larger one nobody is greeted
RECORD_EVERY_S = 30.0  # at most: a peer that roams all day must not keep the disk busy


class Heard:
    """One row for each network."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def of(self, network: NetworkId) -> dict[WgPublicKey, Endpoint]:
        """What was kept last; nothing when it cannot be read, for it is a hint."""
        text = self._cache.setting(_name(network)) or "{}"
        try:
            kept = msgspec.json.decode(text, type=dict[str, str])
            return {
                WgPublicKey(bytes.fromhex(key)): addressing.parse_endpoint(where)
                for key, where in kept.items()
            }
        except (msgspec.MsgspecError, ValueError, Rejected):
            return {}

    def keep(self, network: NetworkId, heard: Mapping[WgPublicKey, Endpoint]) -> None:
        """This, and nothing of before."""
        first = sorted(heard.items())[:MAX_HEARD]
        text = msgspec.json.encode({key.hex(): str(where) for key, where in first}).decode()
        self._cache.set_setting(_name(network), text)

    def forget(self, network: NetworkId) -> None:
        self._cache.drop_setting(_name(network))


class LastHeard:
    """Of one network, and written no more often than every RECORD_EVERY_S."""

    def __init__(self, kept: Heard, network: NetworkId) -> None:
        self.places: Mapping[WgPublicKey, Endpoint] = kept.of(network)  # as on disk
        self._kept = kept
        self._network = network
        self._next_at = 0.0

    def is_due(self, *, now: float) -> bool:
        return now >= self._next_at

    def put(self, places: Mapping[WgPublicKey, Endpoint], *, now: float) -> None:
        """A disk that takes nothing takes it later; it is a hint."""
        if places != self.places:
            self._next_at = now + RECORD_EVERY_S
            with suppress(Unavailable):
                self._kept.keep(self._network, places)
                self.places = places


def _name(network: NetworkId) -> str:
    return f"heard/{network}"
