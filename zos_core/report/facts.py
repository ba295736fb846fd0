"""What does not change while a node runs, and only the process itself knows."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Facts(msgspec.Struct, frozen=True):
    """What does not change while a node runs."""

    started_at: datetime
    backend_reason: str
    backend_remedy: str | None
    state_directory: str
    registry: str | None
