"""JSON from outside, into a type, or Rejected: nothing is guessed, ignored or read in two ways.

A document means the same to every reader, or it means nothing: duplicate keys and lone surrogates,
which JSON readers treat differently, are refused with the rest.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn, TypeVar

import msgspec

from overlay.errors import Rejected

MAX_DEPTH = 16  # the deepest document, a network's policy, needs four
MAX_QUOTED_CHARS = 40
MAX_REASON_CHARS = 120

T = TypeVar("T")


def parse_strict(raw: bytes, model: type[T], *, max_bytes: int, what: str) -> T:
    """The value of `raw` as a `model`. Raises Rejected with the field's path, and nothing else."""
    if len(raw) > max_bytes:
        raise Rejected(f"{what}: {len(raw)} bytes are more than {max_bytes}")
    # The typed reader comes first: its bounds keep what the second reading builds small.
    value = _decode(raw, model, what)
    _check_one_meaning(raw, what)
    return value


def _decode(raw: bytes, model: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(raw, type=model)
    except msgspec.ValidationError as exc:
        reason, _, path = str(exc).partition(" - at ")
        field = path.strip("`").removeprefix("$").removeprefix(".") or None
        raise Rejected(f"{what}: {_short(reason)}", field=field) from exc
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise Rejected(f"{what}: {_short(str(exc))}") from exc
    except RecursionError:
        raise _too_deep(what) from None


def _check_one_meaning(raw: bytes, what: str) -> None:
    try:
        # Decoded here, because json.loads would also take UTF-16 and UTF-32 bytes.
        value = _READER.decode(raw.decode())
    except ValueError as exc:
        raise Rejected(f"{what}: {_short(str(exc))}") from exc
    except RecursionError:
        raise _too_deep(what) from None
    if _depth(value) > MAX_DEPTH:
        raise _too_deep(what)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {key[:MAX_QUOTED_CHARS]!a} stands there twice")
    return members


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _depth(value: object) -> int:
    """How many lists and objects enclose each other, counted no further than one too many."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        nested = [x for x in level if isinstance(x, list | dict)]
        level = [y for x in nested for y in (x.values() if isinstance(x, dict) else x)]
        depth += bool(nested)
    return depth


def _short(text: str) -> str:
    return text if len(text) <= MAX_REASON_CHARS else text[: MAX_REASON_CHARS - 3] + "..."


def _too_deep(what: str) -> Rejected:
    return Rejected(f"{what}: nested more than {MAX_DEPTH} deep")


_READER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_refuse)
