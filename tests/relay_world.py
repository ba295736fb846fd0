"""A relay's table with a clock and peers, for tests: no sockets, no chance."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from overlay.keys.wireguard import WireGuardKey
from overlay.model import WgPublicKey
from overlay.relay import messages
from overlay.relay.fate import Fate, Sending
from overlay.relay.limits import Place
from overlay.relay.table import Bounds, Table
from tests.wg_initiator import Initiator, mac

RELAY = WireGuardKey(bytes(range(32)))
OWN: Place = ("203.0.113.200", 51_821)


def key_of(name: str) -> WireGuardKey:
    return WireGuardKey(hashlib.sha256(name.encode()).digest())


def place_of(number: int) -> Place:
    return (f"192.0.{number // 250}.{number % 250 + 1}", 1000 + number)


@dataclass
class Peer:
    """A member, or who would like to be one."""

    key: WireGuardKey
    place: Place
    asking: Initiator = field(init=False)

    def __post_init__(self) -> None:
        self.asking = Initiator(self.key, RELAY.public_key)

    @property
    def public(self) -> WgPublicKey:
        return self.key.public_key


class World:
    """A table, a clock, and peers by name; `a`, `b` and `c` share a network, `x` and `y` another.

    A peer's handshake has the number of seconds as its time, as its clock would.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.now = 1000.0
        chance = random.Random(1)
        self.table = Table(
            RELAY,
            random_bytes=chance.randbytes,
            now=self.now,
            is_own=lambda place: place == OWN,
            bounds=bounds,
        )
        names = "abcxyz"
        self.peers = {
            name: Peer(key_of(name), place_of(number)) for number, name in enumerate(names)
        }
        self.networks: dict[str, Sequence[str]] = {"one": "abc", "two": "xy"}
        self.table.allow(self.membership())

    def membership(self) -> dict[str, frozenset[WgPublicKey]]:
        return {
            network: frozenset(self.peers[name].public for name in names)
            for network, names in self.networks.items()
        }

    def send(self, name: str, packet: bytes, place: Place | None = None) -> Sending | None:
        return self.table.step(self.now, place or self.peers[name].place, packet)

    def count(self, fate: Fate) -> int:
        return self.table.statistics().packets.get(fate, 0)

    def fate_of(self, name: str, packet: bytes, place: Place | None = None) -> Fate:
        """What becomes of a packet."""
        before = dict(self.table.statistics().packets)
        self.send(name, packet, place)
        after = self.table.statistics().packets
        (met,) = (fate for fate, number in after.items() if number != before.get(fate, 0))
        return met

    def ask(self, name: str, place: Place | None = None) -> Sending | None:
        asking = self.peers[name].asking
        return self.send(name, asking.initiation(self.now, index=7), place)

    def register(self, *names: str) -> None:
        for name in names:
            self.now += 0.001
            answer = self.ask(name)
            assert answer is not None
            assert answer[0] == self.peers[name].place
            self.peers[name].asking.finish(answer[1])
            assert self.send(name, self.peers[name].asking.data()) is None
            assert self.table.where(self.peers[name].public) == self.peers[name].place

    def initiation(self, source: str, target: str, index: int) -> bytes:
        between = Initiator(self.peers[source].key, self.peers[target].public)
        return between.initiation(self.now, index=index)

    def response(self, source: str, target: str, sender: int, receiver: int) -> bytes:
        return response_to(self.peers[target].public, sender, receiver)

    def acquaint(self, source: str, target: str, index: int, answer: int) -> None:
        one, two = self.peers[source], self.peers[target]
        asked = self.initiation(source, target, index)
        assert self.send(source, asked) == (two.place, asked)
        answered = self.response(target, source, answer, index)
        assert self.send(target, answered) == (one.place, answered)


def response_to(receiver_key: WgPublicKey, sender: int, receiver: int) -> bytes:
    words = (2, sender, receiver)
    body = b"".join(word.to_bytes(4, "little") for word in words) + bytes(48)
    return body + mac(messages.mac1_key(receiver_key), body) + bytes(16)


def data_to(index: int, size: int = 100) -> bytes:
    return (4).to_bytes(4, "little") + index.to_bytes(4, "little") + bytes(size - 8)
