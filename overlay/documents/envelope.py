"""DSSE v1 envelopes: the exact bytes of a document, their type, and who signed both.

A profile of DSSE: a keyid is required and is the signer's id, which carries the public key, so an
envelope is verified without looking anything up. Whether a signer may say so is `trust`'s question.
"""

from __future__ import annotations

import binascii
import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from overlay.documents.strict import parse_strict
from overlay.errors import Rejected
from overlay.keys import identity
from overlay.keys.bech32m import MAX_TEXT_CHARS
from overlay.keys.identity import SIGNATURE_BYTES, Signer

MAX_PAYLOAD_BYTES = 2 << 20
MAX_SIGNATURES = 16
MAX_PAYLOAD_TYPE_CHARS = 64

_MAX_PAYLOAD_CHARS = 4 * -(-MAX_PAYLOAD_BYTES // 3)
_SIGNATURE_CHARS = 4 * -(-SIGNATURE_BYTES // 3)
_MAX_LAYOUT_BYTES = 4_096  # punctuation, names and white space
MAX_ENVELOPE_BYTES: Final = (
    _MAX_PAYLOAD_CHARS + MAX_SIGNATURES * (MAX_TEXT_CHARS + _SIGNATURE_CHARS) + _MAX_LAYOUT_BYTES
)
_PAYLOAD_TYPE = re.compile(r"application/vnd\.zos\.([a-z]{1,32})\+json")


class Signature(msgspec.Struct, frozen=True):
    """What `keyid` put under the envelope's payload and type."""

    keyid: str
    sig: bytes


class Envelope(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    """A signed document whose signatures may not have been verified; see `verified_signers`."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    @property
    def kind(self) -> str:
        """What the payload is: "network" for application/vnd.zos.network+json."""
        return parse_payload_type(self.payload_type)


def payload_type(kind: str) -> str:
    """The payload type of a kind of document."""
    return f"application/vnd.zos.{kind}+json"


def parse_payload_type(text: str) -> str:
    """The kind that a payload type names. Raises Rejected when it names none."""
    match = _PAYLOAD_TYPE.fullmatch(text)
    if match is None:
        raise Rejected("is not application/vnd.zos.<kind>+json", field="payloadType")
    return match[1]


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed (DSSE protocol.md, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, payload_type: str, *signers: Signer) -> Envelope:
    """The payload signed by all signers. Raises Rejected when no envelope may hold it."""
    message = pre_authentication_encoding(payload_type, payload)
    signatures = sorted((signer.id, signer.sign(message)) for signer in signers)
    envelope = Envelope(payload_type, payload, tuple(Signature(*s) for s in signatures))
    _check(envelope)
    return envelope


def encode_envelope(envelope: Envelope) -> bytes:
    """The one text of an envelope that is stored, sent and compared."""
    return msgspec.json.encode(envelope)


def parse_envelope(raw: bytes) -> Envelope:
    """The envelope in `raw`, well formed but not verified. Raises Rejected, and nothing else."""
    wire = parse_strict(raw, _WireEnvelope, max_bytes=MAX_ENVELOPE_BYTES, what="envelope")
    signatures = (
        Signature(signature.keyid, _base64(signature.sig, f"signatures[{n}].sig"))
        for n, signature in enumerate(wire.signatures)
    )
    envelope = Envelope(wire.payload_type, _base64(wire.payload, "payload"), tuple(signatures))
    _check(envelope)
    return envelope


def verified_signers(envelope: Envelope) -> frozenset[str]:
    """The ids of everybody who signed. Raises Rejected when one signature does not hold.

    DSSE lets a verifier skip bad signatures; here one spoils the envelope, so that nobody can hang
    something unverified onto what others signed.
    """
    _check(envelope)
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    for n, signature in enumerate(envelope.signatures):
        try:
            identity.verify(signature.keyid, message, signature.sig)
        except Rejected as exc:
            raise type(exc)(exc.message, field=f"signatures[{n}]", remedy=exc.remedy) from exc
    return frozenset(signature.keyid for signature in envelope.signatures)


class _WireSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    keyid: Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
    sig: Annotated[str, Meta(min_length=_SIGNATURE_CHARS, max_length=_SIGNATURE_CHARS)]


class _WireEnvelope(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"payload_type": "payloadType"},
):
    payload_type: Annotated[str, Meta(max_length=MAX_PAYLOAD_TYPE_CHARS)]
    payload: Annotated[str, Meta(max_length=_MAX_PAYLOAD_CHARS)]
    signatures: Annotated[tuple[_WireSignature, ...], Meta(min_length=1, max_length=MAX_SIGNATURES)]


def _check(envelope: Envelope) -> None:
    parse_payload_type(envelope.payload_type)
    if len(envelope.payload) > MAX_PAYLOAD_BYTES:
        raise Rejected(
            f"{len(envelope.payload)} bytes are more than {MAX_PAYLOAD_BYTES}", field="payload"
        )
    if not 1 <= len(envelope.signatures) <= MAX_SIGNATURES:
        raise Rejected(f"there must be 1 to {MAX_SIGNATURES}", field="signatures")
    seen: set[str] = set()
    for n, signature in enumerate(envelope.signatures):
        field = f"signatures[{n}].keyid"
        identity.parse_id(
            identity.kind_of(signature.keyid, field=field), signature.keyid, field=field
        )
        if len(signature.sig) != SIGNATURE_BYTES:
            raise Rejected(
                f"is not of {SIGNATURE_BYTES} bytes but of {len(signature.sig)}",
                field=f"signatures[{n}].sig",
            )
        if signature.keyid in seen:
            raise Rejected("signed twice", field=field)
        seen.add(signature.keyid)


def _base64(text: str, field: str) -> bytes:
    # Standard alphabet, padded, spare bits zero: one text for one sequence of bytes (RFC 4648 3.5).
    try:
        raw = binascii.a2b_base64(text)
    except ValueError as exc:
        raise Rejected("is not base64", field=field) from exc
    if binascii.b2a_base64(raw, newline=False).decode("ascii") != text:
        raise Rejected("is not canonical base64", field=field)
    return raw
