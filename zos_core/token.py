"""The text that carries an invitation from a tenant to a node: `zosjoin1...`.

It holds the registry's reference, the network's id and the invitation's private key, so whoever
has it can join: it is printed once, by `zos network invite`, and never logged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, NoReturn, final

import msgspec

from overlay.documents import schema
from overlay.errors import Rejected
from overlay.keys.identity import Identity, Kind
from overlay.model import NetworkId

PREFIX = "zosjoin1"
MAX_TOKEN_CHARS = 1_024
MAX_REGISTRY_CHARS = 512
_CHECKSUM_BYTES = 4  # catches a mistyped or cut token; what it may do is decided by signatures
_REMEDY = "paste the whole token that `zos network invite` printed"


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    registry: str
    network: str
    seed: bytes


@final
class Token:
    """An invitation to one network. It shows its private part by `encode` and `invitation` only."""

    __slots__ = ("invitation", "network", "registry")

    def __init__(self, *, registry: str, network: NetworkId, invitation: Identity) -> None:
        self.registry: Final = registry  # https://host:port#registry1...
        self.network: Final = network
        self.invitation: Final = invitation

    def encode(self) -> str:
        """The token as text. A secret."""
        body = msgspec.msgpack.encode(_Body(self.registry, self.network, self.invitation.reveal()))
        raw = body + _checksum(body)
        return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def __repr__(self) -> str:
        return f"Token({self.network}, {self.invitation.id}, <hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is neither copied nor pickled")


def parse_token(text: str) -> Token:
    """The token in `text`. Raises Rejected, never quoting the text."""
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > MAX_TOKEN_CHARS or not text.isascii():
        raise Rejected("this is no join token", field="token", remedy=_REMEDY)
    raw = _raw(text.removeprefix(PREFIX))
    body, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    if _checksum(body) != checksum:
        raise Rejected("the token is damaged or cut", field="token", remedy=_REMEDY)
    try:
        parts = msgspec.msgpack.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeError):
        raise Rejected("the token is damaged", field="token", remedy=_REMEDY) from None
    if not 1 <= len(parts.registry) <= MAX_REGISTRY_CHARS:
        raise Rejected("the token names no registry", field="token", remedy=_REMEDY)
    token = Token(
        registry=parts.registry,
        network=schema.parse_network_id(parts.network, field="token"),
        invitation=Identity.from_seed(Kind.INVITE, parts.seed),
    )
    if token.encode() != text:  # spare bits of base64, longer forms of msgpack
        raise Rejected("the token is damaged", field="token", remedy=_REMEDY)
    return token


def _raw(text: str) -> bytes:
    padded = text + "=" * (-len(text) % 4)
    try:
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("the token is damaged", field="token", remedy=_REMEDY) from None
    return raw


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"zos token\x00" + body).digest()[:_CHECKSUM_BYTES]
