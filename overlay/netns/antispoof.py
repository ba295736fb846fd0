"""The bridge half of the firewall: a workload speaks with its own MAC and addresses, or not at all.

Allow lists throughout: what is not known to be harmless is refused, so that neither an extension
header nor a fragment hides anything (RFC 7113 describes the tricks).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from overlay.addressing import address_of, link_local, packed
from overlay.model import Address
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
    goto,
    meta,
    named_set,
    one_of,
    payload,
    refuse,
    rules,
    table,
    transport_bits,
    verdicts,
    when,
)
from overlay.netns.state import Attachment

FAMILY = "bridge"
REFUSALS = {
    "refused_frame": "a workload sent something that is not IPv4, IPv6 or ARP",
    "refused_port": "a workload used a MAC or an address that is not its own",
    "refused_neighbour": "a workload spoke for another in ARP or neighbour discovery",
    "refused_server": "a workload played router or DHCP server",
}

_ECHO = ("echo-request", "echo-reply")
_ICMPV6_ERRORS = (
    "destination-unreachable",
    "packet-too-big",
    "time-exceeded",
    "parameter-problem",
)
# Every IPv6 stack says these at start; nothing here listens, so they end quietly.
_ICMPV6_NOISE = (
    "nd-router-solicit",
    "mld-listener-report",
    "mld-listener-done",
    "mld2-listener-report",
)
_UNSPECIFIED = "::"
# The target of a neighbour solicitation or advertisement (RFC 4861 sections 4.3 and 4.4).
_ND_TARGET = transport_bits(offset=64, length=128)
_SENDER = (meta("iifname"), payload("ether", "saddr"))


def bridge_table(attachments: Iterable[Attachment]) -> list[Command]:
    """Commands that make the table `bridge zos`."""
    ports = sorted(attachments, key=lambda attachment: attachment.port)
    return [
        table(FAMILY),
        *(counter(FAMILY, name) for name in REFUSALS),
        *_sets(ports),
        *(chain(FAMILY, name) for name in (*_CHAINS, *map(_target_chain, ports))),
        base_chain(FAMILY, "from_port", hook="prerouting", priority=-300),
        base_chain(FAMILY, "to_bridge", hook="input", priority=-200, policy="accept"),
        *(cmd for name, lines in _CHAINS.items() for cmd in rules(FAMILY, name, lines)),
        *(cmd for port in ports for cmd in rules(FAMILY, _target_chain(port), _target(port))),
        *rules(FAMILY, "neighbour", _neighbour(ports)),
        *rules(FAMILY, "from_port", _FROM_PORT),
        *rules(FAMILY, "to_bridge", _TO_BRIDGE),
    ]


def _sets(ports: Sequence[Attachment]) -> Iterator[Command]:
    own = ("ifname", "ether_addr")
    yield named_set(
        FAMILY,
        "own_v4",
        types=(*own, "ipv4_addr"),
        elements=((port.port, port.mac, address_of(port.address_v4)) for port in ports),
    )
    yield named_set(
        FAMILY,
        "own_v6",
        types=(*own, "ipv6_addr"),
        elements=(
            (port.port, port.mac, address)
            for port in ports
            for address in (*_addresses_v6(port), _UNSPECIFIED)
        ),
    )


def _addresses_v6(port: Attachment) -> tuple[Address, Address]:
    return address_of(port.address_v6), link_local(port.mac)


def _target_chain(port: Attachment) -> str:
    return f"target_{port.port}"


def _target(port: Attachment) -> Iterable[Rule]:
    own = [f"0x{packed(address).hex()}" for address in _addresses_v6(port)]
    yield [when(_ND_TARGET, one_of(sorted(own))), ACCEPT]
    yield refuse("refused_neighbour")


def _neighbour(ports: Sequence[Attachment]) -> Iterable[Rule]:
    if ports:
        branches = {port.port: goto(_target_chain(port)) for port in ports}
        yield [verdicts(meta("iifname"), branches)]
    yield refuse("refused_neighbour")


def _icmpv6(*types: str) -> Statement:
    return when(payload("icmpv6", "type"), one_of(types))


_FROM_PORT: Sequence[Rule] = (
    # `ether type` sees the tag of a VLAN frame even where the kernel took it off.
    [
        when(payload("ether", "type"), {"set": ["arp", "ip", "ip6"]}, op="!="),
        *refuse("refused_frame"),
    ],
    [
        when(concat(*_SENDER, payload("arp", "saddr ip")), "@own_v4"),
        when(
            concat(meta("iifname"), payload("arp", "saddr ether"), payload("arp", "saddr ip")),
            "@own_v4",
        ),
        ACCEPT,
    ],
    [when(payload("ether", "type"), "arp"), *refuse("refused_neighbour")],
    [when(concat(*_SENDER, payload("ip", "saddr")), "@own_v4"), goto("ipv4")],
    [when(payload("ether", "type"), "ip6"), _icmpv6(*_ICMPV6_NOISE), DROP],
    [when(concat(*_SENDER, payload("ip6", "saddr")), "@own_v6"), goto("ipv6")],
    refuse("refused_port"),
)

_IPV4: Sequence[Rule] = (
    [when(payload("udp", "sport"), 67), *refuse("refused_server")],
    [ACCEPT],
)

_IPV6: Sequence[Rule] = (
    # Duplicate address detection is all that may come from no address (RFC 4862 section 5.4.2).
    [
        when(payload("ip6", "saddr"), _UNSPECIFIED),
        _icmpv6("nd-neighbor-solicit"),
        goto("neighbour"),
    ],
    [when(payload("ip6", "saddr"), _UNSPECIFIED), *refuse("refused_port")],
    # Nothing after the first fragment can matter when the first one was refused.
    [
        when({"exthdr": {"name": "frag", "field": "frag-off"}}, 0, op="!="),
        ACCEPT,
    ],
    [when(meta("l4proto"), "ipv6-icmp"), goto("icmpv6")],
    [when(meta("l4proto"), "udp"), goto("udp")],
    # Matches whenever there is a transport protocol to be found at all (255 is reserved).
    [when(meta("l4proto"), 255, op="!="), ACCEPT],
    refuse("refused_frame"),
)

_ICMPV6: Sequence[Rule] = (
    [_icmpv6(*_ECHO, *_ICMPV6_ERRORS, "nd-neighbor-solicit"), ACCEPT],
    [_icmpv6("nd-neighbor-advert"), goto("neighbour")],
    refuse("refused_server"),
)

_UDP: Sequence[Rule] = (
    [when(payload("udp", "sport"), 547, op="!="), ACCEPT],
    refuse("refused_server"),
)

_CHAINS: dict[str, Sequence[Rule]] = {
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "icmpv6": _ICMPV6,
    "udp": _UDP,
    "neighbour": (),
}

_TO_BRIDGE: Sequence[Rule] = (
    # Frames to most link-local groups pass by `from_port` (net/bridge/br_input.c,
    # br_handle_frame); those that pass by this too reach nobody, and pin_mac keeps the bridge
    # from learning from them.
    [
        when(
            {"&": [payload("ether", "daddr"), "ff:ff:ff:ff:ff:f0"]},
            "01:80:c2:00:00:00",
        ),
        *refuse("refused_frame"),
    ],
)
