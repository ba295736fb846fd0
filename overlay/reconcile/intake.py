"""From bytes that anybody may have sent to documents that were verified and are on disk.

Nothing gets past this door unsigned, older than what was seen before, or before it is durable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from overlay.documents import schema, trust
from overlay.documents.envelope import Envelope, encode_envelope, parse_envelope
from overlay.documents.trust import Floor, Verified
from overlay.errors import Refused, Rejected
from overlay.peers.cache import Cache


class Intake:
    """Reads envelopes from outside, and from our own disk."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def verify(self, raw: bytes, *, key: str) -> Verified:
        """The document in `raw`, if it is what `key` says, and neither older nor forked.

        Raises Rejected, Refused or Conflict with why. Nothing is stored.
        """
        verified = trust.verify(parse_envelope(raw))
        if verified.key != key:
            raise Refused(f"the document is {verified.key}", field="key")
        trust.is_news(verified, self._cache.floor(key))
        return verified

    def keep(self, verified: Verified, raw: bytes) -> None:
        """The document and its floor are durable when the cache's batch ends."""
        floor = Floor(verified.version, verified.digest)
        self._cache.accept(verified.key, floor=floor, envelope=raw)

    def keep_own(self, envelope: Envelope) -> Verified:
        """A document of our own, just signed. Raises like `verify`: we obey our own rules."""
        raw = encode_envelope(envelope)
        verified = trust.verify(envelope)
        trust.is_news(verified, self._cache.floor(verified.key))
        self.keep(verified, raw)
        return verified

    def next_version(self, key: str) -> int:
        """The version with which a document of our own is news to everybody."""
        floor = self._cache.floor(key)
        return 1 if floor is None else floor.version + 1

    def outdo(self, held: Verified) -> None:
        """What we say next under this key is newer than `held`, which the registry has of us."""
        self._cache.raise_floor(held.key, Floor(held.version, held.digest))

    def own_envelope(self, key: str) -> Envelope | None:
        raw = self._cache.envelope(key)
        return None if raw is None else parse_envelope(raw)

    def stored(self, prefix: str) -> Iterator[tuple[str, Verified | Rejected]]:
        """What is on disk, in the order of the keys, or why it cannot be used.

        It was verified before it was stored, in a file that only we can write. Its digest is
        compared with its floor's: a document that changed on disk is not the one we verified.
        """
        for key, raw in self._cache.envelopes(prefix):
            try:
                yield key, self._stored(key, raw)
            except Rejected as exc:
                yield key, exc

    def _stored(self, key: str, raw: bytes) -> Verified:
        envelope = parse_envelope(raw)
        document = schema.parse_document(envelope.payload, envelope.payload_type)
        verified = Verified(key, document, hashlib.sha256(envelope.payload).digest())
        if trust.document_key(document) != key or self._cache.floor(key) != Floor(
            verified.version, verified.digest
        ):
            raise Rejected(
                f"{key} on disk is not what was verified",
                remedy="the registry sends it again; check the disk",
            )
        return verified
