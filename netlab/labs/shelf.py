"""Which labs are shipped, and the one that is meant by a name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from overlay.errors import Rejected

SUFFIX = ".lab.toml"
_SHELF = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class ShippedLab:
    """`name` is what `zos lab up` takes; `summary` the first line of its file."""

    name: str
    summary: str
    path: Path


def shipped_labs() -> list[ShippedLab]:
    """In the order in which they are to be read; big ones last."""
    paths = (*sorted(_SHELF.glob(f"*{SUFFIX}")), *sorted(_SHELF.glob(f"*/*{SUFFIX}")))
    return [ShippedLab(_name(path), _summary(path), path) for path in paths]


def find_lab(file: Path) -> Path:
    """The file itself, or the shipped lab of this name. Raises Rejected when there is neither."""
    if file.exists():
        return file
    labs = {lab.name: lab.path for lab in shipped_labs()}
    name = str(file).removesuffix(SUFFIX)
    if name in labs:
        return labs[name]
    nearest = difflib.get_close_matches(name, labs, n=1, cutoff=0.5)
    raise Rejected(
        f"there is no file {file} and no shipped lab of this name",
        field="FILE",
        remedy=f"did you mean {nearest[0]}?" if nearest else "zos lab labs lists those shipped",
    )


def _name(path: Path) -> str:
    return str(path.relative_to(_SHELF)).removesuffix(SUFFIX)


def _summary(path: Path) -> str:
    with path.open() as file:
        return file.readline().lstrip("#").strip()
