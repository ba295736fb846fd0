"""Pairs that are met at relays: what follows from looks at the device (NODE-070 .. NODE-078)."""

from __future__ import annotations

import msgspec

from overlay.documents.devices import NextDevice
from overlay.documents.relays import RELAYS_IN_USE
from overlay.keys.wireguard import DeviceKey
from overlay.model import Address, Endpoint, PeerTraffic, WgDevice, WgPeer, WgPublicKey
from overlay.peers import liveness
from overlay.peers.paths import KEEPALIVE_S
from overlay.reconcile.goals import PeerGoals
from overlay.reconcile.reach import RENEW_S, Moves, Reach
from tests.overlay.reconcile.test_goals import (
    OTHER,
    OWN,
    RELAYS,
    WALL,
    other,
    relayed,
    seed,
    sighting,
    with_relays,
)

R1, R2 = (Endpoint(Address(f"192.0.2.{n}"), 51819) for n in (1, 2))
SEEN = Endpoint(Address("203.0.113.9"), 4444)
STEP_S = 0.1
NEXT = DeviceKey.from_seed(seed("device next"))


class Situation:
    """A device that does what is written to it, and a peer that answers at some endpoints."""

    def __init__(self, *answers_at: Endpoint) -> None:
        self.key = OTHER.public_key
        self.goals: PeerGoals = with_relays(*RELAYS)
        self.goals.put_sighting(sighting("r1", 1, other=str(SEEN)), now=0.0)
        self.reach = Reach(OWN.public_key)
        self.answers_at = set(answers_at)
        self.endpoint = self.goals.peers[self.key].endpoint
        self.sent = self.heard = 0
        self.handshake = 1
        self.now = 0.0
        self.moves: list[Moves] = []

    def live(self, seconds: float, *, traffic: bool = True) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now += STEP_S
            if traffic:
                self._send(500)
            self._look()

    def _send(self, count: int) -> None:
        self.sent += count
        if self.endpoint in self.answers_at:
            self.heard += count

    def _look(self) -> None:
        peer = msgspec.structs.replace(
            self.goals.peers[self.key],
            endpoint=self.endpoint,
            latest_handshake=int(WALL + self.now),
        )
        peers: dict[WgPublicKey, WgPeer] = {self.key: peer}
        for key in self.goals.relays:
            shaken = int(WALL + self.now)
            peers[key] = msgspec.structs.replace(self.goals.peers[key], latest_handshake=shaken)
        device = WgDevice(OWN.public_key, 51820, peers)
        traffic = {key: PeerTraffic(0, 0) for key in peers}
        traffic[self.key] = PeerTraffic(rx_bytes=self.heard, tx_bytes=self.sent)
        wall = WALL + self.now
        self.goals.look(device, traffic.__getitem__, wall=wall, now=self.now)
        moves = self.reach.look(self.goals, device, traffic, wall=wall, now=self.now)
        self._do(moves)

    def _do(self, moves: Moves) -> None:
        self.moves.append(moves)
        for peer in moves.writes:
            self.endpoint = peer.endpoint
        if self.key in moves.renews:
            self.endpoint = self.goals.peers[self.key].endpoint
            self.sent = self.heard = 0
        for _ in moves.asks:
            self._send(64)

    @property
    def in_use(self) -> Endpoint | None:
        path = self.goals.path(self.key)
        return None if path is None else path.endpoint

    @property
    def renewed(self) -> list[WgPublicKey]:
        return [key for moves in self.moves for key in moves.renews]


def test_a_hidden_node_registers_with_the_first_relays_and_begins_there() -> None:
    # NODE-070, NODE-071
    there = Situation()
    assert len(there.goals.relays) == min(RELAYS_IN_USE, len(RELAYS))
    for key in there.goals.relays:
        peer = there.goals.peers[key]
        assert (peer.allowed_ips, peer.keepalive_s) == ((), KEEPALIVE_S)
    assert there.in_use == R1


def test_a_better_way_is_taken_when_it_answers_and_kept_open_while_it_is_used() -> None:
    # NODE-072, NODE-073, NODE-076
    there = Situation(R1, SEEN)
    there.live(5.0)
    assert (there.in_use, there.endpoint) == (SEEN, SEEN)
    assert there.goals.peers[OTHER.public_key].keepalive_s == KEEPALIVE_S
    assert there.reach.counts.opened >= 2
    there.live(liveness.ACTIVE_S + 1.0, traffic=False)
    assert there.goals.peers[OTHER.public_key].keepalive_s == 0


def test_two_that_just_met_try_whatever_they_met_for() -> None:
    # NODE-072: one small packet and its answer may be over before anybody looks
    there = Situation(R1, SEEN)
    there.live(5.0, traffic=False)
    assert there.in_use == SEEN


def test_what_was_tried_without_traffic_keeps_the_first_traffic_not_waiting() -> None:
    # NODE-072, NODE-074
    there = Situation(R1)
    there.live(liveness.MET_S + 1.0, traffic=False)
    assert there.in_use == R1
    there.answers_at.add(SEEN)
    there.live(5.0)
    assert there.in_use == SEEN


def test_without_traffic_nothing_more_is_tried() -> None:
    # NODE-072
    there = Situation(R1)
    there.live(liveness.MET_S, traffic=False)
    opened, tried = there.reach.counts.opened, there.reach.counts.tried
    assert 1 <= tried <= 2
    there.answers_at.add(SEEN)
    there.live(120.0, traffic=False)
    assert there.in_use == R1
    assert (there.reach.counts.opened, there.reach.counts.tried) == (opened, tried)
    path = there.goals.path(OTHER.public_key)
    assert path is not None
    assert "traffic" in there.reach.reason(OTHER.public_key, path, now=there.now)


def test_what_does_not_answer_is_tried_on_a_grid_and_the_relay_stays() -> None:
    # NODE-073, NODE-074, NODE-078
    there = Situation(R1)
    there.live(120.0)
    assert (there.in_use, there.endpoint) == (R1, R1)
    assert 2 <= there.reach.counts.tried <= 5
    assert there.reach.counts.given_up == 0
    path = there.goals.path(OTHER.public_key)
    assert path is not None
    assert "nothing came back" in there.reach.reason(OTHER.public_key, path, now=there.now)


def test_a_relay_that_falls_silent_gives_way_to_the_next_within_three_seconds() -> None:
    # NODE-075, NODE-077
    there = Situation(R1)
    there.live(10.0)
    there.answers_at = {R2}
    there.live(3.0)
    assert (there.in_use, there.endpoint) == (R2, R2)
    assert set(there.renewed) == {OTHER.public_key, *there.goals.relays}


def test_a_better_way_that_breaks_leads_back_to_the_relay_and_is_not_tried_at_once() -> None:
    # NODE-074, NODE-075
    there = Situation(R1, SEEN)
    there.live(5.0)
    there.answers_at = {R1}
    there.live(3.0)
    assert there.in_use == R1
    assert there.reach.counts.tried == 1
    there.live(20.0)
    assert there.reach.counts.tried == 2


def test_a_relay_that_does_not_hear_us_is_registered_with_anew() -> None:
    # NODE-077
    there = Situation(R1)
    relay = next(iter(there.goals.relays))
    device = WgDevice(
        OWN.public_key,
        51820,
        {relay: msgspec.structs.replace(there.goals.peers[relay], latest_handshake=int(WALL))},
    )
    for at, expected in ((RENEW_S, []), (RENEW_S + 1.0, [relay]), (RENEW_S + 2.0, [])):
        moves = there.reach.look(there.goals, device, {}, wall=WALL + at, now=at)
        assert moves.renews == expected
    heard = sighting("r1", 2, own="203.0.113.5:1")
    there.goals.put_sighting(heard, now=100.0)
    assert there.reach.look(there.goals, device, {}, wall=WALL + 100.0, now=100.0).renews == []


def test_a_member_of_which_nothing_is_left_is_forgotten() -> None:
    there = Situation(R1, SEEN)
    there.live(2.0)
    there.goals.put_network(relayed(version=2), now=there.now)
    assert list(there.goals.relayed()) == []
    assert not there.reach.look(
        there.goals, WgDevice(OWN.public_key, 1, {}), {}, wall=WALL, now=there.now
    )


def replace_key(there: Situation) -> None:
    """The peer announces its next key, and is heard by it."""
    said = other(2)
    coming = NextDevice(NEXT.id, int(WALL + there.now))
    there.goals.put_member(msgspec.structs.replace(said, next_device=coming), now=there.now)
    there.key = NEXT.public_key
    there.sent = there.heard = 0


def test_a_way_that_was_found_is_the_next_keys_as_well() -> None:
    # KEY-026
    there = Situation(R1, SEEN)
    there.live(5.0)
    opened = there.reach.counts.opened
    replace_key(there)
    there.live(1.5)
    assert (there.in_use, there.endpoint) == (SEEN, SEEN)
    assert there.goals.peers[NEXT.public_key].keepalive_s == KEEPALIVE_S
    assert there.reach.counts.opened == opened
    assert there.reach.counts.given_up == 0


def test_a_better_way_that_was_tried_in_vain_is_not_tried_again_because_of_another_key() -> None:
    # KEY-026, NODE-074
    there = Situation(R1)
    there.live(5.0)
    counts = msgspec.structs.replace(there.reach.counts)
    assert counts.tried > 0
    replace_key(there)
    there.live(2.0)
    assert there.in_use == R1
    assert there.reach.counts.opened == counts.opened
    assert there.reach.counts.tried == counts.tried
