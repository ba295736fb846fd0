"""Files that commands make at a person's word."""

from __future__ import annotations

from pathlib import Path

from overlay.errors import Conflict, Unavailable


def write_new(path: Path, text: str, *, force: bool) -> None:
    """The file holds the text. Raises Conflict when there is one already, save with `force`."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as exc:
        raise Conflict(f"{path} is there already", remedy="add --force, or choose another") from exc
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}") from exc
