"""Netlink messages of the kernel's WireGuard to and from values.

include/uapi/linux/{netlink,genetlink,wireguard}.h. A message is a header and attributes; an
attribute is its length, its type and a payload, padded to 4 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

import msgspec

from overlay.addressing import packed, unpacked
from overlay.errors import Unavailable
from overlay.model import Address, Endpoint, PeerTraffic, Prefix, WgDevice, WgPeer, WgPublicKey

FAMILY_NAME = "wireguard"

# The length of an attribute has 16 bits and one attribute holds all peers of a message.
MAX_PEERS_BYTES = 32 * 1024
MAX_ALLOWED_IPS_PER_PART = 512  # 40 bytes each: one part of one peer fits, too

_AF_INET, _AF_INET6 = 2, 10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_F_REQUEST, _F_ACK, _F_DUMP, _F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
_F_EXCL, _F_CREATE = 0x200, 0x400
_RTM_NEWLINK = 16
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 18, 1
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 0x10, 3, 1, 2
_CMD_GET_DEVICE, _CMD_SET_DEVICE, _VERSION = 0, 1, 1
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF
_REMOVE_ME, _REPLACE_ALLOWED_IPS = 1, 2
_NO_PRESHARED_KEY = bytes(32)

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")


class _Device(IntEnum):
    IFNAME = 2
    PRIVATE_KEY = 3
    PUBLIC_KEY = 4
    LISTEN_PORT = 6
    PEERS = 8


class _Peer(IntEnum):
    PUBLIC_KEY = 1
    PRESHARED_KEY = 2
    FLAGS = 3
    ENDPOINT = 4
    KEEPALIVE = 5
    LAST_HANDSHAKE = 6
    RX_BYTES = 7
    TX_BYTES = 8
    ALLOWED_IPS = 9


class _AllowedIp(IntEnum):
    FAMILY = 1
    ADDRESS = 2
    LENGTH = 3


class Message(NamedTuple):
    """One netlink message as it arrived."""

    kind: int
    flags: int
    sequence: int
    payload: bytes

    @property
    def is_last(self) -> bool:
        return self.kind in (_NLMSG_ERROR, _NLMSG_DONE)

    @property
    def is_interrupted(self) -> bool:
        """The device changed while it was dumped: the parts do not fit together."""
        return bool(self.flags & _F_DUMP_INTR)

    @property
    def errno(self) -> int:
        """The error an acknowledgement or the end of a dump carries; 0 for success."""
        if not self.is_last or len(self.payload) < _ERROR.size:
            return 0
        return -int(_ERROR.unpack_from(self.payload)[0])


def parse_messages(datagram: bytes) -> Iterator[Message]:
    """The messages in what one receive gave. Raises Unavailable when it is cut short."""
    offset = 0
    while offset < len(datagram):
        if offset + _HEADER.size > len(datagram):
            raise Unavailable("a netlink message is cut short")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size or offset + length > len(datagram):
            raise Unavailable("a netlink message is cut short")
        yield Message(kind, flags, sequence, datagram[offset + _HEADER.size : offset + length])
        offset += length + 3 & ~3


def encode_new_link(name: str) -> bytes:
    """Ask for a link `name` of kind wireguard."""
    kind = _attribute(_IFLA_INFO_KIND, b"wireguard\0")
    body = bytes(16) + _attribute(_IFLA_IFNAME, _text(name)) + _attribute(_IFLA_LINKINFO, kind)
    return _message(_RTM_NEWLINK, _F_ACK | _F_CREATE | _F_EXCL, body)


def encode_get_family() -> bytes:
    """Ask for the message type under which the kernel's WireGuard listens."""
    name = _attribute(_CTRL_ATTR_FAMILY_NAME, _text(FAMILY_NAME))
    return _message(_GENL_ID_CTRL, _F_ACK, _GENERIC.pack(_CTRL_CMD_GETFAMILY, 1, 0) + name)


def parse_family(payload: bytes) -> int:
    with _understood():
        fields = dict(_attributes(payload, _GENERIC.size))
        return int.from_bytes(fields[_CTRL_ATTR_FAMILY_ID], "little")


def encode_get(family: int, link: str) -> bytes:
    """Ask for the device with all its peers."""
    return _message(family, _F_DUMP, _device_head(_CMD_GET_DEVICE, link))


def encode_set(
    family: int,
    link: str,
    *,
    private_key: bytes | None = None,
    listen_port: int | None = None,
    put: Sequence[WgPeer] = (),
    drop: Iterable[WgPublicKey] = (),
) -> Iterator[bytes]:
    """Requests that make the change, in order; none when there is nothing to change."""
    settings = b""
    if private_key is not None:
        settings += _attribute(_Device.PRIVATE_KEY, private_key)
    if listen_port is not None:
        settings += _attribute(_Device.LISTEN_PORT, struct.pack("=H", listen_port))
    head = _device_head(_CMD_SET_DEVICE, link)
    for batch in _batches(_peer_parts(put, drop)):
        peers = _attribute(_Device.PEERS | _NESTED, _list(batch))
        yield _message(family, _F_ACK, head + settings + peers)
        settings = b""
    if settings:
        yield _message(family, _F_ACK, head + settings)


def parse_device(
    payloads: Iterable[bytes], *, known: Mapping[bytes, WgPeer]
) -> tuple[WgDevice, dict[bytes, WgPeer]]:
    """The device in the parts of a dump, and what to pass as `known` the next time.

    Most peers of a large device are idle, so their bytes are the same every time: they are looked
    up instead of parsed. A peer may go on in the next part, with its key and more allowed IPs.
    """
    public_key, listen_port = None, 0
    parsed: dict[bytes, WgPeer] = {}
    peers: dict[WgPublicKey, WgPeer] = {}
    with _understood():
        for kind, value in _device_attributes(payloads):
            if kind == _Device.PUBLIC_KEY:
                public_key = WgPublicKey(value)
            elif kind == _Device.LISTEN_PORT:
                listen_port = int.from_bytes(value, "little")
            elif kind == _Device.PEERS:
                for _, chunk in _attributes(value):
                    peer = known.get(chunk) or _parse_peer(chunk)
                    parsed[chunk] = peer
                    key = peer.public_key
                    peers[key] = _joined(peers[key], peer) if key in peers else peer
    return WgDevice(public_key, listen_port, peers), parsed


def parse_traffic(payloads: Iterable[bytes]) -> dict[WgPublicKey, PeerTraffic]:
    """Bytes received and sent by every peer in the parts of a dump."""
    traffic = {}
    with _understood():
        lists = (value for kind, value in _device_attributes(payloads) if kind == _Device.PEERS)
        for _, chunk in chain.from_iterable(map(_attributes, lists)):
            fields = dict(_attributes(chunk))
            if _Peer.RX_BYTES in fields:  # else the rest of a peer that was counted
                rx, tx = fields[_Peer.RX_BYTES], fields[_Peer.TX_BYTES]
                traffic[WgPublicKey(fields[_Peer.PUBLIC_KEY])] = PeerTraffic(
                    int.from_bytes(rx, "little"), int.from_bytes(tx, "little")
                )
    return traffic


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, struct.error) as exc:
        raise Unavailable("the kernel's WireGuard speaks another dialect of netlink") from exc


def _device_attributes(payloads: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    return chain.from_iterable(_attributes(payload, _GENERIC.size) for payload in payloads)


def _joined(first: WgPeer, rest: WgPeer) -> WgPeer:
    allowed_ips = tuple(sorted({*first.allowed_ips, *rest.allowed_ips}))
    return msgspec.structs.replace(first, allowed_ips=allowed_ips)


def _parse_peer(chunk: bytes) -> WgPeer:
    fields = dict(_attributes(chunk))
    allowed_ips: tuple[Prefix, ...] = ()
    # With a preshared key it is not a peer that we wrote, see WGD-007.
    if fields.get(_Peer.PRESHARED_KEY, _NO_PRESHARED_KEY) == _NO_PRESHARED_KEY:
        entries = _attributes(fields.get(_Peer.ALLOWED_IPS, b""))
        allowed_ips = tuple(sorted(_parse_prefix(entry) for _, entry in entries))
    endpoint = fields.get(_Peer.ENDPOINT)
    return WgPeer(
        public_key=WgPublicKey(fields[_Peer.PUBLIC_KEY]),
        allowed_ips=allowed_ips,
        endpoint=_parse_endpoint(endpoint) if endpoint else None,
        keepalive_s=int.from_bytes(fields.get(_Peer.KEEPALIVE, b""), "little"),
        latest_handshake=int.from_bytes(fields.get(_Peer.LAST_HANDSHAKE, b"")[:8], "little"),
    )


def _parse_prefix(entry: bytes) -> Prefix:
    fields = dict(_attributes(entry))
    return Prefix(f"{unpacked(fields[_AllowedIp.ADDRESS])}/{fields[_AllowedIp.LENGTH][0]}")


def _parse_endpoint(sockaddr: bytes) -> Endpoint:
    family, port = struct.unpack_from("=H", sockaddr)[0], int.from_bytes(sockaddr[2:4], "big")
    return Endpoint(unpacked(sockaddr[4:8] if family == _AF_INET else sockaddr[8:24]), port)


def _peer_parts(put: Sequence[WgPeer], drop: Iterable[WgPublicKey]) -> Iterator[bytes]:
    remove = _attribute(_Peer.FLAGS, struct.pack("=I", _REMOVE_ME))
    for key in drop:
        yield _attribute(_Peer.PUBLIC_KEY, key) + remove
    for peer in put:
        yield from _put_parts(peer)


def _put_parts(peer: WgPeer) -> Iterator[bytes]:
    key = _attribute(_Peer.PUBLIC_KEY, peer.public_key)
    yield (
        key
        + _attribute(_Peer.PRESHARED_KEY, _NO_PRESHARED_KEY)
        + _attribute(_Peer.FLAGS, struct.pack("=I", _REPLACE_ALLOWED_IPS))
        + (_attribute(_Peer.ENDPOINT, _sockaddr(peer.endpoint)) if peer.endpoint else b"")
        + _attribute(_Peer.KEEPALIVE, struct.pack("=H", peer.keepalive_s))
        + _allowed_ips(peer.allowed_ips[:MAX_ALLOWED_IPS_PER_PART])
    )
    for start in range(MAX_ALLOWED_IPS_PER_PART, len(peer.allowed_ips), MAX_ALLOWED_IPS_PER_PART):
        yield key + _allowed_ips(peer.allowed_ips[start : start + MAX_ALLOWED_IPS_PER_PART])


def _allowed_ips(prefixes: Sequence[Prefix]) -> bytes:
    return _attribute(_Peer.ALLOWED_IPS | _NESTED, _list(map(_allowed_ip, prefixes)))


def _allowed_ip(prefix: Prefix) -> bytes:
    text, _, length = prefix.partition("/")
    address = packed(Address(text))
    family = _AF_INET if len(address) == 4 else _AF_INET6
    return (
        _attribute(_AllowedIp.FAMILY, struct.pack("=H", family))
        + _attribute(_AllowedIp.ADDRESS, address)
        + _attribute(_AllowedIp.LENGTH, bytes([int(length)]))
    )


def _sockaddr(endpoint: Endpoint) -> bytes:
    address, port = packed(endpoint.address), endpoint.port.to_bytes(2, "big")
    if len(address) == 4:
        return struct.pack("=H2s4s8x", _AF_INET, port, address)
    return struct.pack("=H2s4x16s4x", _AF_INET6, port, address)


def _batches(parts: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for part in parts:
        if batch and size + len(part) > MAX_PEERS_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += len(part)
    if batch:
        yield batch


def _device_head(command: int, link: str) -> bytes:
    return _GENERIC.pack(command, _VERSION, 0) + _attribute(_Device.IFNAME, _text(link))


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _F_REQUEST | flags, 0, 0) + body


def _attribute(kind: int, payload: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def _attributes(payload: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    unpack, end = _ATTRIBUTE.unpack_from, len(payload)
    while offset + 4 <= end:
        length, kind = unpack(payload, offset)
        if length < 4 or offset + length > end:
            raise Unavailable("a netlink attribute is cut short")
        yield kind & _TYPE_MASK, payload[offset + 4 : offset + length]
        offset += length + 3 & ~3


def _list(elements: Iterable[bytes]) -> bytes:
    return b"".join(_attribute(index | _NESTED, each) for index, each in enumerate(elements))


def _text(name: str) -> bytes:
    return name.encode() + b"\0"
