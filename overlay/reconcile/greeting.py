"""Which new peers are greeted, and which once more (decision 0005). Pure.

A greeting is one packet, with which WireGuard begins a handshake. One that nobody answered is made
anew: the peer is taken off the device and put back, for WireGuard itself would wait five seconds.
Only one of two does so, and never while an answer may be on its way: a session that we forget and
the peer does not leaves it talking to nobody, for two minutes when it is a quiet one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from overlay.model import WgPublicKey

GREETING_S = 0.1  # in which a peer that is there has answered
AGAIN_S = 1.0  # between greetings; and in which an answer that is on its way has arrived
MAX_GREETINGS = 30  # then WireGuard's own pace is good enough
MAX_GREETED_PEERS = 256


class Greeted(msgspec.Struct):
    """A peer that has shown no handshake yet."""

    due: float  # monotonic, when it is looked at
    times: int = 1
    heard: bool = False  # at the last look there had come something from it


class Again(msgspec.Struct, frozen=True):
    """What follows from a look: who is put anew, and who is sent a packet (after that)."""

    anew: tuple[WgPublicKey, ...] = ()
    poke: tuple[WgPublicKey, ...] = ()


class Greetings:
    """`goes_first` says of a peer whether it is ours to begin."""

    def __init__(self, goes_first: Callable[[WgPublicKey], bool]) -> None:
        self._goes_first = goes_first
        self._waiting: dict[WgPublicKey, None] = {}
        self._greeted: dict[WgPublicKey, Greeted] = {}

    @property
    def due(self) -> float | None:
        """When to look at the device, monotonic; None when nobody is waited for."""
        return min((greeted.due for greeted in self._greeted.values()), default=None)

    def add(self, keys: Iterable[WgPublicKey]) -> None:
        """These are on the device, or will be when it begins."""
        self._waiting.update(dict.fromkeys(keys))

    def begin(self, *, peers: int, now: float) -> tuple[WgPublicKey, ...]:
        """Whom to send a packet: those that wait for us to begin. None in a large network."""
        keys, self._waiting = tuple(self._waiting), {}
        if peers > MAX_GREETED_PEERS:
            return ()
        self._greeted.update((key, Greeted(now + GREETING_S)) for key in keys)
        return tuple(filter(self._goes_first, keys))

    def look(self, silent: Mapping[WgPublicKey, int], *, now: float) -> Again:
        """`silent`: peers on the device without a handshake, and the bytes received from each."""
        anew, poke = [], []
        for key, greeted in sorted(self._greeted.items()):
            if key not in silent:
                del self._greeted[key]
            elif greeted.due > now:
                continue
            elif silent[key] and not greeted.heard:
                greeted.heard, greeted.due = True, now + AGAIN_S
            else:
                poke.append(key)
                if self._goes_first(key) and greeted.times < MAX_GREETINGS:
                    anew.append(key)
                    self._greeted[key] = Greeted(now + AGAIN_S, greeted.times + 1)
                else:
                    del self._greeted[key]
        return Again(tuple(anew), tuple(poke))
