from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import genlmsg
from pyroute2.netlink.generic.wireguard import AsyncWireGuard, wgmsg

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
from overlay.netns import wg_codec as codec

FAMILY = 0x1F
HEADER_BYTES = 16
KEY = WgPublicKey(bytes(range(32)))
OTHER = WgPublicKey(bytes(range(32, 64)))
PRIVATE = bytes([8] * 31 + [64])
NO_PSK = base64.b64encode(bytes(32)).decode()
ENDPOINTS = [
    Endpoint(Address("192.0.2.1"), 51820),
    Endpoint(Address("2001:db8::1"), 65535),
]


@pytest.mark.parametrize("endpoint", [*ENDPOINTS, None])
def test_encode_set_is_what_pyroute2_sends(endpoint: Endpoint | None) -> None:  # WGD-004
    peer = WgPeer(KEY, (Prefix("10.1.2.0/24"), Prefix("::/0"), Prefix("fd12::/64")), endpoint, 25)
    (made,) = codec.encode_set(FAMILY, "wg0", private_key=PRIVATE, listen_port=9, put=[peer])

    reference = set_message(
        private_key=base64.b64encode(PRIVATE).decode(), listen_port=9, peer=as_pyroute2(peer)
    )
    assert normal_form(made) == normal_form(reference)


def test_encode_set_of_a_drop_is_what_pyroute2_sends() -> None:
    (made,) = codec.encode_set(FAMILY, "wg0", drop=[KEY])
    reference = set_message(peer={"public_key": text(KEY), "remove": True})
    assert normal_form(made) == normal_form(reference)


def test_encode_set_of_nothing_is_nothing() -> None:
    assert list(codec.encode_set(FAMILY, "wg0")) == []


def test_encode_set_of_settings_alone_is_one_message() -> None:
    assert len(list(codec.encode_set(FAMILY, "wg0", listen_port=0))) == 1


def test_encode_set_splits_many_peers_and_sends_settings_once() -> None:
    peers = [
        WgPeer(WgPublicKey(n.to_bytes(32, "big")), (Prefix("fd12::/64"),)) for n in range(1000)
    ]
    made = list(
        codec.encode_set(FAMILY, "wg0", listen_port=1, put=peers[500:], drop=keys(peers[:500]))
    )

    assert all(len(message) <= codec.MAX_PEERS_BYTES + 1024 * 8 for message in made)
    decoded = [decode(message) for message in made]
    assert [bool(message.get_attr("WGDEVICE_A_LISTEN_PORT")) for message in decoded] == [True] + [
        False
    ] * (len(made) - 1)
    sent = [peer for message in decoded for peer in message.get_attr("WGDEVICE_A_PEERS")]
    assert [base64.b64decode(peer.get_attr("WGPEER_A_PUBLIC_KEY")) for peer in sent] == keys(peers)


@pytest.mark.parametrize(("count", "parts"), [(512, 1), (513, 2), (1025, 3)])
def test_encode_set_splits_one_peer_of_many_prefixes(count: int, parts: int) -> None:
    assert codec.MAX_ALLOWED_IPS_PER_PART == 512
    prefixes = tuple(sorted(Prefix(f"fd12:0:{n:x}::/48") for n in range(1, count + 1)))
    made = codec.encode_set(FAMILY, "wg0", put=[WgPeer(KEY, prefixes)])

    sent = [p for message in made for p in decode(message).get_attr("WGDEVICE_A_PEERS")]
    assert len(sent) == parts
    # Only the first part replaces: the others would take away what it brought.
    assert [part.get_attr("WGPEER_A_FLAGS") for part in sent] == [2] + [None] * (parts - 1)
    written = [each["addr"] for part in sent for each in part.get_attr("WGPEER_A_ALLOWEDIPS")]
    assert tuple(sorted(written)) == prefixes


@pytest.mark.parametrize("endpoint", [*ENDPOINTS, None])
def test_parse_device_reads_what_pyroute2_encodes(endpoint: Endpoint | None) -> None:  # WGD-004
    peer = WgPeer(KEY, (Prefix("10.1.2.0/24"), Prefix("::/0"), Prefix("fd12::/64")), endpoint, 25)
    device, _ = codec.parse_device([dump_part(head=True, peers=[peer])], known={})
    assert device == WgDevice(WgPublicKey(PRIVATE), 51820, {KEY: peer})


def test_parse_device_joins_a_peer_that_goes_on_in_the_next_part() -> None:
    first, rest = (
        WgPeer(KEY, (Prefix("fd12:1::/64"),), ENDPOINTS[0], 25),
        WgPeer(KEY, (Prefix("10.1.2.0/24"),)),
    )
    parts = [dump_part(head=True, peers=[first]), dump_part(peers=[rest], rest=True)]
    device, known = codec.parse_device(parts, known={})

    whole = WgPeer(KEY, (Prefix("10.1.2.0/24"), Prefix("fd12:1::/64")), ENDPOINTS[0], 25)
    assert device.peers == {KEY: whole}
    assert codec.parse_device(parts, known=known)[0] == device


def test_parse_device_takes_unchanged_peers_from_the_last_time() -> None:  # WGD-015
    peers = [WgPeer(KEY, (Prefix("fd12::/64"),)), WgPeer(OTHER, ())]
    first, known = codec.parse_device([dump_part(head=True, peers=peers)], known={})
    peers[0] = WgPeer(KEY, (Prefix("fd13::/64"),))
    second, known_then = codec.parse_device([dump_part(head=True, peers=peers)], known=known)

    assert second.peers[KEY] == peers[0]
    assert second.peers[OTHER] is first.peers[OTHER]
    assert len(known_then) == 2


def test_parse_device_shows_a_peer_with_a_preshared_key_without_allowed_ips() -> None:  # WGD-007
    peer = WgPeer(KEY, (Prefix("fd12::/64"),))
    psk = base64.b64encode(b"x" * 32).decode()
    device, _ = codec.parse_device([dump_part(peers=[peer], psk=psk)], known={})
    assert device.peers[KEY].allowed_ips == ()


def test_parse_traffic_counts_each_peer_once() -> None:
    peers = [WgPeer(KEY, (Prefix("fd12::/64"),))]
    parts = [dump_part(peers=peers, traffic=(92, 148)), dump_part(peers=peers, rest=True)]
    assert codec.parse_traffic(parts) == {KEY: PeerTraffic(92, 148)}


def test_parse_messages_tells_parts_from_the_end() -> None:
    done = bytes.fromhex("14000000 0300 0200 00000000 00000000 00000000".replace(" ", ""))
    part = bytes.fromhex("11000000 1f00 1200 00000000 00000000 aa000000".replace(" ", ""))
    first, last = codec.parse_messages(part + done)
    assert (first.is_last, first.is_interrupted, first.payload) == (False, True, b"\xaa")
    assert (last.is_last, last.is_interrupted, last.errno) == (True, False, 0)


def test_parse_messages_reads_the_kernels_error() -> None:
    refused = bytes.fromhex(
        "24000000 0200 0000 00000000 00000000 9effffff".replace(" ", "")
    ) + bytes(16)
    (message,) = codec.parse_messages(refused)
    assert message.errno == 98


@given(st.binary(max_size=200))
def test_whatever_the_socket_says_is_a_value_or_unavailable(noise: bytes) -> None:  # WGD-016
    def parse_all() -> None:
        for message in codec.parse_messages(noise):
            codec.parse_device([message.payload], known={})
        codec.parse_device([noise], known={})
        codec.parse_traffic([noise])
        codec.parse_family(noise)

    try:
        parse_all()
    except Unavailable:
        return


def set_message(**settings: Any) -> bytes:
    """What pyroute2 would send, without a socket."""
    message = wgmsg()
    message["attrs"].append(["WGDEVICE_A_IFNAME", "wg0"])
    if "private_key" in settings:
        message["attrs"].append(["WGDEVICE_A_PRIVATE_KEY", settings["private_key"]])
    if "listen_port" in settings:
        message["attrs"].append(["WGDEVICE_A_LISTEN_PORT", settings["listen_port"]])
    AsyncWireGuard._wg_set_peer(FAKE_SOCKET, message, settings["peer"])
    return encoded(message, command=1)


def dump_part(
    *,
    head: bool = False,
    peers: list[WgPeer],
    rest: bool = False,
    psk: str = NO_PSK,
    traffic: tuple[int, int] = (0, 0),
) -> bytes:
    """The payload of one message of a dump, as the kernel would send it, encoded by pyroute2."""
    message = wgmsg()
    if head:
        message["attrs"] += [
            ["WGDEVICE_A_LISTEN_PORT", 51820],
            ["WGDEVICE_A_FWMARK", 0],
            ["WGDEVICE_A_IFINDEX", 5],
            ["WGDEVICE_A_IFNAME", "wg0"],
            ["WGDEVICE_A_PRIVATE_KEY", text(PRIVATE)],
            ["WGDEVICE_A_PUBLIC_KEY", text(PRIVATE)],
        ]
    entries = []
    for peer in peers:
        attributes: list[list[Any]] = [["WGPEER_A_PUBLIC_KEY", text(peer.public_key)]]
        if not rest:
            attributes += [
                ["WGPEER_A_PRESHARED_KEY", psk],
                ["WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", peer.keepalive_s],
                ["WGPEER_A_RX_BYTES", traffic[0]],
                ["WGPEER_A_TX_BYTES", traffic[1]],
                ["WGPEER_A_PROTOCOL_VERSION", 1],
            ]
        if peer.endpoint:
            attributes.append(
                ["WGPEER_A_ENDPOINT", {"addr": peer.endpoint.address, "port": peer.endpoint.port}]
            )
        allowed = AsyncWireGuard._wg_build_allowedips(FAKE_SOCKET, peer.allowed_ips)
        attributes.append(["WGPEER_A_ALLOWEDIPS", allowed])
        entries.append({"attrs": attributes})
    message["attrs"].append(["WGDEVICE_A_PEERS", entries])
    return encoded(message, command=0)[HEADER_BYTES:]


def encoded(message: genlmsg, *, command: int) -> bytes:
    message["cmd"] = command
    message["version"] = 1
    message["header"]["type"] = FAMILY
    message["header"]["flags"] = 5
    message.encode()
    return bytes(message.data)


def decode(message: bytes) -> Any:
    decoded = wgmsg(message)
    decoded.decode()
    return decoded


def normal_form(message: bytes) -> Any:
    """The tree of attributes: length, order of attributes and the nested flag are a matter of
    taste (the kernel reads lists in order but structures by type)."""
    length = int.from_bytes(message[:4], "little")
    assert length == len(message)
    return message[4:8], message[16:20], tree(message[20:], DEVICE)


DEVICE: dict[int, Any] = {8: {"each": {9: {"each": {}}}}}


def tree(payload: bytes, nested: dict[int, Any]) -> Any:
    found = []
    offset = 0
    while offset < len(payload):
        length = int.from_bytes(payload[offset : offset + 2], "little")
        kind = int.from_bytes(payload[offset + 2 : offset + 4], "little") & 0x3FFF
        value = payload[offset + 4 : offset + length]
        if kind in nested:
            entries = elements(value)
            found.append((kind, [tree(entry, nested[kind]["each"]) for entry in entries]))
        else:
            found.append((kind, value))
        offset += (length + 3) & ~3
    return sorted(found)


def elements(payload: bytes) -> list[bytes]:
    found = []
    offset = 0
    while offset < len(payload):
        length = int.from_bytes(payload[offset : offset + 2], "little")
        found.append(payload[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


def as_pyroute2(peer: WgPeer) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "public_key": text(peer.public_key),
        "preshared_key": NO_PSK,
        "persistent_keepalive": peer.keepalive_s,
        "replace_allowed_ips": True,
        "allowed_ips": list(peer.allowed_ips),
    }
    if peer.endpoint:
        fields |= {"endpoint_addr": peer.endpoint.address, "endpoint_port": peer.endpoint.port}
    return fields


def keys(peers: list[WgPeer]) -> list[WgPublicKey]:
    return [peer.public_key for peer in peers]


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


# Its methods that build messages use each other and nothing of a socket.
FAKE_SOCKET = AsyncWireGuard.__new__(AsyncWireGuard)
