"""Everything in a TOML tree that the shape of a lab file does not allow, each with its path. Pure.

msgspec stops at the first fault and names no exact place; a person wants all of them at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from msgspec import inspect

from netlab.refusals.words import did_you_mean, out_of_bounds
from overlay.errors import Rejected

Path: TypeAlias = tuple[str | int, ...]
Fault: TypeAlias = tuple[Path, Rejected]

_EXAMPLES = {
    "text": '"text"',
    "a table": "{ key = ... }",
    "an array": "[ ... ]",
    "true or false": "true",
    "a whole number": "7",
}

_PART = re.compile(r"(?:^|\.)([^.\[\]]+)|\[(\d+)\]")


def find_faults(value: Any, expected: inspect.Type, path: Path = ()) -> Iterator[Fault]:
    """Every fault of `value`, in the order of the file; nothing below a value of a wrong type."""
    match expected:
        case inspect.Metadata(type=inner, extra=extra):
            yield from _quantity(value, inner, extra, path)
        case inspect.UnionType(types=types):
            fitting = next((each for each in types if _fits(value, each)), None)
            if fitting is None:
                yield path, _wrong_type(value, types)
            else:
                yield from find_faults(value, fitting, path)
        case _ if not _fits(value, expected):
            yield path, _wrong_type(value, [expected])
        case inspect.StructType(fields=fields):
            yield from _table(value, fields, path)
        case inspect.DictType(value_type=inner) | inspect.VarTupleType(item_type=inner):
            for key, each in value.items() if isinstance(value, dict) else enumerate(value):
                yield from find_faults(each, inner, (*path, key))
        case inspect.TupleType(item_types=inners):
            yield from _row(value, inners, path)
        case _:
            yield from _scalar(value, expected, path)


def dotted(path: Path) -> str:
    """`node.alice.links.eth0`, `expect[2].from`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parted(field: str) -> Path:
    """The path that is written `run[1]`, of keys without dots."""
    return tuple(key or int(index) for key, index in _PART.findall(field))


def _table(value: dict[str, Any], fields: Sequence[inspect.Field], path: Path) -> Iterator[Fault]:
    known = {field.encode_name: field.type for field in fields}
    for key, inner in value.items():
        if key in known:
            yield from find_faults(inner, known[key], (*path, key))
        else:
            yield (
                (*path, key),
                Rejected("is not a known key", remedy=did_you_mean(key, sorted(known))),
            )
    for field in fields:
        if field.required and field.encode_name not in value:
            yield path, Rejected(f"lacks {field.encode_name!r}", remedy=f"add {field.encode_name}")


def _row(value: list[Any], inners: Sequence[inspect.Type], path: Path) -> Iterator[Fault]:
    if len(value) != len(inners):
        yield (
            path,
            Rejected(f"has {len(value)} entries, not {len(inners)}", remedy=f"write {len(inners)}"),
        )
        return
    for position, (each, inner) in enumerate(zip(value, inners, strict=True)):
        yield from find_faults(each, inner, (*path, position))


def _quantity(
    value: Any, inner: inspect.Type, extra: dict[str, Any] | None, path: Path
) -> Iterator[Fault]:
    """Text that has a reader of its own: its words are better than a pattern's."""
    found = False
    for place, fault in find_faults(value, inner, path):
        found = True
        remedy = f"write it like {extra['example']!r}" if extra else fault.remedy
        yield place, Rejected(fault.message, remedy=remedy)
    if extra and not found:
        try:
            extra["parse"](value)
        except Rejected as fault:
            yield path, fault


def _scalar(value: Any, expected: inspect.Type, path: Path) -> Iterator[Fault]:
    match expected:
        case inspect.LiteralType(values=values):
            if value not in values:
                known = sorted(map(str, values))
                yield path, Rejected(f"there is no {value!r}", remedy=did_you_mean(value, known))
        case inspect.StrType(max_length=int(longest)) if len(value) > longest:
            yield path, Rejected(f"is longer than {longest} characters", remedy="shorten it")
        case inspect.IntType(ge=lowest, le=highest):
            if lowest is not None and highest is not None:
                for fault in out_of_bounds(value, lowest=lowest, highest=highest, path=""):
                    yield path, fault
        case _:
            pass


def _fits(value: Any, expected: inspect.Type) -> bool:
    match expected:
        case inspect.Metadata(type=inner):
            return _fits(value, inner)
        case inspect.StructType() | inspect.DictType():
            return isinstance(value, dict)
        case inspect.VarTupleType() | inspect.TupleType():
            return isinstance(value, list)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case _:
            return isinstance(value, str)


def _wrong_type(value: Any, types: Sequence[inspect.Type]) -> Rejected:
    wanted = dict.fromkeys(map(_word, types))
    return Rejected(
        f"is {_word_of(value)}, not {' or '.join(wanted)}",
        remedy=f"write it like {' or '.join(_EXAMPLES[word] for word in wanted)}",
    )


def _word(expected: inspect.Type) -> str:
    match expected:
        case inspect.Metadata(type=inner):
            return _word(inner)
        case inspect.StructType() | inspect.DictType():
            return "a table"
        case inspect.VarTupleType() | inspect.TupleType():
            return "an array"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number"
        case _:
            return "text"


def _word_of(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case str():
            return "text"
        case list():
            return "an array"
        case dict():
            return "a table"
        case _:
            return "a date or time"
