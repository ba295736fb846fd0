"""What the shell provides to the rest: Protocols, so that decisions never meet the outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from overlay.model import PeerTraffic, WgDevice, WgPeer, WgPublicKey


class Clock(Protocol):
    """Time, asked for in one place so that tests own it."""

    def now(self) -> datetime:
        """Aware UTC wall-clock time."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class Secret(Protocol):
    """A key that shows itself in one place only."""

    def reveal(self) -> bytes: ...


class DeviceRef(msgspec.Struct, frozen=True):
    """Where a WireGuard device is.

    `birth_name` is the link name it was born under in the underlay netns (the control socket of a
    userspace device keeps that name for life). `netns` is the path of the netns that holds the
    link now, None while it is still in the underlay netns under its birth name.
    """

    birth_name: str
    netns: str | None = None
    link: str = "wg0"


class WireGuard(Protocol):
    """The same primitives for the kernel's WireGuard and for wireguard-go."""

    name: Literal["kernel", "wireguard-go"]

    async def create(self, birth_name: str) -> None:
        """A link `birth_name` exists in the underlay netns and can be configured. Idempotent.

        Raises Unavailable when the back end cannot make one.
        """

    async def read(self, ref: DeviceRef) -> WgDevice | None:
        """The device with all its peers; None when there is no such device."""

    async def read_traffic(self, ref: DeviceRef) -> dict[WgPublicKey, PeerTraffic]:
        """Bytes received and sent by every peer; empty when there is no such device."""

    async def write(
        self,
        ref: DeviceRef,
        *,
        private_key: Secret | None = None,
        listen_port: int | None = None,
        put: Sequence[WgPeer] = (),
        drop: Iterable[WgPublicKey] = (),
    ) -> None:
        """Change the device: first drop, then put. What is not named stays as it is.

        A peer that is put has afterwards exactly its allowed IPs and keepalive; its endpoint
        changes only when the value's endpoint is not None. Split into as many messages as
        needed. Raises Unavailable when the device is gone or refuses.
        """

    async def retire(self, birth_name: str) -> None:
        """Nothing is left of a device whose link is gone: process, socket. Idempotent."""

    def close(self) -> None:
        """Let go of what is held open. The devices stay as they are."""


class Wakeups(Protocol):
    """Where a loop waits for reasons to look again."""

    def __aiter__(self) -> AsyncIterator[str]: ...
