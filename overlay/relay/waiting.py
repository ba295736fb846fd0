"""Initiations for members that are not there yet, kept for a moment. Pure.

Two who start at once register at slightly different times, and WireGuard tries again only after
5 s. Whom an initiation is for shows when its receiver registers, so nothing is searched for here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from overlay.model import WgPublicKey
from overlay.relay.messages import has_mac1

# WireGuard's own wait before it tries again, with another initiation.
HELD_S = 5.0
MAX_HELD = 256  # of all together: as many hashes as one registration costs at most
MAX_HELD_PER_SENDER = 8


@dataclass(frozen=True, slots=True)
class Held:
    sender: WgPublicKey
    packet: bytes
    until_s: float


class Waiting:
    """The latest of each sender, and of all; the oldest make room."""

    def __init__(
        self, *, limit: int = MAX_HELD, limit_per_sender: int = MAX_HELD_PER_SENDER
    ) -> None:
        self._limit = limit
        self._limit_per_sender = limit_per_sender
        self._held: OrderedDict[int, Held] = OrderedDict()  # by number, the oldest first
        self._of: dict[WgPublicKey, list[int]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._held)

    def put(self, now: float, sender: WgPublicKey, packet: bytes) -> None:
        """Keep an initiation for a while."""
        self.expire(now)
        numbers = self._of.get(sender, [])
        if len(numbers) >= self._limit_per_sender:
            self._remove(numbers[0])
        elif len(self._held) >= self._limit:
            self._remove(next(iter(self._held)))
        self._number += 1
        self._held[self._number] = Held(sender, packet, now + HELD_S)
        self._of.setdefault(sender, []).append(self._number)

    def take(self, now: float, mac1_key: bytes) -> list[Held]:
        """The latest for this receiver of each sender. What was for it is not held any more."""
        self.expire(now)
        found = {n: held for n, held in self._held.items() if has_mac1(held.packet, mac1_key)}
        for number in found:
            self._remove(number)
        return list({held.sender: held for held in found.values()}.values())

    def expire(self, now: float) -> None:
        """Nothing is left of what has waited for too long."""
        while self._held:
            number, oldest = next(iter(self._held.items()))
            if oldest.until_s > now:
                return
            self._remove(number)

    def _remove(self, number: int) -> None:
        sender = self._held.pop(number).sender
        left = self._of[sender]
        left.remove(number)
        if not left:
            del self._of[sender]
