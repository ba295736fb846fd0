"""TOML from a person into a type: what is wrong is named by its key, with the nearest known one."""

from __future__ import annotations

import difflib
import re
import tomllib
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from overlay.errors import Rejected

MAX_FILE_CHARS = 8 << 20

T = TypeVar("T")


def parse_toml(text: str, model: type[T], *, what: str) -> T:
    """The file as a `model`. Raises Rejected naming the key (CLI-004)."""
    if len(text) > MAX_FILE_CHARS:
        raise Rejected(f"{what} is longer than {MAX_FILE_CHARS} characters")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise Rejected(f"{what} is not TOML: {exc}") from exc
    except (RecursionError, ValueError) as exc:
        # tomllib's limits are Python's own: nesting, and the digits of a number.
        raise Rejected(f"{what} is nested too deeply or holds a number without end") from exc
    _refuse_unknown(tree, msgspec.inspect.type_info(model), ())
    try:
        return msgspec.convert(tree, model, builtin_types=(datetime,))
    except msgspec.ValidationError as exc:
        reason, _, path = str(exc).partition(" - at ")
        field = path.strip("`").removeprefix("$").removeprefix(".")
        raise Rejected(f"{what}: {reason[:1].lower()}{reason[1:]}", field=field or None) from exc


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that was probably meant."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return close[0] if close else None


def set_version(text: str, version: int) -> str:
    """The file with its `version` set; comments and order stay."""
    line = re.compile(r"^version[ \t]*=[ \t]*\d+", re.MULTILINE)
    if line.search(text):
        return line.sub(f"version = {version}", text, count=1)
    return f"version = {version}\n{text}"


def _refuse_unknown(value: Any, expected: msgspec.inspect.Type, path: tuple[str, ...]) -> None:
    match expected:
        case msgspec.inspect.StructType(fields=fields) if isinstance(value, dict):
            known = {field.encode_name: field.type for field in fields}
            for key, inner in value.items():
                if key not in known:
                    raise _unknown(key, sorted(known), path)
                _refuse_unknown(inner, known[key], (*path, key))
        case msgspec.inspect.DictType(value_type=inner_type) if isinstance(value, dict):
            for key, inner in value.items():
                _refuse_unknown(inner, inner_type, (*path, key))
        case msgspec.inspect.VarTupleType(item_type=item_type) if isinstance(value, list):
            for n, inner in enumerate(value):
                _refuse_unknown(inner, item_type, (*path, str(n)))
        case msgspec.inspect.UnionType(types=types):
            # `Entry | None`: msgspec takes no second table in a union that has no tags.
            for each in types:
                _refuse_unknown(value, each, path)
        case _:
            pass


def _unknown(key: str, known: list[str], path: tuple[str, ...]) -> Rejected:
    guess = nearest(key, known)
    remedy = f"did you mean {guess}?" if guess else f"known: {', '.join(known)}"
    return Rejected("is not a known key", field=".".join((*path, key)), remedy=remedy)
