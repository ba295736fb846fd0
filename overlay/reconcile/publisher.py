"""Own documents on their way to the registry: kept until it has them, whatever happens.

A document is on disk before it is sent, so its version is never used twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from overlay.documents import trust
from overlay.documents.envelope import sign
from overlay.documents.relays import Sighting
from overlay.documents.schema import Member, Node, Result, encode, kind_of, payload_type
from overlay.documents.trust import Verified
from overlay.errors import OverlayError, Unavailable
from overlay.keys.identity import Signer
from overlay.peers.registry import Document as RegistryDocument
from overlay.peers.registry import PublishConflict, RegistryClient
from overlay.ports import Clock
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.intake import Intake

log = logging.getLogger(__name__)

Own = Member | Node | Result | Sighting  # what a node says

REFUSED_AGAIN_S = 60.0  # what the registry refuses is offered again after this time


class Publisher:
    """Signs, stores and sends documents of this node."""

    def __init__(
        self,
        intake: Intake,
        *,
        clock: Clock,
        backoff: Backoff,
        on_conflict: Callable[[RegistryDocument], None],
    ) -> None:
        self._intake = intake
        self._clock = clock
        self._backoff = backoff
        self._on_conflict = on_conflict
        self._client: RegistryClient | None = None
        self._due: dict[str, float] = {}  # when to send what, monotonic
        self._pause_until = 0.0
        self._work = asyncio.Event()
        self._accepted: dict[str, int] = {}  # version that the registry holds
        self.refusals: dict[str, OverlayError] = {}

    def connect(self, client: RegistryClient) -> None:
        """Send to this registry, now: it has just been heard of."""
        self._client = client
        self._pause_until = 0.0
        self._backoff.reset()
        self._work.set()

    def sign(self, document: Own, *signers: Signer) -> Verified:
        """The document as the next version of itself, on disk and on its way."""
        verified = self.store(document, *signers)
        self.offer(verified.key)
        return verified

    def store(self, document: Own, *signers: Signer) -> Verified:
        """The document as the next version of itself, on disk."""
        key = trust.document_key(document)
        numbered = msgspec.structs.replace(document, version=self._intake.next_version(key))
        envelope = sign(encode(numbered), payload_type(kind_of(numbered)), *signers)
        return self._intake.keep_own(envelope)

    def offer(self, key: str) -> None:
        """Send what is stored under `key`, now or as soon as the registry answers."""
        self._due[key] = self._clock.monotonic()
        self._work.set()

    def withdraw(self, key: str) -> None:
        for known in (self._due, self._accepted, self.refusals):
            known.pop(key, None)

    def note_accepted(self, key: str, version: int) -> None:
        """The registry has shown that it holds this version."""
        self._accepted[key] = version

    def is_accepted(self, key: str, version: int) -> bool:
        return self._accepted.get(key) == version

    async def run(self) -> None:
        """Send what is waiting, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._work.wait()
            self._work.clear()
            if self._client is None or self._clock.monotonic() < self._pause_until:
                continue
            try:
                await self._send_due(self._client)
            except Unavailable as exc:
                self._pause_until = self._clock.monotonic() + self._backoff.next_s()
                log.debug("registry takes no documents", extra={"reason": str(exc)})

    def _wait_s(self) -> float | None:
        if self._client is None or not self._due:
            return None
        next_at = max(min(self._due.values()), self._pause_until)
        return max(0.0, next_at - self._clock.monotonic())

    async def _send_due(self, client: RegistryClient) -> None:
        now = self._clock.monotonic()
        for key in sorted((key for key, at in self._due.items() if at <= now), key=_urgency):
            await self._send(client, key)
            self._backoff.reset()

    async def _send(self, client: RegistryClient, key: str) -> None:
        """The registry has the document, or said why not. Raises Unavailable."""
        at = self._due.get(key)  # None: withdrawn while others were sent
        envelope = self._intake.own_envelope(key)
        if at is None or envelope is None:
            self._due.pop(key, None)
            return
        try:
            await client.publish(envelope)
        except Unavailable:
            raise
        except OverlayError as exc:
            if key in self._due:
                self._note_refusal(key, exc)
            return
        if key not in self._due:
            return  # withdrawn while it was sent
        document = trust.verify(envelope)
        self._accepted[key] = document.version
        self.refusals.pop(key, None)
        if self._due.get(key) == at:  # else another version came while this one was sent
            del self._due[key]

    def _note_refusal(self, key: str, error: OverlayError) -> None:
        known = self.refusals.get(key)
        if known is None or known.message != error.message:
            log.warning("registry refuses own document", extra={"key": key, "reason": str(error)})
        self.refusals[key] = error
        self._due[key] = self._clock.monotonic() + REFUSED_AGAIN_S
        if isinstance(error, PublishConflict) and error.current is not None:
            self._on_conflict(error.current)


def _urgency(key: str) -> tuple[bool, str]:
    """Members first: others wait for them."""
    return (not key.startswith("member/"), key)
