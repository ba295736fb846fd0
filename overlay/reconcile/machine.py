"""What the loops stand on, in one hand: kernel, clock, chance, and who hears of outcomes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from overlay.netns.converge import Configurator
from overlay.netns.ports import Shell
from overlay.ports import Clock
from overlay.reconcile.heard import Heard
from overlay.reconcile.publisher import Publisher

if TYPE_CHECKING:
    from overlay.reconcile.resource import ResourceLoop

# Calls back, as long as the block runs, when our own links change.
LinkNotices = Callable[[Callable[[], None]], AbstractContextManager[None]]


class Notices(Protocol):
    """Names of tenant netns in which something changed; see `overlay.netns.watch`."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def follow(self, names: Iterable[str]) -> None: ...

    def __aiter__(self) -> AsyncIterator[str]: ...


@dataclass(frozen=True, slots=True)
class Machine:
    configurator: Configurator
    shell: Shell
    clock: Clock
    random: Callable[[], float]
    publisher: Publisher
    on_outcome: Callable[[ResourceLoop], None]
    heard: Heard
    on_documents: Callable[[ResourceLoop], None]  # or attachments
    on_way_out: Callable[[ResourceLoop], None]
