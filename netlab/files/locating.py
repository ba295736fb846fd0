"""From a fault of a topology to the key of the file that said it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from netlab.files.assembling import Origins
from netlab.files.checking import Path, parted

# What the values call otherwise than the file does.
_WORDS = {
    "uplink": "link",
    "links": "link",
    "mtu_bytes": "mtu",
    "delay_s": "delay",
    "jitter_s": "jitter",
    "rate_bit_s": "rate",
    "drops": "drop",
    "udp_timeout_s": "timeout",
    "source": "from",
    "target": "to",
    "at_least_bit_s": "at_least",
    "at_most_bit_s": "at_most",
    "within_s": "within",
    "at_s": "at",
    "argv": "run",
}


def locate(field: str, tree: Mapping[str, Any], origins: Origins) -> Path:
    """The deepest path of the file that `field` leads to; () when there is nothing of it."""
    path, rest = _entry(field, origins)
    entry = _value(tree, path)
    found = _descend(entry, rest, path)
    if found == path and isinstance(entry, dict) and "kind" in entry:
        kind: Path = ("kind", entry["kind"])
        below = _descend(_value(tree, kind), rest, kind)
        found = below if below != kind else path
    return found


def _entry(field: str, origins: Origins) -> tuple[Path, str]:
    """Where a node, router, LAN or region was declared, and what is left of the field."""
    for cut in sorted({match.start() for match in re.finditer(r"[.\[]|$", field)}, reverse=True):
        section, _, name = field[:cut].partition(".")
        if (section, name) in origins:
            return origins[section, name], field[cut:]
    for section in ("node", "router", "lan", "region"):
        if (section, field) in origins:
            return origins[section, field], ""
    return (), field


def _value(tree: Any, path: Path) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _descend(value: Any, rest: str, path: Path) -> Path:
    """As deep as the file goes; words that only the values have are passed over."""
    words = parted(rest)
    for position, word in enumerate(words):
        key = _key(value, word, words[position + 1 :])
        if key is not None:
            value, path = value[key], (*path, key)
    return path


def _key(value: Any, word: str | int, after: Path) -> str | int | None:
    if isinstance(value, list):
        if isinstance(word, int):
            return word if word < len(value) else None
        # Given twice, it is the second that is too many.
        found = [position for position, entry in enumerate(value) if entry == word]
        return found[-1] if found else None
    if not isinstance(value, dict):
        return None
    if word in ("up", "down") and after and word in value:
        # What is wrong in one direction may be said of both.
        return word if _key(value[word], after[0], ()) is not None else None
    return next((key for key in (word, _WORDS.get(str(word))) if key in value), None)
