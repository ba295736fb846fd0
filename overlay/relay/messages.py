"""WireGuard's four messages as values, and what their macs prove (WireGuard paper, section 5.4).

Nothing here raises over what came from outside: what is no message is None.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from hmac import compare_digest

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from overlay.model import WgPublicKey

INITIATION_BYTES = 148
RESPONSE_BYTES = 92
COOKIE_REPLY_BYTES = 64
DATA_MIN_BYTES = 32  # a keepalive: the header and the tag of nothing
DATA_MAX_BYTES = 9_216  # what a jumbo frame holds, and some
MAC_BYTES = 16
COOKIE_NONCE_BYTES = 24
NO_MAC = bytes(MAC_BYTES)

# The type is one byte and three reserved ones; everybody reads them as one little-endian number.
INITIATION, RESPONSE, COOKIE_REPLY, DATA = 1, 2, 3, 4

_INITIATION = struct.Struct("<II32s48s28s16s16s")
_RESPONSE = struct.Struct("<III32s16s16s16s")
_COOKIE_REPLY = struct.Struct("<II24s32s")
_DATA = struct.Struct("<IIQ")
_LABEL_MAC1 = b"mac1----"
_LABEL_COOKIE = b"cookie--"
_SIZES = {
    INITIATION: INITIATION_BYTES,
    RESPONSE: RESPONSE_BYTES,
    COOKIE_REPLY: COOKIE_REPLY_BYTES,
}


@dataclass(frozen=True, slots=True)
class Initiation:
    """`sender` wants to talk: who that is, and when it asked, is sealed for the receiver."""

    sender: int
    ephemeral: bytes
    static: bytes
    timestamp: bytes
    mac1: bytes
    mac2: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to the initiation of `receiver`."""

    sender: int
    receiver: int
    ephemeral: bytes
    empty: bytes
    mac1: bytes
    mac2: bytes


@dataclass(frozen=True, slots=True)
class CookieReply:
    """The receiver is busy and wants to hear the same again, with this cookie."""

    receiver: int
    nonce: bytes
    cookie: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """What a tunnel carries, sealed; nothing at all in a keepalive."""

    receiver: int
    counter: int
    sealed: bytes


Message = Initiation | Response | CookieReply | Data


def kind_of(packet: bytes) -> int:
    """INITIATION, RESPONSE, COOKIE_REPLY or DATA by type and length; 0 for what is none."""
    kind = int.from_bytes(packet[:4], "little")
    if kind == DATA:
        return DATA if DATA_MIN_BYTES <= len(packet) <= DATA_MAX_BYTES else 0
    return kind if _SIZES.get(kind) == len(packet) else 0


def parse(packet: bytes) -> Message | None:
    """The message in a datagram; None for everything else."""
    match kind_of(packet):
        case 1:
            return initiation_of(packet)
        case 2:
            return Response(*_RESPONSE.unpack(packet)[1:])
        case 3:
            return CookieReply(*_COOKIE_REPLY.unpack(packet)[1:])
        case 4:
            return data_of(packet)
    return None


def initiation_of(packet: bytes) -> Initiation:
    """The message in a datagram of this kind."""
    return Initiation(*_INITIATION.unpack(packet)[1:])


def data_of(packet: bytes) -> Data:
    """The message in a datagram of this kind."""
    _, receiver, counter = _DATA.unpack_from(packet)
    return Data(receiver, counter, packet[_DATA.size :])


def build(message: Message) -> bytes:
    """The datagram of a message, with the macs that it says."""
    match message:
        case Initiation(sender, ephemeral, static, timestamp, mac1, mac2):
            return _INITIATION.pack(INITIATION, sender, ephemeral, static, timestamp, mac1, mac2)
        case Response(sender, receiver, ephemeral, empty, mac1, mac2):
            return _RESPONSE.pack(RESPONSE, sender, receiver, ephemeral, empty, mac1, mac2)
        case CookieReply(receiver, nonce, cookie):
            return _COOKIE_REPLY.pack(COOKIE_REPLY, receiver, nonce, cookie)
        case Data(receiver, counter, sealed):
            return _DATA.pack(DATA, receiver, counter) + sealed


def mac1_key(receiver: WgPublicKey) -> bytes:
    """What the mac1 of every handshake message to `receiver` is keyed with; no secret."""
    return hashlib.blake2s(_LABEL_MAC1 + receiver).digest()


def has_mac1(packet: bytes, key: bytes) -> bool:
    """Whether a handshake message is for the receiver of this `mac1_key`."""
    mac = hashlib.blake2s(packet[: -2 * MAC_BYTES], key=key, digest_size=MAC_BYTES).digest()
    return compare_digest(mac, packet[-2 * MAC_BYTES : -MAC_BYTES])


def with_mac1(packet: bytes, key: bytes) -> bytes:
    """The same handshake message with its mac1 and without a mac2."""
    body = packet[: -2 * MAC_BYTES]
    return body + hashlib.blake2s(body, key=key, digest_size=MAC_BYTES).digest() + NO_MAC


def make_cookie(place: bytes, *, secret: bytes) -> bytes:
    """What proves that somebody hears what is sent to `place`, as long as `secret` lives."""
    return hashlib.blake2s(place, key=secret, digest_size=MAC_BYTES).digest()


def has_mac2(packet: bytes, cookie: bytes) -> bool:
    mac = hashlib.blake2s(packet[:-MAC_BYTES], key=cookie, digest_size=MAC_BYTES).digest()
    return compare_digest(mac, packet[-MAC_BYTES:])


def with_mac2(packet: bytes, cookie: bytes) -> bytes:
    body = packet[:-MAC_BYTES]
    return body + hashlib.blake2s(body, key=cookie, digest_size=MAC_BYTES).digest()


def cookie_key(sender: WgPublicKey) -> bytes:
    """What the cookie replies of `sender` are sealed with; no secret."""
    return hashlib.blake2s(_LABEL_COOKIE + sender).digest()


def seal_cookie(initiation: Initiation, cookie: bytes, *, key: bytes, nonce: bytes) -> CookieReply:
    """The reply that only who has seen `initiation` can open. `nonce`: random, never used again."""
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(cookie, initiation.mac1, nonce, key)
    return CookieReply(initiation.sender, nonce, sealed)


def open_cookie(reply: CookieReply, *, mac1: bytes, key: bytes) -> bytes | None:
    """The cookie in a reply to the message with this mac1; None when it is not."""
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(reply.cookie, mac1, reply.nonce, key)
    except CryptoError:
        return None
