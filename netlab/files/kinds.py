"""Kinds below entries: what a kind says holds where the entry says nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from netlab.files.shape import KindEntry, LinkEntry, NodeEntry, OneLinkEntry, RouterEntry
from netlab.refusals.words import did_you_mean
from overlay.errors import Rejected

E = TypeVar("E", NodeEntry, RouterEntry)
L = TypeVar("L", bound=LinkEntry)
S = TypeVar("S", bound=msgspec.Struct)


def with_kind(entry: E, kinds: Mapping[str, KindEntry], *, what: str) -> E:
    """The entry with its kind's words below its own. Raises Rejected for a kind that cannot be."""
    if entry.kind is UNSET:
        return entry
    kind = kinds.get(entry.kind)
    if kind is None:
        remedy = did_you_mean(entry.kind, sorted(kinds)) if kinds else f"add [kind.{entry.kind}]"
        raise Rejected(f"there is no kind {entry.kind!r}", field="kind", remedy=remedy)
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    for name in kind.__struct_fields__:
        said = getattr(kind, name)
        if said is UNSET:
            continue
        if name not in fields:
            raise Rejected(
                f"kind {entry.kind!r} says {name!r}, which no {what} has",
                field="kind",
                remedy="make a kind of its own for these",
            )
        fields[name] = _over(name, said, fields[name])
    return type(entry)(**fields)


def _over(name: str, low: Any, high: Any) -> Any:
    """Links are merged key by key, at any depth; anything else is one value."""
    if high is UNSET or low is UNSET:
        return low if high is UNSET else high
    if name == "link":
        return _merged(_table(low, OneLinkEntry), _table(high, OneLinkEntry))
    if name == "links":
        tables = {name: _table(each, LinkEntry) for name, each in low.items()}
        for name, each in high.items():
            table = _table(each, LinkEntry)
            tables[name] = _merged(tables[name], table) if name in tables else table
        return tables
    return high


def _table(said: str | L, model: type[L]) -> L:
    return model(to=said) if isinstance(said, str) else said


def _merged(low: S, high: S) -> S:
    fields = {}
    for name in high.__struct_fields__:
        below, above = getattr(low, name), getattr(high, name)
        both = isinstance(below, msgspec.Struct) and isinstance(above, msgspec.Struct)
        fields[name] = _merged(below, above) if both else below if above is UNSET else above
    return type(high)(**fields)
