"""Others learn what the workloads here are called: soon, and once for all that come together."""

from __future__ import annotations

import asyncio

from overlay.model import NetworkId
from overlay.reconcile.networks import Networks
from overlay.reconcile.resource import ResourceLoop

# Workloads that come and go together are one version of the member document, and one that was here
# for a moment is none.
COALESCE_S = 1.0


class Naming:
    """Which networks have workloads that our member document does not name yet."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._noted: set[NetworkId] = set()
        self._is_due = asyncio.Event()

    def note(self, loop: ResourceLoop) -> None:
        """Look at the workloads of this network: cheap, and mostly there is nothing new."""
        own = loop.goals.selection.own_member
        said = {(each.name, each.host) for each in own.workloads} if own is not None else set()
        if own is not None and said != {(each.name, each.host) for each in loop.attachments}:
            self._noted.add(loop.network)
            self._is_due.set()

    async def run(self) -> None:
        """Have what was noted published, at most once in COALESCE_S."""
        while True:
            await self._is_due.wait()
            await asyncio.sleep(COALESCE_S)
            self._is_due.clear()
            noted, self._noted = self._noted, set()
            for network in noted:
                if (loop := self._networks.get(network)) is not None:
                    self._networks.refresh(loop)
