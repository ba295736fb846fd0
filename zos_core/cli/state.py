"""Where the node of this machine keeps its things."""

from __future__ import annotations

import os
from pathlib import Path

STATE_DIRECTORY = Path("/var/lib/zos")
STATE_VARIABLE = "ZOS_STATE"


def state_directory() -> Path:
    return Path(os.environ.get(STATE_VARIABLE) or STATE_DIRECTORY)


def node_key_path() -> Path:
    return state_directory() / "keys" / "node.key"
