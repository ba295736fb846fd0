"""Rules of an egress netns for ports that tenants publish (PUB-020 .. PUB-025). Pure.

Who asks such a port of the uplink's addresses is sent on to the end of the leg in the tenant
netns, with the same port. Packets are judged one by one, by the port that was asked, so that what
is not published any more ends at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from overlay import addressing
from overlay.documents.published import PROTOCOLS
from overlay.exitnode import sets
from overlay.exitnode.egress import UPLINK_LINK, Egress
from overlay.model import Address, Prefix
from overlay.netns.flows import marked
from overlay.netns.nftjson import (
    ACCEPT,
    REDIRECTED,
    Rule,
    Statement,
    concat,
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
_L4PROTO = meta("l4proto")


def destinations(egress: Egress) -> Iterable[Rule]:
    """Of the first packet of a connection: one look-up, however many ports there are."""
    for v6, public in _public_addresses(egress):
        for protocol in PROTOCOLS:
            asked = payload(protocol, "dport")
            yield [
                when(meta("iifname"), UPLINK_LINK),
                when(payload("ip6" if v6 else "ip", "daddr"), one_of(public)),
                marked(mapped(asked, sets.marks(protocol))),
                to_destination(mapped(asked, sets.leads(protocol, v6=v6)), v6=v6),
            ]


def asked(*, chain: str) -> Rule:
    """To the leg: who asks an open port goes on in `chain`."""
    port = concat(meta("oifname"), _L4PROTO, payload("th", "dport"))
    return [direction("original"), REDIRECTED, _is_open(port), goto(chain)]


def admission(refused: Iterable[Sequence[Prefix]], *, limits: str, counter: str) -> Iterable[Rule]:
    """Who asks, by the operator's word and by what the tenant network has left."""
    for prefixes in refused:
        protocol = "ip6" if ":" in prefixes[0] else "ip"
        source = when(payload(protocol, "saddr"), one_of([prefix(each) for each in prefixes]))
        yield [source, *refuse("refused_client")]
    yield [jump(limits)]
    yield [count(counter), ACCEPT]


def answers() -> Iterable[Rule]:
    """From the leg, to somebody who asked. Guards keep tenants from asking, not from answering."""
    port = concat(meta("iifname"), _L4PROTO, payload("th", "sport"))
    yield [REDIRECTED, _is_open(port), _RETURN]
    # ICMP errors about what was let in.
    yield [REDIRECTED, when({"ct": {"key": "state"}}, "related", op="in"), _RETURN]
    yield refuse("refused_answer")


def _is_open(port: Statement) -> Statement:
    return when(port, f"@{sets.OPEN_PORTS}")


def _public_addresses(egress: Egress) -> Iterable[tuple[bool, list[Address]]]:
    every = sorted(map(addressing.address_of, egress.addresses))
    for v6 in (False, True):
        if family := [address for address in every if (":" in address) == v6]:
            yield v6, family
