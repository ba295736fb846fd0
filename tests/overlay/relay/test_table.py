"""Who is where and which packet goes to whom, with every bound at the bound."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.keys.wireguard import WireGuardKey
from overlay.model import WgPublicKey
from overlay.relay import limits, member, messages, registrar
from overlay.relay.fate import Fate, Sending
from overlay.relay.limits import CALM, MEMBER, ORIGIN, Place
from overlay.relay.table import Bounds, Table
from tests.wg_initiator import Initiator, mac

RELAY = WireGuardKey(bytes(range(32)))


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
        self.table = Table(RELAY, random_bytes=chance.randbytes, now=self.now, bounds=bounds)
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


@pytest.fixture
def world() -> World:
    return World()


class TestRegistration:
    def test_counts_only_after_the_first_keepalive_from_where_the_answer_went(self, world):
        # REL-010
        answer = world.ask("a")
        a = world.peers["a"]
        assert world.table.where(a.public) is None
        a.asking.finish(answer[1])
        keepalive = a.asking.data()
        assert world.fate_of("a", keepalive, place_of(99)) is Fate.TAKEN
        assert world.table.where(a.public) is None
        assert world.fate_of("a", keepalive) is Fate.KEEPALIVE
        assert world.table.where(a.public) == a.place

    def test_keepalive_from_elsewhere_moves_the_member(self, world):  # REL-011
        world.register("a", "b")
        a, elsewhere = world.peers["a"], ("2001:db8::7", 4000, 0, 0)
        assert world.fate_of("a", a.asking.data(), elsewhere) is Fate.KEEPALIVE
        assert world.table.where(a.public) == elsewhere
        asked = world.initiation("b", "a", 1)
        assert world.send("b", asked) == (elsewhere, asked)
        assert world.fate_of("a", world.initiation("a", "b", 2)) is Fate.UNKNOWN_SOURCE

    def test_an_old_keepalive_moves_nobody(self, world):  # REL-011
        world.register("a")
        a = world.peers["a"]
        old, new = a.asking.data(), a.asking.data()
        world.send("a", new)
        for packet in (old, new):
            assert world.fate_of("a", packet, place_of(99)) is Fate.REPLAYED
        assert world.table.where(a.public) == a.place

    def test_keepalives_do_not_take_a_place_that_another_has_but_a_handshake_does(self, world):
        # REL-012
        world.register("a", "b")
        a, b = world.peers["a"], world.peers["b"]
        assert world.fate_of("a", a.asking.data(), b.place) is Fate.TAKEN
        assert world.table.where(b.public) == b.place
        world.now += 1
        answer = world.ask("a", b.place)
        a.asking.finish(answer[1])
        assert world.fate_of("a", a.asking.data(), b.place) is Fate.KEEPALIVE
        assert world.table.where(a.public) == b.place
        assert world.table.where(b.public) is None

    def test_initiation_seen_before_is_refused_from_anywhere(self, world):  # REL-007
        a = world.peers["a"]
        first = a.asking.initiation(5.0, index=7)
        older = Initiator(a.key, RELAY.public_key).initiation(4.0, index=8)
        assert world.fate_of("a", first) is Fate.ANSWERED
        for packet in (first, older):
            assert world.fate_of("a", packet, place_of(99)) is Fate.REPLAYED
            assert world.fate_of("a", packet) is Fate.REPLAYED
        assert world.fate_of("a", a.asking.initiation(5.5, index=7)) is Fate.ANSWERED

    def test_replay_is_refused_also_when_the_member_was_forgotten_as_silent(self, world):
        # REL-007
        a = world.peers["a"]
        world.register("a")
        old = Initiator(a.key, RELAY.public_key).initiation(world.now, index=8)
        world.now += 10 * member.SILENT_S
        world.table.expire(world.now)
        assert world.table.where(a.public) is None
        assert world.fate_of("a", old) is Fate.REPLAYED

    def test_strangers_and_forgeries_get_no_answer(self, world):  # REL-013
        assert world.fate_of("z", world.peers["z"].asking.initiation(1, index=1)) is Fate.NO_MEMBER
        genuine = world.peers["a"].asking.initiation(1, index=1)
        forged_mac1 = genuine[:116] + bytes(32)
        assert world.fate_of("a", forged_mac1) is Fate.UNKNOWN_SOURCE
        body = genuine[:8] + key_of("?").public_key + genuine[40:116]
        resealed = messages.with_mac1(body + bytes(32), messages.mac1_key(RELAY.public_key))
        assert world.fate_of("a", resealed) is Fate.FORGED
        assert world.table.statistics().members == 0

    def test_a_session_is_used_for_its_time_and_no_longer(self, world):  # REL-014
        a = world.peers["a"]
        world.register("a")
        world.now += member.SESSION_S
        assert world.fate_of("a", a.asking.data()) is Fate.KEEPALIVE
        world.now += 0.1
        assert world.fate_of("a", a.asking.data()) is Fate.REPLAYED

    def test_silent_members_are_gone_after_their_time_and_not_before(self, world):  # REL-014
        world.register("a", "b")
        heard = world.now
        world.table.expire(heard + member.SILENT_S - 0.01)
        assert world.table.statistics().members == 2
        world.table.expire(heard + member.SILENT_S + 0.01)
        assert world.table.statistics().members == 0

    def test_handshakes_without_end_keep_the_one_in_use(self, world):  # REL-015
        world.register("a")
        a = world.peers["a"]
        for _ in range(3 * member.MAX_REGISTRATIONS):
            world.now += 1
            again = Initiator(a.key, RELAY.public_key)
            assert world.fate_of("a", again.initiation(world.now, index=1)) is Fate.ANSWERED
        assert world.fate_of("a", a.asking.data()) is Fate.KEEPALIVE

    def test_a_new_session_ends_the_one_before(self, world):  # REL-015
        world.register("a")
        before = world.peers["a"].asking
        world.peers["a"].asking = Initiator(before.key, RELAY.public_key)
        world.now += 1
        world.register("a")
        assert world.fate_of("a", before.data()) is Fate.UNKNOWN_INDEX

    def test_members_say_nothing_but_keepalives(self, world):  # REL-013
        world.register("a")
        assert world.fate_of("a", world.peers["a"].asking.data(b"x")) is Fate.FORGED


class TestForwarding:
    def test_a_handshake_leads_both_ways_and_data_follows(self, world):  # REL-020
        world.register("a", "b")
        a, b = world.peers["a"], world.peers["b"]
        assert world.fate_of("a", data_to(22)) is Fate.UNKNOWN_INDEX
        world.acquaint("a", "b", 11, 22)
        assert world.send("a", data_to(22)) == (b.place, data_to(22))
        assert world.send("b", data_to(11)) == (a.place, data_to(11))
        assert world.fate_of("a", data_to(11)) is Fate.UNKNOWN_INDEX
        assert world.table.statistics().sessions == 1
        assert world.table.statistics().routes == 2

    def test_a_cookie_reply_finds_its_way(self, world):  # REL-020
        world.register("a", "b")
        world.send("a", world.initiation("a", "b", 11))
        reply = (3).to_bytes(4, "little") + (11).to_bytes(4, "little") + bytes(56)
        assert world.send("b", reply) == (world.peers["a"].place, reply)
        assert world.fate_of("a", reply) is Fate.UNKNOWN_INDEX

    @pytest.mark.parametrize("target", ["x", "c", "z"])
    def test_only_who_shares_a_network_and_is_registered_is_found(self, world, target):  # REL-021
        world.register("a", "b", "x")
        assert world.fate_of("a", world.initiation("a", target, 1)) is Fate.UNKNOWN_RECEIVER

    def test_a_member_that_has_gone_silent_is_not_found(self, world):  # REL-021
        world.register("a", "b")
        world.now += member.SILENT_S - 1
        world.send("a", world.peers["a"].asking.data())
        world.table.expire(world.now + 1.1)
        assert world.table.where(world.peers["b"].public) is None
        assert world.fate_of("a", world.initiation("a", "b", 1)) is Fate.UNKNOWN_RECEIVER

    def test_from_unknown_sources_nothing_passes(self, world):  # REL-021
        world.register("a", "b")
        world.acquaint("a", "b", 11, 22)
        for packet in (world.initiation("a", "b", 12), data_to(22), data_to(11)):
            assert world.fate_of("a", packet, place_of(99)) is Fate.UNKNOWN_SOURCE

    def test_a_response_with_a_forged_mac1_leads_nowhere(self, world):  # REL-022
        world.register("a", "b")
        world.send("a", world.initiation("a", "b", 11))
        forged = bytearray(world.response("b", "a", 22, 11))
        forged[20] ^= 1
        assert world.fate_of("b", bytes(forged)) is Fate.FORGED
        assert world.fate_of("a", data_to(22)) is Fate.UNKNOWN_INDEX

    def test_an_index_that_is_somebody_elses_is_not_taken_over(self, world):  # REL-022
        world.register("a", "b", "c")
        world.acquaint("a", "b", 11, 22)
        assert world.fate_of("c", world.initiation("c", "b", 11)) is Fate.TAKEN
        assert world.send("b", data_to(11)) == (world.peers["a"].place, data_to(11))
        relays = world.peers["b"].asking.peer_index
        assert world.fate_of("c", world.initiation("c", "b", relays)) is Fate.TAKEN
        assert world.fate_of("b", world.peers["b"].asking.data()) is Fate.KEEPALIVE

    def test_routes_lead_to_where_the_member_is_now(self, world):  # REL-011
        world.register("a", "b")
        world.acquaint("a", "b", 11, 22)
        world.send("b", world.peers["b"].asking.data(), place_of(50))
        assert world.send("a", data_to(22)) == (place_of(50), data_to(22))
        assert world.send("b", data_to(11), place_of(50)) is not None

    def test_routes_end_after_their_time_and_not_before(self, world):  # REL-014
        world.register("a", "b")
        world.acquaint("a", "b", 11, 22)
        world.now += member.ROUTE_S - 0.01
        assert world.fate_of("a", data_to(22)) is Fate.FORWARDED
        world.now += 0.02
        assert world.fate_of("a", data_to(22)) is Fate.UNKNOWN_INDEX
        world.table.expire(world.now)
        assert world.table.statistics().routes == 0

    def test_who_leaves_the_network_loses_what_it_had_and_the_others_nothing(self, world):
        # REL-023
        world.register("a", "b", "c", "x", "y")
        world.acquaint("a", "b", 11, 22)
        world.acquaint("b", "c", 33, 44)
        world.acquaint("x", "y", 55, 66)
        world.networks["one"] = "bc"
        world.table.allow(world.membership())
        assert world.table.where(world.peers["a"].public) is None
        assert world.fate_of("a", data_to(22)) is Fate.UNKNOWN_SOURCE
        assert world.fate_of("b", data_to(11)) is Fate.UNKNOWN_INDEX
        assert world.fate_of("b", data_to(44)) is Fate.FORWARDED
        assert world.fate_of("x", data_to(66)) is Fate.FORWARDED
        world.networks = {"one": "b", "two": "cxy"}
        world.table.allow(world.membership())
        assert world.fate_of("b", data_to(44)) is Fate.UNKNOWN_INDEX
        assert world.table.statistics().members == 4
        assert world.table.statistics().routes == 2

    @pytest.mark.parametrize("networks", [{"one": "ab", "two": "ab"}, {"other": "ab"}])
    def test_networks_may_come_and_go_while_two_still_share_one(self, world, networks):  # REL-023
        world.register("a", "b")
        world.acquaint("a", "b", 11, 22)
        world.networks = networks
        world.table.allow(world.membership())
        assert world.fate_of("a", data_to(22)) is Fate.FORWARDED


class TestBounds:
    def test_members(self):  # REL-030
        world = World(Bounds(members=2))
        world.register("a", "b")
        assert world.fate_of("c", world.peers["c"].asking.initiation(9, index=1)) is Fate.FULL
        world.acquaint("a", "b", 11, 22)
        world.now += member.SILENT_S / 2
        world.send("b", world.peers["b"].asking.data())
        world.now += member.SILENT_S / 2 + 0.1
        world.table.expire(world.now)  # a has been silent for too long
        world.register("c")
        assert world.table.where(world.peers["b"].public) is not None
        assert world.table.statistics().routes == 0
        assert world.fate_of("b", world.initiation("b", "c", 5)) is Fate.FORWARDED

    def test_routes_of_all(self):  # REL-030
        world = World(Bounds(routes=3))
        world.register("a", "b", "c")
        world.acquaint("a", "b", 11, 22)
        assert world.fate_of("a", world.initiation("a", "c", 33)) is Fate.FORWARDED
        assert world.fate_of("b", world.initiation("b", "c", 44)) is Fate.FULL
        assert world.fate_of("a", data_to(22)) is Fate.FORWARDED
        assert world.table.statistics().routes == 3

    def test_routes_of_one_member(self):  # REL-030
        world = World(Bounds(routes_per_member=1))
        world.register("a", "b", "c")
        assert world.fate_of("a", world.initiation("a", "b", 11)) is Fate.FORWARDED
        assert world.fate_of("c", world.initiation("c", "b", 12)) is Fate.FULL
        assert world.fate_of("a", world.initiation("a", "c", 13)) is Fate.FORWARDED

    def test_routes_of_a_pair_replace_their_oldest(self):  # REL-030
        world = World(Bounds(routes_per_pair=2))
        world.register("a", "b", "c")
        assert world.fate_of("c", world.initiation("c", "b", 9)) is Fate.FORWARDED
        for index in (11, 12):
            world.send("a", world.initiation("a", "b", index))
        assert world.fate_of("b", data_to(11)) is Fate.FORWARDED
        world.send("a", world.initiation("a", "b", 13))
        assert world.fate_of("b", data_to(11)) is Fate.UNKNOWN_INDEX
        for index in (9, 12, 13):
            assert world.fate_of("b", data_to(index)) is Fate.FORWARDED

    def test_origins(self):  # REL-031
        origins = limits.Origins(ORIGIN, 2)
        for number in range(5):
            assert origins.take(place_of(number), 0.0)
            assert len(origins) <= 2

    def test_one_origin_asks_so_much_and_then_as_it_comes_back(self, world):  # REL-031
        asked = world.peers["z"].asking.initiation(1, index=1)
        places: list[Place] = [("192.0.2.9", port) for port in range(int(ORIGIN.burst) + 1)]
        fates = [world.fate_of("z", asked, place) for place in places]
        assert fates == [Fate.NO_MEMBER] * int(ORIGIN.burst) + [Fate.LIMITED]
        world.now += 1 / ORIGIN.per_s + 0.001
        assert world.fate_of("z", asked, places[0]) is Fate.NO_MEMBER
        assert world.fate_of("z", asked, places[0]) is Fate.LIMITED

    def test_addresses_of_one_ipv6_net_are_one_origin(self):  # REL-031
        one, same, other = "2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"
        assert limits.origin_of(one) == limits.origin_of(same) != limits.origin_of(other)
        assert limits.origin_of("fe80::1%eth0") == limits.origin_of("fe80::2")
        assert limits.origin_of("192.0.2.1") != limits.origin_of("192.0.2.2")

    def test_a_flood_from_one_source_takes_nothing_from_others(self, world):  # REL-031
        world.register("a", "b")
        forged = messages.with_mac1(
            (1).to_bytes(4, "little") + bytes(144), messages.mac1_key(RELAY.public_key)
        )
        flood: Place = ("203.0.113.1", 9)
        answered = 0
        for number in range(10_000):
            world.send("z", forged, flood)
            if number % 1000 == 0:
                world.now += 0.02
                a = world.peers["a"]
                answered += world.fate_of("a", a.asking.data()) is Fate.KEEPALIVE
                answered += (
                    world.fate_of("c", world.peers["c"].asking.initiation(world.now, index=1))
                    is Fate.ANSWERED
                )
                answered += world.fate_of("a", world.initiation("a", "b", number + 1)) is (
                    Fate.FORWARDED
                )
        assert answered == 30
        assert world.count(Fate.LIMITED) > 9_000
        assert world.count(Fate.COOKIE) == 0

    def test_members_behind_the_address_of_a_flood_keep_their_registration(self, world):
        # REL-031
        world.register("a")
        a = world.peers["a"]
        asked = world.peers["z"].asking.initiation(1, index=1)
        for _ in range(int(ORIGIN.burst) + 10):
            world.send("z", asked, (a.place[0], 9))
        assert world.fate_of("z", asked, (a.place[0], 9)) is Fate.LIMITED
        world.now += 1
        assert world.fate_of("a", a.asking.initiation(world.now, index=1)) is Fate.ANSWERED

    def test_one_member_asks_so_much(self, world):  # REL-032
        world.register("a", "b")
        fates = [
            world.fate_of("a", world.initiation("a", "b", number))
            for number in range(int(MEMBER.burst) + 1)
        ]
        assert fates[-1] is Fate.LIMITED
        assert fates.count(Fate.FORWARDED) > MEMBER.burst * 0.9
        assert world.fate_of("b", world.initiation("b", "a", 1)) is Fate.FORWARDED

    def test_looking_for_a_receiver_costs_by_what_was_looked_at(self):  # REL-032
        bucket = limits.Bucket(MEMBER, 0.0)
        bucket.charge(MEMBER.burst)
        assert not bucket.take(0.0)
        assert bucket.take(1 / MEMBER.per_s + 0.001)


class TestCookies:
    """Under load only who shows that it hears is answered."""

    @staticmethod
    def busy(world: World) -> None:
        asked = world.peers["z"].asking.initiation(1, index=1)
        for number in range(int(CALM.burst)):
            world.send("z", asked, place_of(100 + number))

    def test_a_busy_relay_asks_for_a_cookie_and_takes_it(self, world):  # REL-033
        self.busy(world)
        a = world.peers["a"]
        place, packet = world.ask("a")
        assert place == a.place
        reply = messages.parse(packet)
        assert isinstance(reply, messages.CookieReply)
        assert reply.receiver == 7
        key = messages.cookie_key(RELAY.public_key)
        cookie = messages.open_cookie(reply, mac1=a.asking.mac1, key=key)
        again = a.asking.initiation(world.now + 1, index=8, cookie=cookie)
        assert world.fate_of("a", again, place_of(99)) is Fate.COOKIE
        answer = world.send("a", again)
        a.asking.finish(answer[1])
        assert world.fate_of("a", a.asking.data()) is Fate.KEEPALIVE

    def test_cookies_end_with_the_secret(self, world):  # REL-033
        self.busy(world)
        a = world.peers["a"]
        reply = messages.parse(world.ask("a")[1])
        assert isinstance(reply, messages.CookieReply)
        key = messages.cookie_key(RELAY.public_key)
        cookie = messages.open_cookie(reply, mac1=a.asking.mac1, key=key)
        world.now += registrar.COOKIE_SECRET_S
        self.busy(world)
        late = a.asking.initiation(world.now, index=8, cookie=cookie)
        assert world.fate_of("a", late) is Fate.COOKIE

    def test_a_calm_relay_asks_for_none(self, world):  # REL-033
        self.busy(world)
        world.now += 1 / CALM.per_s + 0.001
        assert world.fate_of("a", world.peers["a"].asking.initiation(1, index=1)) is Fate.ANSWERED


def test_a_thousand_members_and_ten_thousand_sessions_are_held():  # REL-034
    """40 networks of 25, each with all of its own; a packet each way of each session arrives."""
    world = World()
    names = [f"m{number}" for number in range(1_000)]
    world.peers = {name: Peer(key_of(name), place_of(n)) for n, name in enumerate(names)}
    world.networks = {str(n): names[n * 25 : n * 25 + 25] for n in range(40)}
    world.table.allow(world.membership())
    for name in names:
        world.now += 0.01
        world.register(name)
    pairs = [
        (world.peers[one], world.peers[two])
        for network in world.networks.values()
        for one, two in combinations(network, 2)
    ]
    assert len(pairs) == 12_000
    asked = (1).to_bytes(4, "little")
    for number, (one, two) in enumerate(pairs):
        world.now += 0.001
        index, answer = 2 * number + 1, 2 * number + 2
        body = asked + index.to_bytes(4, "little") + bytes(140)
        packet = messages.with_mac1(body, messages.mac1_key(two.public))
        assert world.table.step(world.now, one.place, packet) == (two.place, packet)
        packet = response_to(one.public, answer, index)
        assert world.table.step(world.now, two.place, packet) == (one.place, packet)
    for number, (one, two) in enumerate(pairs):
        there, back = data_to(2 * number + 2), data_to(2 * number + 1)
        assert world.table.step(world.now, one.place, there) == (two.place, there)
        assert world.table.step(world.now, two.place, back) == (one.place, back)
    found = world.table.statistics()
    assert (found.members, found.sessions, found.routes) == (1_000, 12_000, 24_000)
    world.table.expire(world.now)
    assert world.table.statistics().sessions == 12_000
    world.table.expire(world.now + 1_000)
    found = world.table.statistics()
    assert (found.members, found.sessions, found.routes) == (0, 0, 0)


WORDS = st.sampled_from([bytes([kind, 0, 0, 0]) for kind in range(6)])
SIZES = st.sampled_from([0, 3, 4, 31, 32, 33, 63, 64, 65, 91, 92, 93, 147, 148, 149, 1500])


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """Datagrams of the right lengths and types, full of chance; some with a good mac1."""
    size = draw(SIZES)
    packet = (draw(WORDS) + draw(st.binary(min_size=size, max_size=size)))[:size]
    if size in (92, 148):
        name = draw(st.sampled_from([None, "a", "b", "x"]))
        key = RELAY.public_key if name is None else key_of(name).public_key
        packet = messages.with_mac1(packet, messages.mac1_key(key))
    if size >= 32 and draw(st.booleans()):
        packet = packet[:4] + draw(st.integers(0, 30)).to_bytes(4, "little") + packet[8:]
    return packet


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("register"), st.sampled_from("abcxy"), st.just(b"")),
            st.tuples(st.just("keepalive"), st.sampled_from("abcxy"), st.sampled_from([b"", b"!"])),
            st.tuples(st.just("packet"), st.sampled_from("abcxyz"), hostile()),
            st.tuples(st.just("expire"), st.sampled_from("a"), st.just(b"")),
            st.tuples(st.just("allow"), st.sampled_from(["ab", "bc", "abcx"]), st.just(b"")),
        ),
        max_size=40,
    )
)
def test_whatever_happens_nothing_raises_and_the_counts_are_those_of_what_is_held(events):
    # REL-035
    bounds = Bounds(members=3, routes=6, routes_per_member=4, routes_per_pair=2, origins=2)
    world = World(bounds)
    for act, who, packet in events:
        world.now += 1.0
        match act:
            case "register":
                answer = world.ask(who)
                if answer is not None and answer[1][0] == 2:
                    world.peers[who].asking.finish(answer[1])
                    world.send(who, world.peers[who].asking.data())
            case "keepalive" if world.peers[who].asking.sending:
                world.send(who, world.peers[who].asking.data(packet))
            case "packet":
                sent = world.send(who, packet)
                assert sent is None or sent[1] == packet or sent[1][0] in (2, 3)
            case "expire":
                world.now += 150
                world.table.expire(world.now)
            case "allow":
                world.networks = {"one": who, "two": "xy"}
                world.table.allow(world.membership())
        held = world.table._roster
        assert len(held.members) <= bounds.members
        routes = [route for each in held.members.values() for route in each.routes.values()]
        assert len(routes) == world.table.statistics().routes <= bounds.routes
        for each in held.members.values():
            assert len(each.routes) <= bounds.routes_per_member
            assert len(each.registrations) <= member.MAX_REGISTRATIONS
            assert sum(map(len, each.between.values())) == len(each.routes)
            assert all(0 < len(them) <= bounds.routes_per_pair for them in each.between.values())
            assert each.between.keys() <= held.members.keys()
            assert each.place is None or held.at[each.place] is each
        assert {id(each) for each in held.at.values()} == {
            id(each) for each in held.members.values() if each.place is not None
        }
        proven = {
            index
            for each in held.members.values()
            for index in (registration.index for registration in each.registrations)
        }
        assert proven == held.own.keys()
