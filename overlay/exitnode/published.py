"""Rules of an egress netns for ports that tenants publish (PUB-020 .. PUB-025). Pure.

Who asks such a port of the uplink's addresses is sent on to the end of the leg in the tenant
netns, with the same port. Packets are judged one by one, by the port that was asked, so that what
is not published any more ends at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from overlay import addressing
from overlay.exitnode.egress import UPLINK_LINK, Egress, Leg, OpenPort
from overlay.model import Address, NetworkId, Prefix, Protocol
from overlay.netns.flows import mark_of, marked
from overlay.netns.nftjson import (
    ACCEPT,
    REDIRECTED,
    Rule,
    Statement,
    count,
    direction,
    goto,
    jump,
    mapped,
    meta,
    one_of,
    payload,
    prefix,
    refuse,
    to_destination,
    when,
)

REFUSALS = {
    "refused_client": "the operator of this exit refuses whoever asks from there",
    "refused_answer": "it answers at a port that is not published, or not any more",
}

_RETURN: Statement = {"return": None}
Ports = Mapping[Protocol, Sequence[int]]


def ports_by_network(open_ports: Iterable[OpenPort]) -> Mapping[NetworkId, Ports]:
    """By protocol; all sorted."""
    found: dict[NetworkId, dict[Protocol, list[int]]] = {}
    for each in sorted(open_ports):
        ports = found.setdefault(each.network, {})
        ports.setdefault(each.protocol, []).append(each.port)
    return found


def destinations(egress: Egress) -> Iterable[Rule]:
    """Of the first packet of a connection: one look-up, however many ports there are."""
    legs = {leg.network: leg for leg in egress.legs}
    protocols = sorted({each.protocol for each in egress.open_ports})
    for v6, public in _public_addresses(egress):
        for protocol in protocols:
            there = [each for each in egress.open_ports if each.protocol == protocol]
            ends = {each.port: _inside(legs[each.network], v6=v6) for each in there}
            marks = {each.port: mark_of(protocol, each.port, each.network) for each in there}
            asked = payload(protocol, "dport")
            yield [
                when(meta("iifname"), UPLINK_LINK),
                when(payload("ip6" if v6 else "ip", "daddr"), one_of(public)),
                marked(mapped(asked, marks)),
                to_destination(mapped(asked, ends), v6=v6),
            ]


def asked(ports: Ports, *, chain: str) -> Iterable[Rule]:
    """To the leg: who asks an open port goes on in `chain`."""
    for protocol, numbers in ports.items():
        at = when(payload(protocol, "dport"), one_of(numbers))
        yield [direction("original"), REDIRECTED, at, goto(chain)]


def admission(refused: Iterable[Sequence[Prefix]], *, limits: str, counter: str) -> Iterable[Rule]:
    """Who asks, by the operator's word and by what the tenant network has left."""
    for prefixes in refused:
        protocol = "ip6" if ":" in prefixes[0] else "ip"
        source = when(payload(protocol, "saddr"), one_of([prefix(each) for each in prefixes]))
        yield [source, *refuse("refused_client")]
    yield [jump(limits)]
    yield [count(counter), ACCEPT]


def answers(ports: Ports) -> Iterable[Rule]:
    """From the leg, to somebody who asked. Guards keep tenants from asking, not from answering."""
    for protocol, numbers in ports.items():
        yield [REDIRECTED, when(payload(protocol, "sport"), one_of(numbers)), _RETURN]
    if ports:
        # ICMP errors about what was let in.
        yield [REDIRECTED, when({"ct": {"key": "state"}}, "related", op="in"), _RETURN]
    yield refuse("refused_answer")


def _public_addresses(egress: Egress) -> Iterable[tuple[bool, list[Address]]]:
    every = sorted(map(addressing.address_of, egress.addresses))
    for v6 in (False, True):
        if family := [address for address in every if (":" in address) == v6]:
            yield v6, family


def _inside(leg: Leg, *, v6: bool) -> Address:
    return addressing.address_of(leg.inside_v6 if v6 else leg.inside_v4)
