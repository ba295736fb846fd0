"""The demo's result as tables (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Row = Mapping[str, object]


def tables(reachability: Iterable[Row], isolation: Iterable[Row]) -> str:
    """Who reaches whom in each tenant's network, and how many cross-tenant tries got through."""
    pairs = list(reachability)
    blocks = [
        _matrix(str(tenant), [pair for pair in pairs if pair["tenant"] == tenant])
        for tenant in dict.fromkeys(pair["tenant"] for pair in pairs)
    ]
    tries = list(isolation)
    reached = [f"{pair['from']} -> {pair['to']}" for pair in tries if pair["reached"]]
    verdict = f"Across tenants: {len(reached)} of {len(tries)} tries reached somebody"
    return "\n\n".join((*blocks, "\n  ".join((verdict, *reached))))


def paths(found: Iterable[Mapping[str, str]]) -> str:
    """How nodes reach each other, those that go the same way together."""
    ways: dict[str, list[str]] = {}
    for each in found:
        ways.setdefault(each["path"], []).append(f"{each['from']}-{each['to']}")
    lines = (f"  {way}: {', '.join(pairs)}" for way, pairs in sorted(ways.items()))
    return "\n".join(("\nalice: by which way nodes reach each other", *lines))


def timings(steps: Mapping[str, float]) -> str:
    """How long each step took."""
    return "\nTook " + ", ".join(f"{name} {ms / 1000:.1f} s" for name, ms in steps.items())


def _matrix(tenant: str, pairs: list[Row]) -> str:
    names = list(dict.fromkeys(str(pair["from"]) for pair in pairs))
    width = max(map(len, names)) + 2
    cell = max(width, len("v4 000.0 v6 000.0") + 2)
    rows = [f"{tenant}: round trips in ms, from (row) to (column)"]
    rows.append(" " * width + "".join(name.ljust(cell) for name in names))
    for source in names:
        cells = (_cell(source, target, pairs) for target in names)
        rows.append(source.ljust(width) + "".join(text.ljust(cell) for text in cells).rstrip())
    return "\n".join(rows)


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
    return f"{pair['rtt_ms']:.1f}" if pair["ok"] else "NO"
