"""The defaults of a person's machine: config.toml, and the names of the files around it."""

from __future__ import annotations

import msgspec

from overlay.documents.fields import Label
from zos_core.files.toml import parse_toml


class Config(msgspec.Struct, frozen=True):
    """What a command uses when neither an option nor a file says otherwise."""

    registry: str | None = None
    tenant: Label | None = None  # name of the key that signs networks
    farm: Label | None = None  # name of the key that signs farms


def parse_config(text: str) -> Config:
    """Raises Rejected naming the key that is wrong."""
    return parse_toml(text, Config, what="config.toml")
