"""What is wanted of a network resource, for those who bring it about. Pure.

They ask anew after every wait: documents come while the kernel is written.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol

from overlay.keys.wireguard import DeviceKey
from overlay.model import NetworkResource
from overlay.netns.state import Resource
from overlay.reconcile.goals import PeerGoals


class Wanted(Protocol):
    """Of one network. `netns` is a name."""

    @property
    def netns(self) -> str: ...

    @property
    def listen_port(self) -> int: ...

    @property
    def device_key(self) -> DeviceKey: ...

    @property
    def goals(self) -> PeerGoals: ...

    @property
    def attachments(self) -> Sized: ...

    @property
    def is_ours(self) -> bool:
        """Whether the documents give us a place in the network."""

    @property
    def is_wanted(self) -> bool:
        """Whether there is to be a network resource at all."""

    @property
    def is_exit(self) -> bool: ...

    @property
    def network_resource(self) -> NetworkResource | None: ...

    def desired(self) -> Resource | None:
        """All of it; None when it is not wanted."""
