"""What an operator decided for this node. Pure."""

from __future__ import annotations

import msgspec

from overlay.documents.schema import Capacity
from overlay.keys.rotation import Pace
from overlay.model import Endpoint, FarmId


class NodeSettings(msgspec.Struct, frozen=True):
    name: str
    software: str
    capacity: Capacity
    farm: FarmId | None = None
    endpoints: tuple[Endpoint, ...] = ()
    first_port: int = 51_820
    last_port: int = 52_819
    mtu_bytes: int | None = None  # of the underlay; None: as its links say
    rotation: Pace = Pace()  # of device keys
