"""Who is where, and which packet goes to whom."""

from __future__ import annotations

import pytest

from overlay.relay import member, messages
from overlay.relay.fate import Fate
from overlay.relay.limits import data_rate
from overlay.relay.table import Bounds
from tests.relay_world import OWN, RELAY, Peer, World, data_to, key_of, place_of
from tests.wg_initiator import Initiator


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

    def test_nobody_is_where_the_relay_is(self, world):  # REL-016
        world.register("a")
        a = world.peers["a"]
        assert world.fate_of("a", a.asking.data(), OWN) is Fate.TAKEN
        assert world.table.where(a.public) == a.place
        world.now += 1
        a.asking.finish(world.ask("a", OWN)[1])
        assert world.fate_of("a", a.asking.data(), OWN) is Fate.TAKEN

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
        assert world.fate_of("a", world.initiation("a", target, 1)) is Fate.HELD
        assert world.table.take_due() == []

    def test_a_member_that_has_gone_silent_is_not_found(self, world):  # REL-021
        world.register("a", "b")
        world.now += member.SILENT_S - 1
        world.send("a", world.peers["a"].asking.data())
        world.table.expire(world.now + 1.1)
        assert world.table.where(world.peers["b"].public) is None
        assert world.fate_of("a", world.initiation("a", "b", 1)) is Fate.HELD
        assert world.table.take_due() == []

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


class TestHeirs:
    """`a` replaces its key by that of `h`, at the same place, and talks to `b` (REL-025)."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        world.register("a", "b", "c")
        world.acquaint("a", "b", 11, 22)
        world.peers["h"] = Peer(key_of("h"), world.peers["a"].place)
        world.networks["one"] = "abch"
        self.allow(world)
        return world

    def allow(self, world: World) -> None:
        heirs = {world.peers["a"].public: world.peers["h"].public}
        world.table.allow(world.membership(), heirs)

    def test_what_is_answered_to_the_heir_reaches_it_before_it_has_registered(self, world):
        asked = world.initiation("h", "b", 12)
        assert world.send("h", asked) == (world.peers["b"].place, asked)
        answered = world.response("b", "h", 23, 12)
        assert world.send("b", answered) == (world.peers["h"].place, answered)
        assert world.fate_of("h", data_to(23)) is Fate.FORWARDED
        assert world.fate_of("b", data_to(12)) is Fate.FORWARDED
        # And nobody else's answer does.
        world.send("a", world.initiation("a", "b", 13))
        assert world.fate_of("b", world.response("b", "c", 24, 13)) is Fate.FORGED

    def test_sessions_of_both_keys_go_on_when_the_heir_has_registered(self, world):
        world.send("h", world.initiation("h", "b", 12))
        world.send("b", world.response("b", "h", 23, 12))
        world.register("h")
        assert world.table.where(world.peers["a"].public) is None
        for index in (11, 12):
            assert world.send("b", data_to(index)) == (world.peers["h"].place, data_to(index))
        for index in (22, 23):
            assert world.fate_of("h", data_to(index)) is Fate.FORWARDED
        assert world.table.statistics().routes == 4

    def test_the_heir_may_be_heard_from_elsewhere(self, world):
        world.peers["h"] = Peer(key_of("h"), place_of(70))
        world.register("h")
        assert world.send("b", data_to(11)) == (place_of(70), data_to(11))
        assert world.fate_of("h", data_to(22)) is Fate.FORWARDED
        assert world.fate_of("a", data_to(22)) is Fate.UNKNOWN_SOURCE

    def test_both_keys_have_one_rate(self, world):  # REL-038
        rate = data_rate(1)
        world.table.set_rate(rate, world.now)
        most = int(rate.burst) // len(data_to(22, 1_000))
        for _ in range(most):
            assert world.fate_of("a", data_to(22, 1_000)) is Fate.FORWARDED
        world.register("h")
        assert world.fate_of("h", data_to(22, 1_000)) is Fate.OVER_RATE

    @pytest.mark.parametrize("registered", [False, True])
    def test_the_former_goes_and_nothing_else(self, world, registered):
        if registered:
            world.register("h")
        world.networks["one"] = "bch"
        world.table.allow(world.membership())
        assert world.table.where(world.peers["h"].public) == world.peers["h"].place
        assert world.send("b", data_to(11)) == (world.peers["h"].place, data_to(11))
        assert world.fate_of("h", data_to(22)) is Fate.FORWARDED
        assert world.table.statistics().members == 3

    def test_an_heir_that_never_comes_takes_nothing(self, world):
        world.networks["one"] = "abc"
        world.table.allow(world.membership())
        assert world.send("b", data_to(11)) == (world.peers["a"].place, data_to(11))
        assert world.fate_of("a", data_to(22)) is Fate.FORWARDED

    def test_nothing_grows_beyond_its_bounds(self):
        world = World(Bounds(members=3, routes_per_member=1))
        world.register("a", "b", "c")
        world.acquaint("a", "b", 11, 22)
        world.peers["h"] = Peer(key_of("h"), world.peers["a"].place)
        world.networks["one"] = "abch"
        self.allow(world)
        world.networks["one"] = "bch"
        world.table.allow(world.membership())  # there is no room for a fourth
        assert world.table.where(world.peers["h"].public) is None
        assert world.table.statistics().routes == 0
        world.register("h")
        assert world.table.statistics().members == 3

    def test_who_has_the_former_key_gets_nothing_back_by_it(self, world):
        world.register("h")
        world.peers["a"] = Peer(key_of("a"), place_of(71))
        world.now += 1
        world.register("a")
        assert world.send("b", data_to(11)) == (world.peers["h"].place, data_to(11))
        assert world.fate_of("a", data_to(22)) is Fate.UNKNOWN_INDEX
