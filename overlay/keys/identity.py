"""Ed25519 identities: ids as text, signatures, and the private keys that make them.

A public key is checked when its id is parsed, so that one id is one key and no id is a key for
which anybody can sign. Randomness comes in as an argument.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final, NoReturn, Protocol, final

from nacl.bindings import (
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from overlay.errors import Refused, Rejected
from overlay.keys import bech32m

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
NETWORK_ID_BYTES = 20
NETWORK_PREFIX = "net"
MAX_CACHED_IDS = 32_768  # three times the members of the largest network; some 8 MB


_FIELD_PRIME = 2**255 - 19
_ORDER_8 = int("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16)
# The y coordinates of the eight points whose order divides 8 (RFC 7748 section 6.1 calls for the
# check; the points are those of the curve's cofactor): signatures for them can be made by anybody.
_SMALL_ORDER_Y = frozenset({0, 1, _FIELD_PRIME - 1, _ORDER_8, _FIELD_PRIME - _ORDER_8})


class Kind(StrEnum):
    """What an ed25519 key stands for; the prefix of its id."""

    NODE = "node"
    TENANT = "tenant"
    FARM = "farm"
    INVITE = "invite"
    REGISTRY = "registry"
    WG = "wg"


class Signer(Protocol):
    """Whoever can put a signature under a message."""

    @property
    def id(self) -> str: ...

    def sign(self, message: bytes) -> bytes: ...


def parse_id(kind: Kind, text: str, *, field: str | None = None) -> bytes:
    """The public key in an id of this kind. Raises Rejected naming what is wrong (KEY-002)."""
    try:
        return _public_key(kind, text)
    except Rejected as exc:
        raise Rejected(exc.message, field=field, remedy=exc.remedy) from exc


def kind_of(text: str, *, field: str | None = None) -> Kind:
    """The kind that the prefix of an id says. Raises Rejected for an unknown prefix."""
    prefix = text[: bech32m.MAX_TEXT_CHARS].rpartition("1")[0]
    try:
        return Kind(prefix)
    except ValueError:
        known = ", ".join(f"{kind}1..." for kind in Kind)
        raise Rejected(f"{bech32m.quoted(text)} is none of {known}", field=field) from None


def format_id(kind: Kind, public_key: bytes) -> str:
    """Text of an id."""
    return bech32m.encode(kind, _checked_size(public_key, PUBLIC_KEY_BYTES, "public key"))


def parse_network_id(text: str, *, field: str | None = None) -> str:
    """`text`, known to be `net1...`: a hash, not a key. Raises Rejected naming what is wrong."""
    try:
        bech32m.parse(text, prefix=NETWORK_PREFIX, size_bytes=NETWORK_ID_BYTES)
    except Rejected as exc:
        raise Rejected(exc.message, field=field, remedy=exc.remedy) from exc
    return text


def format_network_id(digest: bytes) -> str:
    """Text of a network id."""
    return bech32m.encode(NETWORK_PREFIX, _checked_size(digest, NETWORK_ID_BYTES, "network id"))


def verify(signer: str, message: bytes, signature: bytes) -> None:
    """Returns when `signature` is the signer's under `message`, else raises Rejected.

    No second signature can be made from a known one (KEY-004): libsodium refuses an S that is not
    below the group order, and small orders in R and in the key.
    """
    public_key = parse_id(kind_of(signer), signer)
    _checked_size(signature, SIGNATURE_BYTES, "signature")
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        raise Refused(f"the signature of {signer} does not match") from None


@final
class Identity:
    """A private key with its id. It is neither printed, compared, copied nor pickled (KEY-005)."""

    __slots__ = ("_secret", "id", "kind", "public_key")

    def __init__(self, kind: Kind, seed: bytes) -> None:
        public_key, secret = crypto_sign_seed_keypair(
            _checked_size(seed, SEED_BYTES, "private key")
        )
        self.kind: Final = kind
        self.public_key: Final[bytes] = public_key
        self.id: Final = format_id(kind, public_key)
        self._secret: Final[bytes] = secret  # the seed, then the public key

    @classmethod
    def from_seed(cls, kind: Kind, seed: bytes) -> Identity:
        """The identity of a 32-byte seed, which must come from a good random source."""
        return cls(kind, seed)

    def sign(self, message: bytes) -> bytes:
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def reveal(self) -> bytes:
        """The 32-byte seed."""
        return self._secret[:SEED_BYTES]

    def __repr__(self) -> str:
        return f"Identity({self.id}, <hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is neither copied nor pickled")


@lru_cache(maxsize=MAX_CACHED_IDS)
def _public_key(kind: Kind, text: str) -> bytes:
    public_key = bech32m.parse(text, prefix=kind, size_bytes=PUBLIC_KEY_BYTES)
    y = int.from_bytes(public_key, "little") & (1 << 255) - 1
    if y >= _FIELD_PRIME or y in _SMALL_ORDER_Y:
        raise Rejected(f"{bech32m.quoted(text)} is no ed25519 public key")
    return public_key


def _checked_size(raw: bytes, size_bytes: int, what: str) -> bytes:
    if len(raw) != size_bytes:
        raise Rejected(f"a {what} has {size_bytes} bytes, not {len(raw)}")
    return raw
