"""Files that commands make at a person's word."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from overlay.errors import Conflict, Unavailable


def write_new(path: Path, text: str, *, force: bool) -> None:
    """The file holds the text. Raises Conflict when there is one already, save with `force`."""
    with open_new(path, force=force) as file:
        try:
            file.write(text.encode())
            file.flush()
        except OSError as exc:
            raise Unavailable(f"{path}: {exc.strerror}") from exc


def open_new(path: Path, *, force: bool) -> IO[bytes]:
    """To be written. Raises Conflict when there is such a file already, save with `force`."""
    try:
        return path.open("wb" if force else "xb")
    except FileExistsError as exc:
        raise Conflict(f"{path} is there already", remedy="add --force, or choose another") from exc
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}") from exc
