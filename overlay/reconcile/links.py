"""Our own links in the underlay: when they change, loops and members are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from overlay.errors import Unavailable
from overlay.netns.ports import Kernel
from overlay.peers import candidates
from overlay.peers.cache import Cache
from overlay.peers.candidates import Surroundings
from overlay.reconcile.machine import LinkNotices
from overlay.reconcile.networks import Networks
from overlay.reconcile.settings import NodeSettings
from overlay.reconcile.surroundings import select_surroundings

log = logging.getLogger(__name__)

SURROUNDINGS_S = 10.0  # our links are looked at again after this time, or when told
SETTLE_S = 0.2


class Links:
    """Keeps `surroundings` of the networks as the kernel has them."""

    def __init__(
        self,
        kernel: Kernel,
        settings: NodeSettings,
        *,
        cache: Cache,
        networks: Networks,
        notices: LinkNotices,
        on_change: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._settings = settings
        self._cache = cache
        self._networks = networks
        self._notices = notices
        self._on_change = on_change

    async def read(self) -> Surroundings:
        underlay = await self._kernel.read(None)
        return select_surroundings(underlay, mtu_bytes=self._settings.mtu_bytes)

    async def watch(self) -> None:
        """Our addresses changed: say so, and be heard from the new ones."""
        changed = asyncio.Event()
        with self._notices(changed.set):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SURROUNDINGS_S):
                        await changed.wait()
                        await asyncio.sleep(SETTLE_S)
                changed.clear()
                with suppress(Unavailable):
                    self.put(await self.read())

    def put(self, found: Surroundings) -> None:
        if found == self._networks.surroundings:
            return
        log.info("own links changed", extra={"addresses": len(found.addresses)})
        self._networks.surroundings = found
        underlay = candidates.underlay_of(found, declared=self._settings.endpoints)
        with self._cache.batch():
            for loop in self._networks.loops.values():
                loop.put_surroundings(found, underlay)
                self._networks.refresh(loop)
        self._on_change()
