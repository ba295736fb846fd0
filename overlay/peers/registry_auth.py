"""Proof of who sends a request to the registry: a short-lived signature over all of it.

Both sides use this module. The signature covers the registry's id, so that no registry can show a
request to another one, and the body, so that nothing of it can be exchanged (specs REG-010 ..).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import datetime
from typing import Final

import msgspec

from overlay.errors import Refused, Rejected
from overlay.keys import identity
from overlay.keys.bech32m import MAX_TEXT_CHARS
from overlay.keys.identity import Kind, Signer

SCHEME: Final = "ZOS-EdDSA"
TOKEN_LIFETIME_S: Final = 60
MAX_HEADER_CHARS: Final = 320
CALLERS: Final = frozenset({Kind.NODE, Kind.TENANT, Kind.FARM, Kind.INVITE})

# Canonical decimal and canonical base64 only: one text for one token.
_HEADER = re.compile(
    rf'{SCHEME} id="([a-z0-9]{{1,{MAX_TEXT_CHARS}}})",time="([1-9][0-9]{{0,15}})"'
    r',signature="([A-Za-z0-9+/]{86}==)"',
    re.ASCII,
)


class Token(msgspec.Struct, frozen=True):
    """An Authorization header, well formed but not verified."""

    id: str
    time_ms: int
    signature: bytes


def request_message(
    *, registry: str, time_ms: int, method: str, target: str, body_sha256: bytes
) -> bytes:
    """The bytes that are signed. `target` is path and query as they stand in the request line."""
    # None of the parts can hold a line feed, and no document's signature starts like this.
    parts = ("zos request", registry, str(time_ms), method, target, body_sha256.hex())
    return "\n".join(parts).encode()


def sign_request(
    signer: Signer, *, registry: str, method: str, target: str, body: bytes, now: datetime
) -> str:
    """The Authorization header of one request."""
    time_ms = int(now.timestamp() * 1000)
    message = request_message(
        registry=registry,
        time_ms=time_ms,
        method=method,
        target=target,
        body_sha256=hashlib.sha256(body).digest(),
    )
    signature = base64.b64encode(signer.sign(message)).decode()
    return f'{SCHEME} id="{signer.id}",time="{time_ms}",signature="{signature}"'


def parse_token(header: str) -> Token:
    """The token in an Authorization header. Raises Rejected, and nothing else."""
    match = _HEADER.fullmatch(header) if len(header) <= MAX_HEADER_CHARS else None
    if match is None:
        raise Rejected(
            "is not a request token",
            field="Authorization",
            remedy=f'send {SCHEME} id="...",time="<unix ms>",signature="<base64>"',
        )
    try:
        signature = binascii.a2b_base64(match[3], strict_mode=True)
    except ValueError as exc:
        raise Rejected("signature is not base64", field="Authorization") from exc
    return Token(match[1], int(match[2]), signature)


def check_fresh(token: Token, *, now: datetime) -> None:
    """Returns when the token was made within its lifetime of `now`, else raises Refused."""
    age_ms = abs(int(now.timestamp() * 1000) - token.time_ms)
    if age_ms > TOKEN_LIFETIME_S * 1000:
        raise Refused(
            f"the request was signed {age_ms // 1000} s away from the registry's clock",
            field="Authorization",
            remedy="set the clock",
        )


def verify_token(
    token: Token, *, registry: str, method: str, target: str, body_sha256: bytes
) -> Kind:
    """The kind of key that sent the request. Raises Rejected when it was not `token.id`."""
    kind = identity.kind_of(token.id, field="Authorization")
    if kind not in CALLERS:
        raise Refused(f"a {kind} key sends no requests", field="Authorization")
    message = request_message(
        registry=registry,
        time_ms=token.time_ms,
        method=method,
        target=target,
        body_sha256=body_sha256,
    )
    try:
        identity.verify(token.id, message, token.signature)
    except Rejected as exc:
        raise type(exc)(exc.message, field="Authorization") from exc
    return kind
