"""Scenarios that once broke a promise, as files: each is lived again whenever the tests run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from netlab.sim.scenario import Scenario, encode, parse
from overlay.errors import Rejected, Unavailable

CORPUS = Path(__file__).parent / "seeds"
MAX_BYTES = 4 << 20


def read(path: Path) -> Scenario:
    """Raises Rejected with the file when it is no scenario, Unavailable when it can't be read."""
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}") from exc
    if len(raw) > MAX_BYTES:
        raise Rejected(f"{path} has more than {MAX_BYTES} bytes")
    try:
        return parse(raw)
    except Rejected as exc:
        raise Rejected(f"{path}: {exc.message}", field=exc.field) from exc


def read_all(directory: Path = CORPUS) -> Iterator[tuple[str, Scenario]]:
    """Name and scenario of each file, in the order of their names."""
    for path in sorted(directory.glob("*.json")):
        yield path.stem, read(path)


def write(scenario: Scenario, *, name: str, directory: Path = CORPUS) -> Path:
    """The scenario is in a file of this name; where it is."""
    path = directory / f"{name}.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(scenario))
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}") from exc
    return path
