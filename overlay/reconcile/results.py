"""What the tenants are told: how this node fares with the network documents it got."""

from __future__ import annotations

import logging
from collections.abc import Set

from overlay.documents import trust
from overlay.documents.schema import Result
from overlay.errors import OverlayError
from overlay.keys.identity import Identity
from overlay.model import NetworkId, NodeId
from overlay.ports import Clock
from overlay.reconcile import membership
from overlay.reconcile.publisher import Publisher

log = logging.getLogger(__name__)


class Results:
    """The latest result of each network; only one that says something new is published."""

    def __init__(self, publisher: Publisher, identity: Identity, *, clock: Clock) -> None:
        self._publisher = publisher
        self._identity = identity
        self._clock = clock
        self._said: dict[str, Result] = {}

    def keys(self) -> Set[str]:
        """Of the documents."""
        return self._said.keys()

    def put(self, said: Result) -> None:
        """This was said before."""
        self._said[trust.document_key(said)] = said

    def report(self, network: NetworkId, version: int, error: OverlayError | None) -> None:
        """The tenant learns how it went with this version of the network document."""
        said = membership.result(
            network,
            NodeId(self._identity.id),
            document_version=version,
            error=error,
            now=int(self._clock.now().timestamp()),
        )
        if membership.says_the_same(self._said.get(trust.document_key(said)), said):
            return
        try:
            signed = self._publisher.sign(said, self._identity)
        except OverlayError as exc:
            log.warning("result not published", extra={"network": network, "reason": str(exc)})
            return
        if isinstance(signed.document, Result):
            self.put(signed.document)
