"""The asking side of WireGuard's handshake, written from the paper for tests alone.

It shares no code with overlay/relay: its hashes, ciphers and layouts are its own.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from overlay.keys.wireguard import WireGuardKey


def blake(*parts: bytes) -> bytes:
    return hashlib.blake2s(b"".join(parts)).digest()


def mac(key: bytes, message: bytes) -> bytes:
    return hashlib.blake2s(message, key=key, digest_size=16).digest()


def kdf(chain: bytes, material: bytes) -> tuple[bytes, bytes, bytes]:
    zero = hmac.new(chain, material, hashlib.blake2s).digest()
    one = hmac.new(zero, b"\x01", hashlib.blake2s).digest()
    two = hmac.new(zero, one + b"\x02", hashlib.blake2s).digest()
    return one, two, hmac.new(zero, two + b"\x03", hashlib.blake2s).digest()


def agree(private: WireGuardKey, public: bytes) -> bytes:
    own = X25519PrivateKey.from_private_bytes(private.reveal())
    return own.exchange(X25519PublicKey.from_public_bytes(public))


def tai64n(at: float) -> bytes:
    return struct.pack(">QI", 0x400000000000000A + int(at), int(at % 1 * 1e9))


@dataclass
class Initiator:
    """One peer; deterministic: its ephemeral key is drawn from its number of handshakes."""

    key: WireGuardKey
    responder: bytes
    handshakes: int = 0
    chain: bytes = b""
    hash: bytes = b""
    sending: bytes = field(default=b"", repr=False)
    receiving: bytes = field(default=b"", repr=False)
    peer_index: int = 0
    counter: int = 0
    mac1: bytes = b""

    def initiation(self, at: float, *, index: int, cookie: bytes | None = None) -> bytes:
        self.handshakes += 1
        seed = blake(self.key.reveal(), bytes([self.handshakes % 256]))
        self.ephemeral = WireGuardKey(seed)
        self.index = index
        public = self.ephemeral.public_key
        chain = blake(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
        hash = blake(chain, b"WireGuard v1 zx2c4 Jason@zx2c4.com")
        hash = blake(blake(hash, self.responder), public)
        chain = kdf(chain, public)[0]
        chain, secret, _ = kdf(chain, agree(self.ephemeral, self.responder))
        static = ChaCha20Poly1305(secret).encrypt(bytes(12), self.key.public_key, hash)
        hash = blake(hash, static)
        chain, secret, _ = kdf(chain, agree(self.key, self.responder))
        stamp = ChaCha20Poly1305(secret).encrypt(bytes(12), tai64n(at), hash)
        self.chain, self.hash = chain, blake(hash, stamp)
        body = struct.pack("<II", 1, index) + public + static + stamp
        self.mac1 = mac(blake(b"mac1----", self.responder), body)
        body += self.mac1
        return body + (bytes(16) if cookie is None else mac(cookie, body))

    def finish(self, response: bytes) -> None:
        """Takes a response; raises when anything in it is wrong."""
        kind, sender, receiver = struct.unpack_from("<III", response)
        assert (kind, receiver, len(response)) == (2, self.index, 92)
        assert response[60:76] == mac(blake(b"mac1----", self.key.public_key), response[:60])
        ephemeral, empty = response[12:44], response[44:60]
        chain = kdf(self.chain, ephemeral)[0]
        hash = blake(self.hash, ephemeral)
        chain = kdf(chain, agree(self.ephemeral, ephemeral))[0]
        chain = kdf(chain, agree(self.key, ephemeral))[0]
        chain, temporary, secret = kdf(chain, bytes(32))
        ChaCha20Poly1305(secret).decrypt(bytes(12), empty, blake(hash, temporary))
        self.sending, self.receiving, _ = kdf(chain, b"")
        self.peer_index, self.counter = sender, 0

    def data(self, plain: bytes = b"") -> bytes:
        """The next transport packet; a keepalive by default."""
        nonce = bytes(4) + struct.pack("<Q", self.counter)
        header = struct.pack("<IIQ", 4, self.peer_index, self.counter)
        self.counter += 1
        return header + ChaCha20Poly1305(self.sending).encrypt(nonce, plain, None)
