"""The nftables ruleset of an egress netns, as data. Touches no kernel.

Each tenant network comes in by its own leg, with its own limits and counters, and goes out by the
uplink or not at all. Packets of a connection are judged one by one, so what the operator takes back
ends what it had allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from overlay import addressing
from overlay.documents.exits import ROUTED_BITS, ExitOffer
from overlay.exitnode import published, sets
from overlay.exitnode.daemons import SHARED_PORTS
from overlay.exitnode.egress import LEG_PREFIX, UPLINK_LINK, Egress, Leg, source_families
from overlay.exitnode.guards import guarded
from overlay.model import InterfaceAddress, Prefix
from overlay.netns.nftjson import (
    ACCEPT,
    Command,
    Rule,
    Statement,
    base_chain,
    chain,
    count,
    counter,
    destination_nat_chain,
    direction,
    jump,
    meta,
    one_of,
    over_connections,
    over_rate,
    payload,
    prefix,
    put,
    refuse,
    rules,
    source_nat_chain,
    table,
    verdicts,
    when,
)

FAMILY = "inet"
SMTP_PORT = 25
COUNTED = 1  # in the mark of a connection that is within the limits, beside where it is led
BURST_MS = 100  # of bandwidth
MIN_BURST_KBYTES = 64  # a segment of generic offload counts as one packet of up to 64 KiB

REFUSALS = {
    "refused_invalid": "belongs to no connection that this exit has seen",
    "refused_operator": "the operator of this exit refuses this destination",
    "refused_guard": "an exit leads to the internet only, not to private or special addresses",
    "refused_underlay": "overlays stand on it: it is a registry, a relay or a node of the network",
    "refused_uplink": "the uplink has no address of this family, or not yet",
    "refused_smtp": "this exit sends no mail (TCP port 25)",
    "refused_forward": "it is not between a tenant and the uplink",
    "refused_input": "it is for the exit itself",
    **published.REFUSALS,
}
# Of each leg: its traffic, and what was over a limit.
LEG_COUNTERS = ("up", "down", "source", "connections", "connection_rate", "bandwidth")

_MARK = {"ct": {"key": "mark"}}
_STATE = {"ct": {"key": "state"}}
_RETURN: Statement = {"return": None}


def ruleset(egress: Egress, *, addresses: Sequence[InterfaceAddress]) -> str:
    """JSON of the whole table, its sets empty. `addresses` are those that the uplink has.

    Neighbours by them, and by those that it is to have, are guarded.
    """
    chains: dict[str, Iterable[Rule]] = {"guard": _guard(egress, addresses)}
    for leg in egress.legs:
        chains |= _leg(leg, egress)
    names = [*REFUSALS, *(leg_counter(leg, each) for leg in egress.legs for each in LEG_COUNTERS)]
    commands: list[Command] = [
        table(FAMILY),
        *(counter(FAMILY, name) for name in names),
        *sets.declarations(),
        *(chain(FAMILY, name) for name in chains),
        base_chain(FAMILY, "forward", hook="forward", priority=0),
        base_chain(FAMILY, "input", hook="input", priority=0),
        destination_nat_chain(FAMILY, "destination_nat"),
        source_nat_chain(FAMILY, "source_nat"),
        *(cmd for name, lines in chains.items() for cmd in rules(FAMILY, name, lines)),
        *rules(FAMILY, "forward", _forward(egress, addresses)),
        *rules(FAMILY, "input", _input(egress)),
        *rules(FAMILY, "destination_nat", published.destinations(egress)),
        *rules(FAMILY, "source_nat", _source_nat(egress)),
    ]
    return msgspec.json.encode({"nftables": commands}).decode()


def leg_counter(leg: Leg, what: str) -> str:
    """The name of a counter of one leg."""
    return f"{leg.link.removeprefix(LEG_PREFIX)}_{what}"


def _forward(egress: Egress, addresses: Sequence[InterfaceAddress]) -> Iterable[Rule]:
    legs = egress.legs
    yield [when(_STATE, "invalid", op="in"), *refuse("refused_invalid")]
    # A connection keeps the source that its first packet got, however wrong it was.
    for family in {*egress.learnt}.difference(source_families(addresses)):
        yield [when(meta("nfproto"), f"ipv{family}"), *refuse("refused_uplink")]
    yield [
        when(payload("tcp", "flags"), "syn", op="in"),
        {
            "mangle": {
                "key": {"tcp option": {"name": "maxseg", "field": "size"}},
                "value": {"rt": {"key": "mtu"}},
            }
        },
    ]
    if legs:
        up = {leg.link: jump(_chain(leg, "up")) for leg in legs}
        down = {leg.link: jump(_chain(leg, "down")) for leg in legs}
        yield [_to(UPLINK_LINK), verdicts(meta("iifname"), up)]
        yield [_from(UPLINK_LINK), verdicts(meta("oifname"), down)]
    yield refuse("refused_forward")


def _leg(leg: Leg, egress: Egress) -> dict[str, Iterable[Rule]]:
    return {
        _chain(leg, "new"): _new(leg, egress.offer),
        _chain(leg, "answers"): published.answers(),
        _chain(leg, "asked"): published.admission(
            _by_family(map(Prefix, egress.offer.refuse)),
            limits=_chain(leg, "new"),
            counter=leg_counter(leg, "down"),
        ),
        _chain(leg, "up"): _up(leg, egress),
        _chain(leg, "down"): _down(leg, egress.offer),
    }


def _up(leg: Leg, egress: Egress) -> Iterable[Rule]:
    """From the tenant. Its netns has given every packet the one source address of the leg; where
    the network has a prefix of its own, members are who they are."""
    for address in (leg.inside_v4, leg.inside_v6):
        sources: list[Any] = [addressing.address_of(address)]
        if ":" in address and leg.network in egress.routed:
            sources.append(prefix(leg.range_v6))
        yield [
            when(meta("nfproto"), "ipv6" if ":" in address else "ipv4"),
            when(_field("saddr", address), one_of(sources), op="!="),
            *_over(leg, "source"),
        ]
    yield [direction("original"), jump("guard")]
    yield [direction("reply"), jump(_chain(leg, "answers"))]
    yield [jump(_chain(leg, "new"))]
    yield from _bandwidth(leg, egress.offer)
    yield [count(leg_counter(leg, "up")), ACCEPT]


def _new(leg: Leg, offer: ExitOffer) -> Iterable[Rule]:
    """Limits of what is new, whichever side begins."""
    new = when(_STATE, "new", op="in")
    # What nobody answers stays new, however many packets it sends: it counts with the first one.
    is_first = when({"&": [_MARK, COUNTED]}, 0)
    rate = over_rate(offer.connections_per_s, burst=offer.connections_per_s)
    yield [new, is_first, rate, *_over(leg, "connection_rate")]
    yield [new, over_connections(offer.connections), *_over(leg, "connections")]
    yield [new, put(_MARK, {"|": [_MARK, COUNTED]})]


def _down(leg: Leg, offer: ExitOffer) -> Iterable[Rule]:
    """To the tenant: answers, ICMP errors about what went out, and who asks an open port."""
    yield from _bandwidth(leg, offer)
    answer = [direction("reply"), when(_STATE, "established", op="in")]
    for matches in (answer, [when(_STATE, "related", op="in")]):
        yield [*matches, count(leg_counter(leg, "down")), ACCEPT]
    yield published.asked(chain=_chain(leg, "asked"))


def _bandwidth(leg: Leg, offer: ExitOffer) -> Iterable[Rule]:
    if offer.rate_mbit:
        kbytes = offer.rate_mbit * 1_000_000 // 8 // 1024
        burst = max(MIN_BURST_KBYTES, kbytes * BURST_MS // 1000)
        yield [over_rate(kbytes, burst=burst, unit="kbytes"), *_over(leg, "bandwidth")]


def _guard(egress: Egress, addresses: Sequence[InterfaceAddress]) -> Iterable[Rule]:
    """Refuses, or returns. What the operator says comes before what is so by default."""
    offer = egress.offer
    for refused in _by_family(map(Prefix, offer.refuse)):
        yield [_within(refused), *refuse("refused_operator")]
    if not offer.smtp:
        yield [when(payload("tcp", "dport"), SMTP_PORT), *refuse("refused_smtp")]
    for allowed in _by_family(map(Prefix, offer.allow)):
        yield [_within(allowed), _RETURN]
    near = [addressing.prefix_of(address) for address in (*egress.addresses, *addresses)]
    if offer.uplink.ipv6_prefix is not None:
        near.append(Prefix(offer.uplink.ipv6_prefix))
    for special in _by_family(guarded((*near, *egress.node_prefixes))):
        yield [_within(special), *refuse("refused_guard")]
    for to_guarded in sets.matches():
        yield [to_guarded, *refuse("refused_underlay")]


def _input(egress: Egress) -> Iterable[Rule]:
    """Nobody talks to the exit itself, but for what a link needs to work."""
    yield [when(_STATE, ["established", "related"], op="in"), ACCEPT]
    neighbours = ["nd-neighbor-solicit", "nd-neighbor-advert"]
    yield [when(payload("icmpv6", "type"), {"set": neighbours}), ACCEPT]
    if 6 in egress.learnt:
        yield [_from(UPLINK_LINK), when(payload("icmpv6", "type"), "nd-router-advert"), ACCEPT]
    yield refuse("refused_input")


def _source_nat(egress: Egress) -> Iterable[Rule]:
    if egress.is_shared:
        transports = when(meta("l4proto"), {"set": ["tcp", "udp"]})
        ports = {"range": list(SHARED_PORTS)}
        yield [
            _to(UPLINK_LINK),
            transports,
            {"masquerade": {"port": ports, "flags": "fully-random"}},
        ]
    for leg in egress.legs:
        if (to := egress.routed.get(leg.network)) is not None:
            first = addressing.subprefix(leg.range_v6, 0, bits=ROUTED_BITS)
            yield [_to(UPLINK_LINK), when(_field("saddr", first), prefix(first)), _moved_to(to)]
    # Chosen at random: what one tenant opens tells another nothing about ports (RFC 6056).
    yield [_to(UPLINK_LINK), {"masquerade": {"flags": "fully-random"}}]


def _moved_to(to: Prefix) -> Statement:
    """Another prefix, the rest of the address as it was."""
    how = {"flags": "netmap", "type_flags": "prefix"}
    return {"snat": {"family": "ip6", "addr": prefix(to), **how}}


def _over(leg: Leg, what: str) -> Rule:
    return refuse(leg_counter(leg, what))


def _chain(leg: Leg, direction: str) -> str:
    return f"{direction}_{leg.link.removeprefix(LEG_PREFIX)}"


def _by_family(prefixes: Iterable[Prefix]) -> Iterable[list[Prefix]]:
    every = list(prefixes)
    families = ([p for p in every if ":" not in p], [p for p in every if ":" in p])
    return [family for family in families if family]


def _within(prefixes: Sequence[Prefix]) -> Statement:
    return when(_field("daddr", prefixes[0]), one_of([prefix(p) for p in prefixes]))


def _field(name: str, example: str) -> Statement:
    return payload("ip6" if ":" in example else "ip", name)


def _from(link: str) -> Statement:
    return when(meta("iifname"), link)


def _to(link: str) -> Statement:
    return when(meta("oifname"), link)
