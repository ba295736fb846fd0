"""The demo's result as tables (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


def all_of(found: Mapping[str, Any]) -> str:
    """Who reached whom, in which way, by which exit, and how long it took."""
    pairs = found["reachability"]
    tenants = dict.fromkeys(pair["tenant"] for pair in pairs)
    blocks = [_matrix(name, [pair for pair in pairs if pair["tenant"] == name]) for name in tenants]
    blocks.append(_isolation(found["isolation"]))
    blocks += [
        _paths(name, [path for path in found["paths"] if path["tenant"] == name])
        for name in tenants
    ]
    blocks.append(f"To the internet, in turn: {', '.join(found['exits']) or 'nobody'}")
    times = (f"{name} {ms / 1000:.1f} s" for name, ms in found["timings_ms"].items())
    blocks.append(f"Took {', '.join(times)}")
    return "\n" + "\n\n".join(blocks)


def _isolation(tries: Iterable[Row]) -> str:
    tried = list(tries)
    reached = [f"{pair['from']} -> {pair['to']}" for pair in tried if pair["reached"]]
    verdict = f"Where nobody may get: {len(reached)} of {len(tried)} tries reached somebody"
    return "\n  ".join((verdict, *reached))


def _paths(tenant: str, found: Iterable[Row]) -> str:
    """How nodes reach each other, those that go the same way together; each pair once."""
    ways: dict[str, dict[str, None]] = {}
    for each in found:
        pair = "-".join(sorted((each["from"], each["to"])))
        ways.setdefault(each["path"], {})[pair] = None
    lines = (f"  {way}: {', '.join(sorted(pairs))}" for way, pairs in sorted(ways.items()))
    return "\n".join((f"{tenant}: in which way nodes reach each other", *lines))


def _matrix(tenant: str, pairs: list[Row]) -> str:
    names = sorted(dict.fromkeys(str(pair["from"]) for pair in pairs), key=_order)
    width = max(map(len, names)) + 2
    cell = max(width, len("v4 000.0 v6 000.0") + 2)
    rows = [f"{tenant}: round trips in ms, from (row) to (column)"]
    rows.append(" " * width + "".join(name.ljust(cell) for name in names).rstrip())
    for source in names:
        cells = (_cell(source, target, pairs) for target in names)
        rows.append(source.ljust(width) + "".join(text.ljust(cell) for text in cells).rstrip())
    return "\n".join(rows)


def _order(name: str) -> tuple[bool, str]:
    """Nodes first."""
    return not name[-1].isdigit(), name


def _cell(source: str, target: str, pairs: list[Row]) -> str:
    if source == target:
        return "-"
    found = {
        pair["family"]: pair for pair in pairs if (pair["from"], pair["to"]) == (source, target)
    }
    return " ".join(
        f"v{family} {_milliseconds(found[family])}" for family in (4, 6) if family in found
    )


def _milliseconds(pair: Row) -> str:
    if not pair["ok"]:
        return "NO"
    return "ok" if pair["rtt_ms"] is None else f"{pair['rtt_ms']:.1f}"
