"""Two simulated devices behave as WireGuard does where paths depend on it (LAB-101)."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest

from netlab.nat import Nat
from netlab.sim import scenario
from netlab.sim.clock import Timeline
from netlab.sim.internet import LAN_DELAY_S, Internet
from netlab.sim.tunnel import (
    CONFIRMATION,
    INITIATION,
    KEEPALIVE,
    REPLY,
    REQUEST,
    RESPONSE,
    Traffic,
)
from netlab.sim.wireguard import REJECT_AFTER_S, Device
from overlay.model import Address, Endpoint, Prefix, WgPeer, WgPublicKey

ANN, BOB, EVE = (WgPublicKey(bytes([n]) * 32) for n in (1, 2, 3))
PORT = 51_820
OPEN = scenario.Site(0, (4, 6))
HOME = scenario.Site(1, (4, 6), nat=Nat(udp_timeout_s=60), firewall=True)


class Pair:
    """Ann at an open site, Bob where he is put; each knows the other."""

    def __init__(self, bob_at: scenario.Site = OPEN, *, keepalive_s: int = 0) -> None:
        self.timeline = Timeline()
        self.internet = Internet([OPEN, HOME])
        self.traffic = Traffic()
        self.changes: list[WgPublicKey] = []
        self._numbers, self._ports = count(1), {}
        self.hosts = [
            self.internet.add(scenario.Node(n, site), chance=Random(n))
            for n, site in enumerate((0, bob_at.number))
        ]
        self.ann, self.bob = self._device(ANN, 0), self._device(BOB, 1)
        self.ann.put(WgPeer(BOB, (Prefix("10.0.2.0/24"),), self.at(1)))
        self.bob.put(WgPeer(ANN, (Prefix("10.0.1.0/24"),), self.at(0), keepalive_s))

    def _device(self, key: WgPublicKey, host: int) -> Device:
        return Device(
            key,
            self.hosts[host],
            PORT,
            timeline=self.timeline,
            internet=self.internet,
            ports=self._ports,
            traffic=self.traffic,
            numbers=self._numbers,
            on_change=self.changes.append,
            on_try=lambda _: None,
            on_inner=lambda _: None,
        )

    def at(self, host: int) -> Endpoint:
        return Endpoint(self.hosts[host].v4 or Address(""), PORT)

    def run(self, seconds: float) -> None:
        self.timeline.run(self.timeline.now + seconds)

    def is_answered(self, asker: Device, key: WgPublicKey, *, within_s: float) -> bool:
        began = self.timeline.now
        asker.ask(key, until=began + within_s)
        self.run(within_s)
        return asker.tunnels[key].answered_at >= began


def test_a_request_begins_a_handshake_and_is_answered() -> None:
    pair = Pair()
    assert pair.is_answered(pair.ann, BOB, within_s=2.0)
    sent = pair.traffic.sent
    assert [sent[kind] for kind in (INITIATION, RESPONSE, REQUEST, REPLY)] == [1, 1, 1, 1]
    assert pair.ann.tunnels[BOB].latest_handshake > 0.0
    assert pair.bob.tunnels[ANN].latest_handshake > 0.0


def test_a_responder_counts_the_handshake_when_it_is_confirmed() -> None:
    pair = Pair()
    pair.ann.greet(BOB)
    pair.run(1.5 * LAN_DELAY_S)
    assert pair.traffic.sent[RESPONSE] == 1
    assert pair.bob.tunnels[ANN].latest_handshake == 0.0
    pair.run(1.0)
    assert pair.traffic.sent[CONFIRMATION] == 1
    assert pair.bob.tunnels[ANN].latest_handshake > 0.0


def test_a_session_ends_after_180_s() -> None:
    pair = Pair()
    assert pair.is_answered(pair.ann, BOB, within_s=2.0)
    pair.run(REJECT_AFTER_S)
    before = pair.traffic.sent[INITIATION]
    assert pair.is_answered(pair.bob, ANN, within_s=2.0)
    assert pair.traffic.sent[INITIATION] == before + 1


def test_an_initiation_is_sent_every_5_s_for_90_s_and_then_no_more() -> None:
    pair = Pair()
    pair.bob.drop(ANN)
    pair.ann.greet(BOB)
    pair.run(80.0)
    assert 14 <= pair.traffic.sent[INITIATION] <= 17
    pair.run(200.0)
    assert pair.traffic.sent[INITIATION] <= 19


@pytest.mark.parametrize(("after_s", "tries"), [(12.0, True), (100.0, False)])
def test_what_began_without_an_endpoint_goes_on_with_one_for_90_s(
    after_s: float, tries: bool
) -> None:
    pair = Pair()
    pair.bob.drop(ANN)
    pair.ann.drop(BOB)
    nowhere = WgPeer(BOB, (Prefix("10.0.2.0/24"),))
    pair.ann.put(nowhere)
    pair.ann.ask(BOB, until=1.0)
    pair.run(after_s)
    pair.ann.put(WgPeer(BOB, nowhere.allowed_ips, pair.at(1)))
    assert pair.ann.tunnels[BOB].is_staged is tries
    if tries:
        pair.ann.greet(BOB)  # less than 5 s after the last try
        assert pair.traffic.sent[INITIATION] == 0
    pair.run(5.5)
    assert (pair.traffic.sent[INITIATION] > 0) is tries


def test_the_peer_is_wherever_it_was_heard_from_last() -> None:
    pair = Pair()
    assert pair.is_answered(pair.ann, BOB, within_s=2.0)
    pair.internet.move(pair.hosts[1], HOME.number)
    assert pair.is_answered(pair.bob, ANN, within_s=2.0)
    assert pair.ann.tunnels[BOB].endpoint == Endpoint(pair.internet.sites[1].wan, PORT)
    assert pair.changes[-1] == BOB


@pytest.mark.parametrize(("keepalive_s", "reached"), [(25, True), (0, False)])
def test_keepalives_keep_the_way_to_a_hidden_peer_open(keepalive_s: int, reached: bool) -> None:
    pair = Pair(HOME, keepalive_s=keepalive_s)
    assert pair.is_answered(pair.bob, ANN, within_s=2.0)
    pair.run(100.0)
    assert pair.is_answered(pair.ann, BOB, within_s=30.0) is reached
    assert (pair.traffic.sent[KEEPALIVE] > 0) is reached


def test_two_who_begin_at_once_both_wait_and_then_one_is_first() -> None:
    pair = Pair()
    pair.ann.greet(BOB)
    pair.bob.greet(ANN)
    pair.run(2.0)
    assert not pair.ann.tunnels[BOB].latest_handshake
    pair.run(30.0)
    assert pair.ann.tunnels[BOB].latest_handshake
    assert pair.bob.tunnels[ANN].latest_handshake


def test_a_prefix_belongs_to_the_peer_that_claimed_it_last() -> None:
    pair = Pair()
    pair.ann.put(WgPeer(EVE, (Prefix("10.0.2.0/24"), Prefix("10.0.3.0/24"))))
    shown = pair.ann.shown([BOB, EVE])
    assert shown[BOB].allowed_ips == ()
    assert shown[EVE].allowed_ips == ("10.0.2.0/24", "10.0.3.0/24")
    pair.ann.put(WgPeer(EVE, (Prefix("10.0.3.0/24"),)))
    assert pair.ann.holders == {"10.0.3.0/24": EVE}


def test_a_peer_without_endpoint_in_a_write_keeps_its_own() -> None:
    pair = Pair()
    pair.ann.put(WgPeer(BOB, (Prefix("10.0.2.0/24"),), None))
    assert pair.ann.tunnels[BOB].endpoint == pair.at(1)


def test_a_sleeper_hears_and_sends_nothing_until_it_wakes() -> None:
    pair = Pair()
    assert pair.is_answered(pair.ann, BOB, within_s=2.0)
    pair.bob.sleep()
    pair.run(200.0)
    assert not pair.is_answered(pair.ann, BOB, within_s=20.0)
    pair.bob.wake()
    assert pair.is_answered(pair.ann, BOB, within_s=20.0)
