"""What this node says of itself: its node document, published when it says something new."""

from __future__ import annotations

from typing import Literal

import msgspec

from overlay.documents.schema import Node
from overlay.documents.trust import Verified
from overlay.keys.identity import Identity
from overlay.keys.wireguard import format_key
from overlay.reconcile.intake import Intake
from overlay.reconcile.publisher import Publisher
from overlay.reconcile.relaying import Relaying
from overlay.reconcile.settings import NodeSettings


class Description:
    """Settings and roles as a document."""

    def __init__(
        self,
        identity: Identity,
        settings: NodeSettings,
        *,
        backend: Literal["kernel", "wireguard-go"],
        relaying: Relaying,
        intake: Intake,
        publisher: Publisher,
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._backend = backend
        self._relaying = relaying
        self._intake = intake
        self._publisher = publisher
        self._said: Node | None = None

    def publish(self) -> None:
        """Others learn of us what they do not know yet. Raises Unavailable when the disk fails."""
        said = self._node()
        if said == self._said:
            return
        if self._said is None:
            self._said = self._on_disk()
        if said != self._said:
            self._publisher.sign(said, self._identity)
            self._said = said

    def _node(self) -> Node:
        settings, relay, offer = self._settings, self._relaying.key, self._relaying.offer
        return Node(
            node=self._identity.id,
            version=1,
            name=settings.name,
            software=settings.software,
            backend=self._backend,
            capacity=settings.capacity,
            farm=settings.farm,
            relay_key=format_key(relay.public_key) if relay and offer else None,
            relay_endpoints=offer.endpoints if relay and offer else (),
            relay_tls_port=offer.tls_port if relay and offer else None,
        )

    def _on_disk(self) -> Node | None:
        key = f"node/{self._identity.id}"
        for found, verified in self._intake.stored("node/"):
            document = verified.document if isinstance(verified, Verified) else None
            if found == key and isinstance(document, Node):
                return msgspec.structs.replace(document, version=1)
        return None
