"""The answering side of WireGuard's handshake (WireGuard paper, section 5.4): Noise_IKpsk2.

A relay talks to its members in nothing but this: they prove who they are, and their keepalives
prove that they still are where they were. Entropy comes in as an argument.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_scalarmult
from nacl.exceptions import CryptoError

from overlay.keys.wireguard import WireGuardKey
from overlay.model import WgPublicKey
from overlay.relay.messages import NO_MAC, Data, Initiation, Response, build, mac1_key, with_mac1

NO_PRESHARED_KEY = bytes(32)

CHAIN = hashlib.blake2s(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s").digest()
HASH = hashlib.blake2s(CHAIN + b"WireGuard v1 zx2c4 Jason@zx2c4.com").digest()


class StaticKey(Protocol):
    """An X25519 pair, of a node's identity or plain."""

    @property
    def public_key(self) -> WgPublicKey: ...

    def reveal(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """An initiation whose sender has the private half of `initiator`.

    `timestamp` (TAI64N) grows with every initiation of one sender: compare it as bytes.
    """

    initiator: WgPublicKey
    timestamp: bytes
    sender: int
    ephemeral: bytes
    chain: bytes = field(repr=False)
    hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The two ciphers of an established session, as the answering side uses them."""

    receiving: ChaCha20Poly1305 = field(repr=False)
    sending: ChaCha20Poly1305 = field(repr=False)


def open_initiation(message: Initiation, key: StaticKey) -> Opened | None:
    """Who sent an initiation for `key`, and when; None when it is not genuine."""
    private = key.reveal()
    chain = kdf(CHAIN, message.ephemeral, 1)[0]
    hash = mix(mix(HASH, key.public_key), message.ephemeral)
    try:
        chain, secret = kdf(chain, crypto_scalarmult(private, message.ephemeral), 2)
        static = ChaCha20Poly1305(secret).decrypt(nonce(0), message.static, hash)
        hash = mix(hash, message.static)
        chain, secret = kdf(chain, crypto_scalarmult(private, static), 2)
        timestamp = ChaCha20Poly1305(secret).decrypt(nonce(0), message.timestamp, hash)
    except (CryptoError, InvalidTag):  # a point of small order; not sealed for us
        return None
    hash = mix(hash, message.timestamp)
    return Opened(WgPublicKey(static), timestamp, message.sender, message.ephemeral, chain, hash)


def respond(opened: Opened, *, ephemeral: WireGuardKey, index: int) -> tuple[bytes, Tunnel] | None:
    """The response, as a datagram, and the tunnel; `index` is what the initiator will call us.

    `ephemeral` is a new pair for every response. None when the initiator's keys protect nothing.
    """
    private = ephemeral.reveal()
    chain = kdf(opened.chain, ephemeral.public_key, 1)[0]
    hash = mix(opened.hash, ephemeral.public_key)
    try:
        chain = kdf(chain, crypto_scalarmult(private, opened.ephemeral), 1)[0]
        chain = kdf(chain, crypto_scalarmult(private, opened.initiator), 1)[0]
    except CryptoError:
        return None
    chain, temporary, secret = kdf(chain, NO_PRESHARED_KEY, 3)
    empty = ChaCha20Poly1305(secret).encrypt(nonce(0), b"", mix(hash, temporary))
    message = Response(index, opened.sender, ephemeral.public_key, empty, NO_MAC, NO_MAC)
    receiving, sending = kdf(chain, b"", 2)
    packet = with_mac1(build(message), mac1_key(opened.initiator))
    return packet, Tunnel(ChaCha20Poly1305(receiving), ChaCha20Poly1305(sending))


def open_data(tunnel: Tunnel, message: Data) -> bytes | None:
    """What the initiator sealed, nothing in a keepalive; None when it is not genuine.

    Whether this counter was seen before is the caller's to know.
    """
    try:
        return tunnel.receiving.decrypt(nonce(message.counter), message.sealed, None)
    except InvalidTag:
        return None


def mix(hash: bytes, more: bytes) -> bytes:
    """The hash of a handshake so far, and of what comes next."""
    return hashlib.blake2s(hash + more).digest()


def kdf(key: bytes, material: bytes, count: int) -> list[bytes]:
    """HKDF with BLAKE2s: `count` keys of 32 bytes."""
    extracted = hmac.digest(key, material, hashlib.blake2s)
    keys: list[bytes] = []
    for number in range(1, count + 1):
        last = keys[-1] if keys else b""
        keys.append(hmac.digest(extracted, last + bytes([number]), hashlib.blake2s))
    return keys


def nonce(counter: int) -> bytes:
    """As ChaCha20-Poly1305 takes it."""
    return bytes(4) + counter.to_bytes(8, "little")
