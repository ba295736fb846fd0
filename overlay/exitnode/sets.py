"""What changes often, as sets and maps of nftables beside rules that stay: guards, open ports.

A ruleset that is loaded anew counts from nothing, so what changes often is no part of its
comparison: sets are compared by what they hold, and amended in one transaction. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from overlay import addressing
from overlay.documents.published import PROTOCOLS
from overlay.exitnode.egress import Egress, Leg, OpenPort
from overlay.model import Protocol
from overlay.netns.flows import mark_of
from overlay.netns.nftjson import (
    TABLE,
    Command,
    Statement,
    concat,
    meta,
    named_map,
    named_set,
    payload,
    when,
)

FAMILY = "inet"
SERVICES_V4, SERVICES_V6 = "services_v4", "services_v6"
UNDERLAY_V4, UNDERLAY_V6 = "underlay_v4", "underlay_v6"
OPEN_PORTS = "open_ports"

# What an element is; the underlay is guarded from the leg that the packet comes by.
GUARDS: Mapping[str, tuple[str, ...]] = {
    SERVICES_V4: ("ipv4_addr",),
    SERVICES_V6: ("ipv6_addr",),
    UNDERLAY_V4: ("ifname", "ipv4_addr"),
    UNDERLAY_V6: ("ifname", "ipv6_addr"),
}
SETS = {**GUARDS, OPEN_PORTS: ("ifname", "inet_proto", "inet_service")}  # by leg


def leads(protocol: Protocol, *, v6: bool) -> str:
    """The map from a public port to where in the egress netns it leads (PUB-020)."""
    return f"leads_{protocol}_{'v6' if v6 else 'v4'}"


def marks(protocol: Protocol) -> str:
    """The map from a public port to the mark of flows that are led there (PUB-025)."""
    return f"marks_{protocol}"


MAPS: Mapping[str, tuple[str, str]] = {
    **{leads(p, v6=False): ("inet_service", "ipv4_addr") for p in PROTOCOLS},
    **{leads(p, v6=True): ("inet_service", "ipv6_addr") for p in PROTOCOLS},
    **{marks(p): ("inet_service", "mark") for p in PROTOCOLS},
}

Element = tuple[str | int, ...]  # of a map: key and value
Contents = Mapping[str, frozenset[Element]]  # by the name of the set or the map

NOTHING: Contents = MappingProxyType({name: frozenset() for name in (*SETS, *MAPS)})


def declarations() -> Iterator[Command]:
    """All of them, empty."""
    for name, types in SETS.items():
        yield named_set(FAMILY, name, types=types, elements=())
    for name, (key, value) in MAPS.items():
        yield named_map(FAMILY, name, key=key, value=value)


def contents(egress: Egress) -> Contents:
    """What they are to hold."""
    found: dict[str, set[Element]] = {name: set() for name in NOTHING}
    legs = {leg.network: leg for leg in egress.legs}
    for port in egress.open_ports:
        for name, element in _led(port, legs[port.network]):
            found[name].add(element)
    for address in egress.guards.services:
        found[SERVICES_V6 if ":" in address else SERVICES_V4].add((address,))
    for leg in egress.legs:
        for address in egress.guards.underlay.get(leg.network, ()):
            found[UNDERLAY_V6 if ":" in address else UNDERLAY_V4].add((leg.link, address))
    return {name: frozenset(elements) for name, elements in found.items()}


def forgotten(*, desired: Contents, actual: Contents) -> tuple[int, ...]:
    """Marks of flows that are led elsewhere now, or nowhere."""
    names = [marks(protocol) for protocol in PROTOCOLS]
    there, wanted = (
        {int(mark) for name in names for _, mark in held[name]} for held in (actual, desired)
    )
    return tuple(sorted(there - wanted))


def _led(port: OpenPort, leg: Leg) -> Iterator[tuple[str, Element]]:
    protocol, number = port.protocol, port.port
    yield OPEN_PORTS, (leg.link, protocol, number)
    yield marks(protocol), (number, mark_of(protocol, number, port.network))
    for inside in (leg.inside_v4, leg.inside_v6):
        there = addressing.address_of(inside)
        yield leads(protocol, v6=":" in there), (number, there)


def matches() -> Iterator[Statement]:
    """True for a packet to what is guarded, one statement for each set."""
    for name, types in GUARDS.items():
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
        found = item.get("set") or item.get("map")
        if found is not None and found["name"] in NOTHING:
            held[found["name"]] = frozenset(map(_element, found.pop("elem", ())))
    return msgspec.json.encode(objects, order="sorted").decode(), held


def amendments(*, desired: Contents, actual: Contents) -> str | None:
    """JSON of the commands that lead from one to the other; None when there is nothing to do."""
    commands: list[Command] = []
    for name in NOTHING:
        there, wanted = actual[name], desired[name]
        # A key of a map has one value: it goes before it comes with another.
        for verb, elements in (("delete", there - wanted), ("add", wanted - there)):
            if elements:
                commands.append({verb: {"element": _elements(name, elements)}})
    return msgspec.json.encode({"nftables": commands}).decode() if commands else None


def _elements(name: str, elements: Iterable[Element]) -> dict[str, Any]:
    written = [_written(name, element) for element in sorted(elements)]
    return {"family": FAMILY, "table": TABLE, "name": name, "elem": written}


def _written(name: str, element: Element) -> Any:
    if name in MAPS:
        return list(element)
    return element[0] if len(element) == 1 else {"concat": list(element)}


def _element(written: Any) -> Element:
    match written:
        case {"concat": parts}:
            return tuple(parts)
        case list():
            return tuple(written)
    return (written,)
