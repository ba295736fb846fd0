"""One question to a relay over UDP: does anything come back? (NODE-083). Pure.

It is WireGuard's initiation, for a relay answers nothing else, and nobody but its members. It asks
from a port of its own and is never followed by a keepalive, so the relay moves nobody for it.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_scalarmult
from nacl.exceptions import CryptoError

from overlay.keys.wireguard import WireGuardKey
from overlay.model import WgPublicKey
from overlay.relay import messages
from overlay.relay.messages import NO_MAC, CookieReply, Initiation, Response
from overlay.relay.noise import CHAIN, HASH, StaticKey, kdf, mix, nonce

TAI64_EPOCH = (1 << 62) + 10  # TAI64 of 1970-01-01T00:00:00Z
# Older than any handshake of the device's that follows, which the relay would refuse otherwise.
BEFORE_S = 1.0


def make_question(
    key: StaticKey, relay: WgPublicKey, *, ephemeral: WireGuardKey, index: int, wall: float
) -> bytes | None:
    """The datagram; None when the relay's key protects nothing. `wall`: Unix time."""
    public = ephemeral.public_key
    hash = mix(mix(HASH, relay), public)
    chain = kdf(CHAIN, public, 1)[0]
    try:
        chain, secret = kdf(chain, crypto_scalarmult(ephemeral.reveal(), relay), 2)
        static = ChaCha20Poly1305(secret).encrypt(nonce(0), key.public_key, hash)
        hash = mix(hash, static)
        chain, secret = kdf(chain, crypto_scalarmult(key.reveal(), relay), 2)
    except CryptoError:
        return None
    stamp = ChaCha20Poly1305(secret).encrypt(nonce(0), _tai64n(wall - BEFORE_S), hash)
    packet = messages.build(Initiation(index, public, static, stamp, NO_MAC, NO_MAC))
    return messages.with_mac1(packet, messages.mac1_key(relay))


def is_answer(packet: bytes, *, own: WgPublicKey, index: int) -> bool:
    """Whether it answers the question of this index. A busy relay's cookie is an answer, too."""
    match messages.parse(packet):
        case Response(receiver=receiver):
            return receiver == index and messages.has_mac1(packet, messages.mac1_key(own))
        case CookieReply(receiver=receiver):
            return receiver == index
    return False


def _tai64n(wall: float) -> bytes:
    """As WireGuard writes it: the nanoseconds without their lowest 24 bits."""
    seconds = int(wall)
    nanoseconds = int((wall - seconds) * 1e9) & ~0xFFFFFF
    return (TAI64_EPOCH + seconds).to_bytes(8) + nanoseconds.to_bytes(4)
