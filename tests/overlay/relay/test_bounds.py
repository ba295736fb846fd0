"""What a relay holds and answers, with every bound at the bound; and whatever comes in."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.relay import limits, member, messages, registrar
from overlay.relay.fate import Fate
from overlay.relay.limits import CALM, MEMBER, ORIGIN, Place
from overlay.relay.table import Bounds
from tests.relay_world import RELAY, Peer, World, data_to, key_of, place_of, response_to


@pytest.fixture
def world() -> World:
    return World()


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

    @pytest.mark.parametrize("size_bytes", [100, 1_400])
    def test_data_of_one_member(self, world, size_bytes):  # REL-038
        world.register("a", "b", "c")
        world.acquaint("a", "b", 11, 22)
        world.acquaint("c", "b", 33, 44)
        rate, much = limits.data_rate(8), data_to(22, size_bytes)
        assert (rate.burst, rate.per_s) == (500_000, 1_000_000)
        world.table.set_rate(rate, world.now)
        most = int(rate.burst) // len(much)
        fates = [world.fate_of("a", much) for _ in range(most + 1)]
        assert fates == [Fate.FORWARDED] * most + [Fate.OVER_RATE]
        # What others send, and handshakes, are not in it.
        assert world.fate_of("b", data_to(11, size_bytes)) is Fate.FORWARDED
        assert world.fate_of("c", data_to(44, size_bytes)) is Fate.FORWARDED
        assert world.fate_of("a", world.initiation("a", "c", 55)) is Fate.FORWARDED
        world.now += len(much) / rate.per_s + 1e-6
        world.table.set_rate(limits.data_rate(8), world.now)  # the same gives nothing
        assert world.fate_of("a", much) is Fate.FORWARDED
        assert world.fate_of("a", much) is Fate.OVER_RATE
        world.table.set_rate(limits.data_rate(0), world.now)
        assert world.fate_of("a", much) is Fate.FORWARDED

    def test_what_leads_nowhere_is_not_taken_from_a_rate(self, world):  # REL-038
        world.register("a", "b", "c")
        world.acquaint("a", "b", 11, 22)
        world.acquaint("a", "c", 33, 44)
        rate = limits.data_rate(1)
        world.table.set_rate(rate, world.now)
        world.table.leave(world.peers["b"].place)
        for _ in range(int(rate.burst) // 1_000 + 1):
            assert world.fate_of("a", data_to(22, 1_000)) is Fate.UNKNOWN_INDEX
        assert world.fate_of("a", data_to(44, 1_000)) is Fate.FORWARDED

    def test_a_slow_rate_lets_through_what_comes_at_once(self):  # REL-038
        assert limits.data_rate(1).burst == limits.MIN_RATE_BURST_BYTES

    def test_who_comes_later_has_the_same_rate(self, world):  # REL-038
        rate = limits.data_rate(1)
        world.table.set_rate(rate, world.now)
        world.register("a", "b")
        world.acquaint("a", "b", 11, 22)
        most = int(rate.burst) // len(data_to(22, 1_000))
        fates = [world.fate_of("a", data_to(22, 1_000)) for _ in range(most + 1)]
        assert fates[-2:] == [Fate.FORWARDED, Fate.OVER_RATE]

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
