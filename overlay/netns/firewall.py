"""The nftables ruleset of a tenant netns, as data (libnftables JSON schema). Touches no kernel.

`inet zos` says who may talk to whom; `bridge zos` holds every workload to the MAC and the addresses
it was given. What is refused is counted by name, so that a person can be told why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import msgspec

from overlay.addressing import SUBNET_BITS_V4, SUBNET_BITS_V6, address_of, overlaps
from overlay.model import AllowRule, NetworkResource, Prefix, Publication
from overlay.netns import antispoof, dns, published
from overlay.netns.nftjson import (
    ACCEPT,
    DROP,
    Command,
    Rule,
    Statement,
    base_chain,
    chain,
    concat,
    counter,
    destination_nat_chain,
    goto,
    mark_chain,
    meta,
    one_of,
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
from overlay.netns.state import (
    BRIDGE_LINK,
    DRAIN_LINK,
    EXIT_LINK,
    LOOPBACK_LINK,
    WG_LINK,
    Attachment,
)

FAMILY = "inet"
# Discard (RFC 863): a new peer is poked there to start a handshake; it expects no answer.
POKE_PORT = 9
_REFUSALS = {
    "refused_invalid": "belongs to no connection that this node has seen",
    "refused_source": "the source address is not one that may come from there",
    "refused_policy": "the network's policy does not allow it",
    "refused_drain": "it began at an exit that drains, and would leave by another one",
    "refused_forward": "it is not between the overlay and this node's workloads",
    "refused_input": "it is for the node itself, which answers ping and questions for names only",
}
REFUSALS = {**_REFUSALS, **antispoof.REFUSALS}  # counter -> what a person is told


def ruleset(
    nr: NetworkResource,
    *,
    attachments: Iterable[Attachment],
    devices: Iterable[Prefix],
    is_exit: bool = False,
    is_routed: bool = False,
    serves_members: bool = True,
    has_exits: bool = False,
    way_out: int = 0,
    draining: int = 0,
    publications: Sequence[Publication] = (),
    admitted: Sequence[AllowRule] = (),
) -> str:
    """JSON of both tables, complete.

    `devices` are the subnets of access devices behind this node: the only ones between which and
    other nodes a packet may go in and out by WireGuard. `is_exit`: members may send by way of this
    node to where its egress netns leads, with `is_routed` as who they are by IPv6; only what is on
    this node when it does not serve members. `has_exits`: what is here may send to anywhere by way
    of a peer, and is answered; `way_out` is the mark of flows that begin to do so, 0 while there is
    no such peer, `draining` that of those that leave by wg1 or not at all. `publications`: what
    comes in from the egress netns of an exit, and where it goes. `admitted`: what exits send here
    for such, whatever the policy says.
    """
    local = tuple(sorted(devices))
    # What is refused here is no flow yet: its first packet by a way of our own gets its source.
    is_led = has_exits and way_out != 0
    chains: dict[str, Iterable[Rule]] = {
        "by_policy": _policy(nr, local, admitted),
        "overlay_in": _overlay_in(nr),
        "workload_out": _workload_out(nr, local, has_exits=is_led),
        "overlay_transit": _overlay_transit(nr, local, has_exits=is_led),
    }
    based: dict[str, Iterable[Rule]] = {
        "forward": _forward(is_exit=is_exit, has_exits=has_exits, draining=draining),
        "input": _input(nr, is_exit=is_exit),
    }
    if is_exit:
        chains["way_out"] = _way_out(nr, local, serves_members=serves_members)
        chains["published"] = published.admission(publications)
        based["destination_nat"] = published.destinations(publications)
        based["source_nat"] = (*_source_nat(nr, is_routed=is_routed), *published.sources(nr))
    if has_exits:
        based["mark_flows"] = _mark_flows(nr, way_out)
    inet = _inet_table(chains, based)
    tables = (inet, antispoof.bridge_table(attachments))
    return msgspec.json.encode({"nftables": [cmd for t in tables for cmd in t]}).decode()


def _inet_table(
    chains: Mapping[str, Iterable[Rule]], based: Mapping[str, Iterable[Rule]]
) -> list[Command]:
    """`based`: the chains that hooks of the kernel lead to."""
    bases = {
        "forward": base_chain(FAMILY, "forward", hook="forward", priority=0),
        "input": base_chain(FAMILY, "input", hook="input", priority=0),
        "destination_nat": destination_nat_chain(FAMILY, "destination_nat"),
        "source_nat": source_nat_chain(FAMILY, "source_nat"),
        "mark_flows": mark_chain(FAMILY, "mark_flows"),
    }
    return [
        table(FAMILY),
        *(counter(FAMILY, name) for name in _REFUSALS),
        *(chain(FAMILY, name) for name in chains),
        *(bases[name] for name in based),
        *(
            cmd
            for name, lines in (*chains.items(), *based.items())
            for cmd in rules(FAMILY, name, lines)
        ),
    ]


def _forward(*, is_exit: bool, has_exits: bool, draining: int) -> Iterable[Rule]:
    # Frames between two ports of the bridge come by here where br_netfilter is on. Policy speaks
    # of network resources, not of workloads inside one.
    yield [_from(BRIDGE_LINK), _to(BRIDGE_LINK), ACCEPT]
    yield [
        when(payload("tcp", "flags"), "syn", op="in"),
        {
            "mangle": {
                "key": {"tcp option": {"name": "maxseg", "field": "size"}},
                "value": {"rt": {"key": "mtu"}},
            }
        },
    ]
    if draining:
        # By the next exit it would be answered with a reset.
        original = when({"ct": {"key": "direction"}}, "original")
        marked = when({"ct": {"key": "mark"}}, draining)
        yield [_to(WG_LINK), original, marked, *refuse("refused_drain")]
    yield from _tracked()
    devices = (WG_LINK, DRAIN_LINK) if has_exits else (WG_LINK,)
    ways = {(each, BRIDGE_LINK): goto("overlay_in") for each in devices}
    ways |= {(BRIDGE_LINK, each): goto("workload_out") for each in devices}
    ways |= {(one, other): goto("overlay_transit") for one, other in product(devices, devices)}
    if is_exit:
        ways |= {(link, EXIT_LINK): goto("way_out") for link in (WG_LINK, BRIDGE_LINK)}
        ways |= {(EXIT_LINK, link): goto("published") for link in (WG_LINK, BRIDGE_LINK)}
    yield [verdicts(concat(meta("iifname"), meta("oifname")), ways)]
    yield refuse("refused_forward")


def _tracked() -> Iterable[Rule]:
    """Answers, and ICMP errors about what was let through (conntrack calls them related).

    Who asked is judged by policy with every packet, so that a rule taken back ends what it had
    allowed (NET-071).
    """
    state = {"ct": {"key": "state"}}
    yield [when({"ct": {"key": "direction"}}, "reply"), when(state, "established", op="in"), ACCEPT]
    yield [when(state, "related", op="in"), ACCEPT]
    yield [when(state, "invalid", op="in"), *refuse("refused_invalid")]


def _overlay_in(nr: NetworkResource) -> Iterable[Rule]:
    # WireGuard gives no peer our own subnet; this holds even if a device were set up by hand.
    for own in (nr.subnet_v4, nr.subnet_v6):
        yield [_within("saddr", [own]), *refuse("refused_source")]
    yield [goto("by_policy")]


def _workload_out(
    nr: NetworkResource, devices: Sequence[Prefix], *, has_exits: bool
) -> Iterable[Rule]:
    for own, whole in ((nr.subnet_v4, nr.range_v4), (nr.subnet_v6, nr.range_v6)):
        yield [_within("saddr", [own], op="!="), *refuse("refused_source")]
        # A device enforces nothing itself: its node does what other nodes do at their bridge.
        if local := _of_family(devices, own):
            yield [_within("daddr", local), goto("by_policy")]
        yield [_within("daddr", [whole]), ACCEPT]
    if has_exits:
        # The rules above have sorted out who it is from; where it may go, the exit judges.
        yield [ACCEPT]
        return
    yield refuse("refused_forward")


def _overlay_transit(
    nr: NetworkResource, devices: Sequence[Prefix], *, has_exits: bool
) -> Iterable[Rule]:
    for whole in (nr.range_v4, nr.range_v6):
        if local := _of_family(devices, whole):
            yield [_within("daddr", local), goto("by_policy")]
            yield [_within("saddr", local), _within("daddr", [whole]), ACCEPT]
            if has_exits:
                yield [_within("saddr", local), _within("daddr", [whole], op="!="), ACCEPT]
    yield refuse("refused_forward")


def _way_out(
    nr: NetworkResource, devices: Sequence[Prefix], *, serves_members: bool
) -> Iterable[Rule]:
    """From members and their workloads; where to, the egress netns judges."""
    for own, whole in ((nr.subnet_v4, nr.range_v4), (nr.subnet_v6, nr.range_v6)):
        yield [_within("daddr", [whole]), *refuse("refused_forward")]
        sources = [whole] if serves_members else sorted([own, *_of_family(devices, own)])
        yield [_within("saddr", sources), ACCEPT]
    yield refuse("refused_source")


def _source_nat(nr: NetworkResource, *, is_routed: bool) -> Iterable[Rule]:
    if is_routed:
        # No two networks have this range (NET-020); its egress netns gives it another prefix.
        yield [_to(EXIT_LINK), when(payload("ip6", "saddr"), prefix(nr.range_v6)), ACCEPT]
    # Tenants may have the same addresses; the leg has one of its own (decision 0009).
    yield [_to(EXIT_LINK), {"masquerade": {"flags": "fully-random"}}]


def _mark_flows(nr: NetworkResource, way_out: int) -> Iterable[Rule]:
    """Each flow that leaves the network has the mark of the exit that it began at (EXIT-060).

    One that nobody has answered yet begins still. Answers are routed by where they go to.
    """
    ct_mark = {"ct": {"key": "mark"}}
    is_new = when({"ct": {"key": "state"}}, "new", op="in")
    for whole in (nr.range_v4, nr.range_v6) if way_out else ():
        yield [is_new, _within("daddr", [whole], op="!="), put(ct_mark, way_out)]
    yield [when({"ct": {"key": "direction"}}, "original"), put(meta("mark"), ct_mark)]


def _policy(
    nr: NetworkResource, devices: Sequence[Prefix], admitted: Sequence[AllowRule]
) -> Iterable[Rule]:
    for allow in admitted:
        yield from _allowed(allow, allow.to)
    if nr.policy is None:
        for whole in (nr.range_v4, nr.range_v6):
            yield [_within("saddr", [whole]), _within("daddr", [whole]), ACCEPT]
    else:
        local = frozenset((nr.subnet_v4, nr.subnet_v6, *devices))
        for allow in nr.policy:
            yield from _allow(allow, local)
    yield refuse("refused_policy")


def _allow(allow: AllowRule, local: frozenset[Prefix]) -> Iterable[Rule]:
    return _allowed(allow, [prefix for prefix in allow.to if _is_here(prefix, local)])


def _allowed(allow: AllowRule, to: Sequence[Prefix]) -> Iterable[Rule]:
    for example in ("0.0.0.0/0", "::/0"):
        source, here = _of_family(allow.source, example), _of_family(to, example)
        if source and here:
            yield [
                _within("saddr", source),
                _within("daddr", here),
                *_transport(allow, v6=":" in example),
                ACCEPT,
            ]


def _is_here(prefix: Prefix, local: frozenset[Prefix]) -> bool:
    if prefix in local:
        return True
    # Members have whole subnets, so only a shorter prefix can cover one without being one.
    bits = SUBNET_BITS_V6 if ":" in prefix else SUBNET_BITS_V4
    shorter = int(prefix.rpartition("/")[2]) < bits
    return shorter and any(overlaps((prefix, mine)) for mine in local)


def _transport(allow: AllowRule, *, v6: bool) -> Sequence[Statement]:
    # `meta l4proto` looks behind IPv6 extension headers; `ip6 nexthdr` would be fooled by them.
    # Fragments arrive here whole: conntrack puts them together first.
    if allow.protocol == "any":
        return ()
    if allow.protocol == "icmp":
        return (when(meta("l4proto"), "ipv6-icmp" if v6 else "icmp"),)
    if allow.ports:
        return (when(payload(allow.protocol, "dport"), _ports(allow.ports)),)
    return (when(meta("l4proto"), allow.protocol),)


def _ports(ranges: Sequence[tuple[int, int]]) -> Any:
    values = [low if low == high else {"range": [low, high]} for low, high in ranges]
    return values[0] if len(values) == 1 else {"set": values}


def _input(nr: NetworkResource, *, is_exit: bool) -> Iterable[Rule]:
    yield [when(meta("iifname"), LOOPBACK_LINK), ACCEPT]
    yield from _tracked()
    for whole, echo in (
        (nr.range_v4, when(payload("icmp", "type"), "echo-request")),
        (nr.range_v6, when(payload("icmpv6", "type"), "echo-request")),
    ):
        yield [_within("saddr", [whole]), echo, ACCEPT]
    yield from _questions(nr)
    for link in (BRIDGE_LINK, EXIT_LINK) if is_exit else (BRIDGE_LINK,):
        yield [
            _from(link),
            when(payload("icmpv6", "type"), {"set": ["nd-neighbor-solicit", "nd-neighbor-advert"]}),
            ACCEPT,
        ]
    yield [when(payload("udp", "dport"), POKE_PORT), DROP]
    yield refuse("refused_input")


def _questions(nr: NetworkResource) -> Iterable[Rule]:
    """To the name server at the gateway's addresses, from whoever is in the network (DNS-024)."""
    for own, whole, gateway in (
        (nr.subnet_v4, nr.range_v4, nr.gateway_v4),
        (nr.subnet_v6, nr.range_v6, nr.gateway_v6),
    ):
        protocol = "ip6" if ":" in own else "ip"
        for link, source in ((BRIDGE_LINK, own), (WG_LINK, whole)):
            for transport in ("udp", "tcp"):
                yield [
                    _from(link),
                    _within("saddr", [source]),
                    when(payload(protocol, "daddr"), address_of(gateway)),
                    when(payload(transport, "dport"), dns.PORT),
                    ACCEPT,
                ]


def _from(link: str) -> Statement:
    return when(meta("iifname"), link)


def _to(link: str) -> Statement:
    return when(meta("oifname"), link)


def _within(field: str, prefixes: Sequence[Prefix], *, op: str = "==") -> Statement:
    protocol = "ip6" if ":" in prefixes[0] else "ip"
    return when(payload(protocol, field), one_of([prefix(p) for p in prefixes]), op=op)


def _of_family(prefixes: Iterable[Prefix], like: str) -> list[Prefix]:
    return [p for p in prefixes if (":" in p) == (":" in like)]
