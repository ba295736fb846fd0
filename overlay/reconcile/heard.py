"""Where peers were heard that no document leads to, on disk.

A node that lost its devices has forgotten the sessions that hidden peers still hold, and cannot be
reached in them. It alone can begin again, and only if it knows where they were.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from overlay import addressing
from overlay.errors import Rejected
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


def _name(network: NetworkId) -> str:
    return f"heard/{network}"
