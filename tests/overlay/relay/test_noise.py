"""The answering side of the handshake, against wireguard-go's own words and a second author."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from overlay.keys.wireguard import WireGuardKey
from overlay.relay import messages, noise
from overlay.relay.messages import Data, Initiation
from tests.wg_initiator import Initiator

RELAY = WireGuardKey(bytes(range(32)))
MEMBER = WireGuardKey(bytes(range(32, 64)))
EPHEMERAL = WireGuardKey(bytes(range(64, 96)))
INDEX = 0x01020304

# What wireguard-go 0.0.20231211 with MEMBER's key said to a peer with RELAY's: its initiation, and
# the keepalive that it sent when it had taken RESPONSE.
INITIATION = bytes.fromhex(
    "01000000a08ed634d0767d42960a7f5f966b4128c6d62e7314d50fd8f64b52cfab02a116196d5f21fd36fc4538cd86"
    "aa49f0281d766b295128aa02a816d5f6ed4f2342d0f00200fbcd401310ff950bc2b796d2f1108bd60275d89a343e67"
    "2bb0e7c46db2974ea2037d6a31e427c651b5f8f5c252e605dbbe712f1db9a23ae06ba5d1826b000000000000000000"
    "00000000000000"
)
RESPONSE = bytes.fromhex(
    "0200000004030201a08ed63479a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a9e1bfe"
    "610da16729031b344f8d531379c886cc4c88848e955289463697d43afd00000000000000000000000000000000"
)
KEEPALIVE = bytes.fromhex("04000000040302010000000000000000e85ec7b5fc815e5040398c9ba8928286")


def opened(packet: bytes, key: WireGuardKey = RELAY) -> noise.Opened | None:
    message = messages.parse(packet)
    assert isinstance(message, Initiation)
    return noise.open_initiation(message, key)


def opened_data(tunnel: noise.Tunnel, packet: bytes) -> bytes | None:
    message = messages.parse(packet)
    assert isinstance(message, Data)
    return noise.open_data(tunnel, message)


def test_wireguard_go_is_understood_and_understands():  # REL-004
    assert messages.has_mac1(INITIATION, messages.mac1_key(RELAY.public_key))
    found = opened(INITIATION)
    assert found is not None
    assert found.initiator == MEMBER.public_key
    answer = noise.respond(found, ephemeral=EPHEMERAL, index=INDEX)
    assert answer is not None
    packet, tunnel = answer
    assert packet == RESPONSE
    assert opened_data(tunnel, KEEPALIVE) == b""


def test_both_sides_agree_on_both_ciphers():  # REL-004
    asking = Initiator(MEMBER, RELAY.public_key)
    found = opened(asking.initiation(1.0, index=9))
    assert found is not None
    answer = noise.respond(found, ephemeral=EPHEMERAL, index=INDEX)
    assert answer is not None
    packet, tunnel = answer
    asking.finish(packet)
    assert asking.peer_index == INDEX
    assert opened_data(tunnel, asking.data(b"one")) == b"one"
    assert opened_data(tunnel, asking.data()) == b""
    sealed = tunnel.sending.encrypt(bytes(12), b"back", None)
    with pytest.raises(InvalidTag):
        tunnel.receiving.decrypt(bytes(12), sealed, None)


def test_timestamps_grow_with_time():  # REL-007
    asking = Initiator(MEMBER, RELAY.public_key)
    found = [opened(asking.initiation(at, index=1)) for at in (1.0, 1.5, 300.25)]
    stamps = [each.timestamp for each in found if each is not None]
    assert len(stamps) == 3
    assert stamps == sorted(set(stamps))


@given(st.integers(8, 115), st.integers(0, 7))
def test_one_turned_bit_is_not_genuine(place, bit):  # REL-004
    forged = bytearray(INITIATION)
    forged[place] ^= 1 << bit
    # Bit 255 of a point means nothing (RFC 7748), but it is hashed.
    assert opened(bytes(forged)) is None


def test_initiation_for_somebody_else_is_not_genuine():  # REL-004
    assert opened(INITIATION, MEMBER) is None


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)])
def test_points_of_small_order_are_refused(point):  # REL-004
    message = messages.parse(INITIATION)
    assert isinstance(message, Initiation)
    assert noise.open_initiation(replace(message, ephemeral=point), RELAY) is None
    found = opened(INITIATION)
    assert found is not None
    for changed in (replace(found, ephemeral=point), replace(found, initiator=point)):
        assert noise.respond(changed, ephemeral=EPHEMERAL, index=INDEX) is None


@given(st.integers(4, 31), st.integers(0, 7))
def test_one_turned_bit_of_a_keepalive_is_not_genuine(place, bit):  # REL-004
    found = opened(INITIATION)
    assert found is not None
    answer = noise.respond(found, ephemeral=EPHEMERAL, index=INDEX)
    assert answer is not None
    forged = bytearray(KEEPALIVE)
    forged[place] ^= 1 << bit
    authentic = place < 8  # the index is no part of what is sealed
    assert (opened_data(answer[1], bytes(forged)) == b"") is authentic


def test_nothing_secret_is_printed():
    found = opened(INITIATION)
    assert found is not None
    answer = noise.respond(found, ephemeral=EPHEMERAL, index=INDEX)
    assert "chain" not in repr(found)
    assert repr(answer and answer[1]) == "Tunnel()"
