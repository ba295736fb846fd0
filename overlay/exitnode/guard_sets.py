"""Guarded addresses as sets of nftables, which change while the rules beside them stay.

A ruleset that is loaded anew counts from nothing, so what changes often is no part of its
comparison: sets are compared by what they hold, and amended in one transaction. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from overlay.exitnode.egress import Egress
from overlay.netns.nftjson import TABLE, Command, Statement, concat, meta, payload, when

FAMILY = "inet"
SERVICES_V4, SERVICES_V6 = "services_v4", "services_v6"
UNDERLAY_V4, UNDERLAY_V6 = "underlay_v4", "underlay_v6"

# What an element is; the underlay is guarded from the leg that the packet comes by.
TYPES: Mapping[str, tuple[str, ...]] = {
    SERVICES_V4: ("ipv4_addr",),
    SERVICES_V6: ("ipv6_addr",),
    UNDERLAY_V4: ("ifname", "ipv4_addr"),
    UNDERLAY_V6: ("ifname", "ipv6_addr"),
}

Element = tuple[str, ...]
Contents = Mapping[str, frozenset[Element]]  # by the name of the set

NOTHING: Contents = MappingProxyType({name: frozenset() for name in TYPES})


def contents(egress: Egress) -> Contents:
    """What the sets are to hold."""
    found: dict[str, set[Element]] = {name: set() for name in TYPES}
    for address in egress.guards.services:
        found[SERVICES_V6 if ":" in address else SERVICES_V4].add((address,))
    for leg in egress.legs:
        for address in egress.guards.underlay.get(leg.network, ()):
            found[UNDERLAY_V6 if ":" in address else UNDERLAY_V4].add((leg.link, address))
    return {name: frozenset(elements) for name, elements in found.items()}


def matches() -> Iterator[Statement]:
    """True for a packet to what is guarded, one statement for each set."""
    for name, types in TYPES.items():
        to = payload("ip6" if types[-1] == "ipv6_addr" else "ip", "daddr")
        yield when(to if len(types) == 1 else concat(meta("iifname"), to), f"@{name}")


def filled(ruleset: str, held: Contents) -> str:
    """The ruleset with its sets filled from the first moment."""
    more = amendments(desired=held, actual=NOTHING)
    both = [msgspec.json.decode(text)["nftables"] for text in (ruleset, more) if text is not None]
    return msgspec.json.encode({"nftables": [each for part in both for each in part]}).decode()


def split(listing: str) -> tuple[str, Contents]:
    """A listing without what the sets hold, and that."""
    objects: list[dict[str, Any]] = msgspec.json.decode(listing)
    held: dict[str, frozenset[Element]] = dict(NOTHING)
    for item in objects:
        if (found := item.get("set")) is not None and found["name"] in TYPES:
            held[found["name"]] = frozenset(map(_element, found.pop("elem", ())))
    return msgspec.json.encode(objects, order="sorted").decode(), held


def amendments(*, desired: Contents, actual: Contents) -> str | None:
    """JSON of the commands that lead from one to the other; None when there is nothing to do."""
    commands: list[Command] = []
    for name in TYPES:
        there, wanted = actual[name], desired[name]
        for verb, elements in (("add", wanted - there), ("delete", there - wanted)):
            if elements:
                commands.append({verb: {"element": _elements(name, elements)}})
    return msgspec.json.encode({"nftables": commands}).decode() if commands else None


def _elements(name: str, elements: Iterable[Element]) -> dict[str, Any]:
    written = [e[0] if len(e) == 1 else {"concat": list(e)} for e in sorted(elements)]
    return {"family": FAMILY, "table": TABLE, "name": name, "elem": written}


def _element(written: Any) -> Element:
    return tuple(written["concat"]) if isinstance(written, dict) else (written,)
