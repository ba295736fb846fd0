"""The JSON Schema of lab files, for editors; run as a module it writes it."""

from __future__ import annotations

import sys
from pathlib import Path

from netlab.files.shape import LabFile
from zos_core.cli import schemas

NAME = "lab"


def write_schema(directory: Path) -> None:
    """lab.schema.json, of the shape by which files are read."""
    schemas.write_schema(directory, NAME, LabFile)


if __name__ == "__main__":
    write_schema(Path(sys.argv[1]))
