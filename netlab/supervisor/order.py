"""What `zos lab up` and the supervisor that it started say to each other: one JSON value a line."""

from __future__ import annotations

import msgspec

from netlab.supervisor.status import Build
from netlab.topology import Topology
from zos_core.status import ErrorBody

ORDER_BYTES_MAX = 256 << 20
LET_GO = b"let go\n"


class Order(msgspec.Struct, frozen=True):
    """What `zos lab up` wants, on one line."""

    topology: Topology
    keep: bool


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `zos lab up` hears, one a line: exactly one of these."""

    build: Build | None = None
    ready_after_s: float | None = None
    error: ErrorBody | None = None
