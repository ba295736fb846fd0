"""Tenant netns under their names in /run/netns, each held open by this process as well.

Without its pin a netns would die with the last process in it, and take the tunnels along. Held
here, it outlives `ip netns del` and gets its name back.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from overlay.netns import namespaces
from overlay.netns.state import NETNS_PREFIX


class TenantPins:
    """Implements `Pins`. Closing it lets go of every netns; their pins stay."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    def path(self, name: str) -> str | None:
        if self.is_pinned(name):
            return namespaces.pin_path(name)
        fd = self._held.get(name)
        return None if fd is None else f"/proc/self/fd/{fd}"

    def is_pinned(self, name: str) -> bool:
        fd = self._hold(name)
        if fd is None or (pinned := namespaces.open_pinned(name)) is None:
            return False
        try:
            return namespaces.identity(pinned) == namespaces.identity(fd)
        finally:
            os.close(pinned)

    def create(self, name: str) -> None:
        fd = self._hold(name)
        if fd is None:
            namespaces.create(name)
            self._hold(name)
        elif not self.is_pinned(name):
            namespaces.pin(fd, name)

    def remove(self, name: str) -> None:
        namespaces.remove(name)
        if (fd := self._held.pop(name, None)) is not None:
            os.close(fd)

    def names(self) -> tuple[str, ...]:
        """Those included of which only the file is left."""
        found = {*namespaces.list_pinned(), *namespaces.list_unfinished()}
        return tuple(sorted(name for name in found if name.startswith(NETNS_PREFIX)))

    def _hold(self, name: str) -> int | None:
        if name not in self._held and (fd := namespaces.open_pinned(name)) is not None:
            self._held[name] = fd
        return self._held.get(name)
