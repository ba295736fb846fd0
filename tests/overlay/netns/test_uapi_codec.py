from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult_base

from overlay.errors import Unavailable
from overlay.model import (
    Address,
    Endpoint,
    PeerTraffic,
    Prefix,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.netns import uapi_codec as codec

KEY = WgPublicKey(bytes(range(32)))
OTHER = WgPublicKey(bytes(range(32, 64)))
PRIVATE = bytes([8] * 31 + [64])
NO_PSK = "0" * 64

# As wireguard-go 0.0.20220316 answered.
REPLY = f"""private_key={PRIVATE.hex()}
listen_port=51820
fwmark=7
public_key={KEY.hex()}
preshared_key={NO_PSK}
protocol_version=1
endpoint=[2001:db8::1]:51821
last_handshake_time_sec=1700000000
last_handshake_time_nsec=5
tx_bytes=148
rx_bytes=92
persistent_keepalive_interval=25
allowed_ip=fd12::/64
allowed_ip=10.1.2.0/24
public_key={OTHER.hex()}
preshared_key={NO_PSK}
protocol_version=1
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=0
rx_bytes=0
persistent_keepalive_interval=0
errno=0

""".encode()


def test_parse_device_reads_every_field() -> None:  # WGD-004
    device, _ = codec.parse_device(REPLY, known={})
    assert device == WgDevice(
        WgPublicKey(crypto_scalarmult_base(PRIVATE)),
        51820,
        {
            KEY: WgPeer(
                KEY,
                (Prefix("10.1.2.0/24"), Prefix("fd12::/64")),
                Endpoint(Address("2001:db8::1"), 51821),
                25,
                1700000000,
            ),
            OTHER: WgPeer(OTHER, ()),
        },
    )


def test_parse_device_of_a_new_device() -> None:
    assert codec.parse_device(b"errno=0\n\n", known={})[0] == WgDevice(None, 0, {})


def test_parse_device_takes_unchanged_peers_from_the_last_time() -> None:  # WGD-015
    first, known = codec.parse_device(REPLY, known={})
    changed = REPLY.replace(b"rx_bytes=92", b"rx_bytes=93")
    second, known_then = codec.parse_device(changed, known=known)

    assert second == first
    assert second.peers[OTHER] is first.peers[OTHER]
    assert second.peers[KEY] is not first.peers[KEY]
    assert len(known_then) == 2


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b"sec=1700000000", b"sec=1700000001"),
        (b"interval=25", b"interval=24"),
        (b"10.1.2.0/24", b"10.1.3.0/24"),
        (b"]:51821", b"]:51822"),
        (b"allowed_ip=fd12::/64\n", b""),
        (f"preshared_key={NO_PSK}".encode(), f"preshared_key={'1' * 64}".encode()),
    ],
)
def test_parse_device_sees_every_change(was: bytes, now: bytes) -> None:  # WGD-015
    before, known = codec.parse_device(REPLY, known={})
    after, _ = codec.parse_device(REPLY.replace(was, now, 1), known=known)
    assert after.peers[KEY] != before.peers[KEY]
    assert after == codec.parse_device(REPLY.replace(was, now, 1), known={})[0]


def test_parse_device_shows_a_peer_with_a_preshared_key_without_allowed_ips() -> None:  # WGD-007
    reply = REPLY.replace(NO_PSK.encode(), b"ab" * 32, 1)
    device, _ = codec.parse_device(reply, known={})
    assert device.peers[KEY].allowed_ips == ()


def test_parse_device_keeps_no_private_key_for_the_next_time() -> None:  # SPW-002
    device, known = codec.parse_device(REPLY, known={})
    assert PRIVATE.hex() not in repr((device, known))


def test_parse_device_knows_lines_of_a_later_version_are_not_its_own() -> None:
    later = REPLY.replace(b"tx_bytes=148\n", b"tx_bytes=148\nsomething_new=1\n")
    assert codec.parse_device(later, known={})[0] == codec.parse_device(REPLY, known={})[0]


def test_parse_traffic_reads_both_counters() -> None:
    assert codec.parse_traffic(REPLY) == {KEY: PeerTraffic(92, 148), OTHER: PeerTraffic(0, 0)}


@pytest.mark.parametrize(
    ("reply", "number"), [(REPLY, 0), (b"errno=-98\n\n", 98), (b"errno=2\n\n", 2)]
)
def test_parse_errno(reply: bytes, number: int) -> None:
    assert codec.parse_errno(reply) == number


@given(st.binary(max_size=400))
def test_whatever_the_socket_says_is_a_value_or_unavailable(noise: bytes) -> None:  # WGD-016
    for reply in (noise, noise + b"errno=0\n\n", b"public_key=" + noise + b"errno=0\n\n"):
        for parse in (
            codec.parse_errno,
            codec.parse_traffic,
            lambda r: codec.parse_device(r, known={}),
        ):
            try:
                parse(reply)
            except Unavailable:
                continue


def test_encode_set_of_nothing_is_nothing() -> None:
    assert list(codec.encode_set()) == []


def test_encode_set_drops_before_it_puts() -> None:
    peer = WgPeer(
        KEY,
        (Prefix("10.1.2.0/24"), Prefix("fd12::/64")),
        Endpoint(Address("2001:db8::1"), 1),
        25,
    )
    requests = codec.encode_set(private_key=PRIVATE, listen_port=9, put=[peer], drop=[OTHER])
    assert [request.decode() for request in requests] == [
        f"""set=1
private_key={PRIVATE.hex()}
listen_port=9
public_key={OTHER.hex()}
remove=true
public_key={KEY.hex()}
preshared_key={NO_PSK}
endpoint=[2001:db8::1]:1
persistent_keepalive_interval=25
replace_allowed_ips=true
allowed_ip=10.1.2.0/24
allowed_ip=fd12::/64

"""
    ]


def test_encode_set_leaves_an_endpoint_alone_that_is_not_given() -> None:  # WGD-006
    (request,) = codec.encode_set(put=[WgPeer(KEY, ())])
    assert b"endpoint" not in request


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (500, 1), (501, 2), (1001, 3)])
def test_encode_set_splits_many_peers(count: int, requests: int) -> None:
    assert codec.PEERS_PER_REQUEST == 500
    keys = [WgPublicKey(number.to_bytes(32, "big")) for number in range(count)]
    made = list(codec.encode_set(listen_port=1, put=[WgPeer(key, ()) for key in keys]))

    assert len(made) == requests
    assert [request.count(b"listen_port=") for request in made] == [1] + [0] * (requests - 1)
    assert all(request.startswith(b"set=1\n") and request.endswith(b"\n\n") for request in made)
    assert sum(request.count(b"public_key=") for request in made) == count
