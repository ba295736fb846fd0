"""WireGuard keys: X25519 pairs, and the pair whose owner can prove that it is theirs.

X25519 cannot sign, so anybody could publish somebody else's WireGuard key as their own. A node
therefore makes an ed25519 key per network resource and uses its X25519 form in WireGuard: the
ed25519 form (`wg1...`) goes into the member document and signs it.
"""

from __future__ import annotations

import binascii
from functools import lru_cache
from typing import Final, NoReturn, final

from nacl.bindings import (
    crypto_scalarmult,
    crypto_scalarmult_base,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
)
from nacl.exceptions import CryptoError

from overlay.errors import Rejected
from overlay.keys.identity import MAX_CACHED_IDS, Identity, Kind, parse_id
from overlay.model import DeviceId, WgPublicKey

KEY_BYTES = 32
KEY_CHARS = 44  # base64 of 32 bytes

_FIELD_PRIME = 2**255 - 19
_PROBE = (1 << 254).to_bytes(KEY_BYTES, "little")  # a valid scalar, a multiple of every small order


@lru_cache(maxsize=MAX_CACHED_IDS)
def wireguard_public_key(device: str, *, field: str | None = None) -> WgPublicKey:
    """The WireGuard public key of a `wg1...` id. Raises Rejected when it is none.

    A point and its negative share one X25519 form, so two ids may give one key: whether two members
    use the same key is decided on the result, never on the ids (KEY-008).
    """
    try:
        return _montgomery_form(parse_id(Kind.WG, device, field=field))
    except CryptoError:
        raise Rejected(f"{device} is no ed25519 public key", field=field) from None


def parse_public_key(text: str, *, field: str | None = None) -> WgPublicKey:
    """A WireGuard public key from its base64 text. Raises Rejected unless canonical (KEY-009)."""
    return check_public_key(decode_key(text, field=field), field=field)


def decode_key(text: str, *, field: str | None = None) -> bytes:
    """The 32 bytes of a key's one base64 text. Raises Rejected.

    Enough to compare it with known keys; whether it is good to encrypt with costs a product.
    """
    remedy = "paste the 44 characters that `wg pubkey` prints"
    if len(text) != KEY_CHARS:
        raise Rejected(f"a WireGuard key has {KEY_CHARS} characters", field=field, remedy=remedy)
    try:
        raw = binascii.a2b_base64(text)
    except ValueError as exc:
        raise Rejected("this WireGuard key is not base64", field=field, remedy=remedy) from exc
    if format_key(raw) != text or len(raw) != KEY_BYTES:
        raise Rejected("this WireGuard key is not canonical", field=field, remedy=remedy)
    return raw


def check_public_key(raw: bytes, *, field: str | None = None) -> WgPublicKey:
    """The same bytes, known to be a usable public key. Raises Rejected (KEY-009)."""
    if len(raw) != KEY_BYTES:
        raise Rejected(f"a WireGuard key has {KEY_BYTES} bytes, not {len(raw)}", field=field)
    # WireGuard tells peers apart by these bytes but ignores bit 255 and reduces the rest (RFC 7748
    # section 5): a second spelling would be a second peer with the same key.
    if int.from_bytes(raw, "little") >= _FIELD_PRIME:
        raise Rejected("this WireGuard key is not canonical", field=field)
    try:
        crypto_scalarmult(_PROBE, raw)
    except CryptoError:
        raise Rejected("this WireGuard key protects nothing: small order", field=field) from None
    return WgPublicKey(raw)


def format_key(raw: bytes) -> str:
    """Base64 text of a key, as `wg` prints it."""
    return binascii.b2a_base64(raw, newline=False).decode("ascii")


@final
class WireGuardKey:
    """A plain X25519 pair, as an access device uses it. Its private half is never printed."""

    __slots__ = ("_private", "public_key")

    def __init__(self, private: bytes) -> None:
        if len(private) != KEY_BYTES:
            raise Rejected(f"a private key has {KEY_BYTES} bytes, not {len(private)}")
        self._private: Final = _clamped(private)
        self.public_key: Final = WgPublicKey(crypto_scalarmult_base(self._private))

    def reveal(self) -> bytes:
        """The private half, clamped as `wg genkey` does."""
        return self._private

    def __repr__(self) -> str:
        return f"WireGuardKey({format_key(self.public_key)}, <hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is neither copied nor pickled")


@final
class DeviceKey:
    """The key of one network resource: signs as `wg1...`, encrypts as a WireGuard key."""

    __slots__ = ("_identity", "id", "public_key")

    def __init__(self, identity: Identity) -> None:
        if identity.kind is not Kind.WG:
            raise Rejected(f"expected a {Kind.WG}1... key, got {identity.id}")
        self._identity: Final = identity
        self.id: Final = DeviceId(identity.id)
        self.public_key: Final = _montgomery_form(identity.public_key)

    @classmethod
    def from_seed(cls, seed: bytes) -> DeviceKey:
        return cls(Identity(Kind.WG, seed))

    @property
    def identity(self) -> Identity:
        """The same key as it signs."""
        return self._identity

    def sign(self, message: bytes) -> bytes:
        return self._identity.sign(message)

    def reveal(self) -> bytes:
        """The X25519 private key for the WireGuard device, clamped."""
        seed_and_public = self._identity.reveal() + self._identity.public_key
        return crypto_sign_ed25519_sk_to_curve25519(seed_and_public)

    def __repr__(self) -> str:
        return f"DeviceKey({self.id}, <hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is neither copied nor pickled")


def wireguard_form(ed25519_public_key: bytes) -> bytes:
    """The WireGuard key of who signs with this key; empty when it is no key to sign with."""
    try:
        return _montgomery_form(ed25519_public_key)
    except (CryptoError, ValueError):
        return b""


@lru_cache(maxsize=MAX_CACHED_IDS)
def _montgomery_form(ed25519_public_key: bytes) -> WgPublicKey:
    # libsodium refuses what is not on the curve and outside its prime-order subgroup.
    return WgPublicKey(crypto_sign_ed25519_pk_to_curve25519(ed25519_public_key))


def _clamped(scalar: bytes) -> bytes:
    # RFC 7748 section 5: multiple of 8, bit 254 set, bit 255 clear.
    return bytes([scalar[0] & 248, *scalar[1:31], scalar[31] & 127 | 64])
