"""How passes over one network resource went and what they changed, for people and who waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Set
from datetime import datetime

import msgspec

from overlay.errors import Diverged, OverlayError, Refused
from overlay.model import NetworkId, WgPublicKey
from overlay.netns.changes import Change, DropPeer, PutPeer
from overlay.ports import Clock
from overlay.reconcile.journal import Journal, Repair

log = logging.getLogger(__name__)


class Outcome(msgspec.Struct, frozen=True):
    """How the last pass ended."""

    at: datetime
    document_version: int
    error: OverlayError | None = None
    peers_only: bool = False  # whatever else is there was neither made nor looked at


class Record:
    """Of one network resource, since the node began. Repairs go to the `journal` of the node."""

    def __init__(self, network: NetworkId, *, clock: Clock, journal: Journal) -> None:
        self.outcome: Outcome | None = None
        self.last_change_at: datetime | None = None
        self.failures = 0  # passes in a row
        self.journal = journal
        self._network = network
        self._clock = clock
        self._progress = asyncio.Event()

    async def wait_outcome(self) -> None:
        """Until another pass has ended."""
        await self._progress.wait()

    def succeeded(self, version: int, *, peers_only: bool) -> None:
        self.failures = 0
        self._end(Outcome(self._clock.now(), version, peers_only=peers_only))

    def failed(self, version: int, error: OverlayError) -> None:
        before = self.outcome
        self.failures += 1
        if before is None or before.error is None or before.error.message != error.message:
            level = logging.ERROR if isinstance(error, Diverged | Refused) else logging.WARNING
            log.log(level, "pass failed", extra={"network": self._network, "reason": str(error)})
        self._end(Outcome(self._clock.now(), version, error))

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._progress.set()
        self._progress = asyncio.Event()

    def changed(self, changes: tuple[Change, ...]) -> None:
        """These were asked for."""
        if not changes:
            return
        self.last_change_at = self._clock.now()
        for change in changes if log.isEnabledFor(logging.DEBUG) else ():
            said = {"network": self._network, "change": change.describe()}
            log.debug("changed", extra=said)
        log.info("converged", extra={"network": self._network, "changes": len(changes)})

    def repaired(self, changes: tuple[Change, ...], *, by: str) -> None:
        """These nobody asked for: what they set right was drift. `by` is why we looked."""
        for change in changes:
            self.last_change_at = self._clock.now()
            says = change.describe()
            self.journal.repair(Repair(self.last_change_at, self._network, says, by))
            log.info("repaired", extra={"network": self._network, "change": says, "by": by})


def is_about(change: Change, keys: Set[WgPublicKey]) -> bool:
    """Whether it puts or drops one of these peers."""
    match change:
        case PutPeer(peer=peer):
            return peer.public_key in keys
        case DropPeer(public_key=key):
            return key in keys
    return False
