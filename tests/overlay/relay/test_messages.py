"""What is a WireGuard message and what its macs prove."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.keys.wireguard import WireGuardKey
from overlay.relay import messages
from overlay.relay.messages import CookieReply, Data, Initiation, Response
from tests.wg_initiator import Initiator

RELAY = WireGuardKey(bytes(range(32)))
OTHER = WireGuardKey(bytes(range(1, 33)))
U32 = st.integers(0, 2**32 - 1)
MESSAGES = st.one_of(
    st.builds(
        Initiation,
        U32,
        *(st.binary(min_size=size, max_size=size) for size in (32, 48, 28, 16, 16)),
    ),
    st.builds(
        Response, U32, U32, *(st.binary(min_size=size, max_size=size) for size in (32, 16, 16, 16))
    ),
    st.builds(CookieReply, U32, *(st.binary(min_size=size, max_size=size) for size in (24, 32))),
    st.builds(Data, U32, st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=100)),
)


@given(MESSAGES)
def test_what_is_built_is_parsed(message):  # REL-001
    assert messages.parse(messages.build(message)) == message


@given(st.binary(max_size=200))
def test_whatever_comes_in_is_a_message_or_none(packet):  # REL-001
    message = messages.parse(packet)
    assert message is None or messages.build(message) == packet


@given(MESSAGES, st.data())
def test_one_byte_less_or_more_or_another_first_word_is_none(message, draw):  # REL-001
    packet = messages.build(message)
    if isinstance(message, Data):
        assert messages.parse(packet[: messages.DATA_MIN_BYTES - 1]) is None
        assert messages.parse(packet.ljust(messages.DATA_MAX_BYTES, b"x")) is not None
        assert messages.parse(packet.ljust(messages.DATA_MAX_BYTES + 1, b"x")) is None
    else:
        assert messages.parse(packet[:-1]) is None
        assert messages.parse(packet + b"\0") is None
    place = draw.draw(st.integers(1, 3))
    assert messages.parse(packet[:place] + b"\1" + packet[place + 1 :]) is None


def test_sizes_are_those_of_the_paper():
    sizes = {1: 148, 2: 92, 3: 64, 4: 32}
    for kind, size in sizes.items():
        packet = kind.to_bytes(4, "little") + bytes(size - 4)
        assert messages.kind_of(packet) == kind
        assert messages.kind_of(packet[:-1]) == 0


def test_mac1_names_the_receiver_and_nobody_else():  # REL-002
    packet = Initiator(OTHER, RELAY.public_key).initiation(1.0, index=7)
    key = messages.mac1_key(RELAY.public_key)
    assert messages.has_mac1(packet, key)
    assert not messages.has_mac1(packet, messages.mac1_key(OTHER.public_key))
    assert messages.with_mac1(packet, key) == packet
    for place in (0, 8, 115, 116, 131):
        forged = bytearray(packet)
        forged[place] ^= 1
        assert not messages.has_mac1(bytes(forged), key)


def test_cookie_is_opened_by_who_asked_and_makes_a_mac2():  # REL-003
    asking = Initiator(OTHER, RELAY.public_key)
    packet = asking.initiation(1.0, index=7)
    initiation = messages.parse(packet)
    assert isinstance(initiation, Initiation)
    cookie = messages.make_cookie(b"192.0.2.1:1", secret=bytes(32))
    key = messages.cookie_key(RELAY.public_key)
    reply = messages.seal_cookie(initiation, cookie, key=key, nonce=bytes(24))
    assert reply.receiver == 7
    assert messages.open_cookie(reply, mac1=asking.mac1, key=key) == cookie
    assert messages.open_cookie(reply, mac1=bytes(16), key=key) is None
    assert messages.open_cookie(replace(reply, nonce=b"1" * 24), mac1=asking.mac1, key=key) is None
    assert not messages.has_mac2(packet, cookie)
    again = asking.initiation(2.0, index=8, cookie=cookie)
    assert messages.has_mac2(again, cookie)
    assert messages.with_mac2(again, cookie) == again
    assert not messages.has_mac2(again, messages.make_cookie(b"192.0.2.2:1", secret=bytes(32)))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 65_507])
def test_zeros_are_no_message(size):
    assert messages.parse(bytes(size)) is None
