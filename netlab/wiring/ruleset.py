"""What a router does to packets, as one nftables table. Pure.

Linux's own NAT gives one port to two who send to different ends, and lets in by address and port
only (RFC 4787 sections 4.1 and 5). So who sent what from where is written down here: the chain
`give` finds a port for it, the chain `contact` who was sent to, and what they fill decides which
port a packet leaves with and what comes in. All of it holds for UDP; TCP and ping are masqueraded
and let nothing new in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from netlab.nat import Nat
from netlab.topology import WAN, Router

_TABLE = "inet netlab"

# Where ports are drawn from: below those that Linux gives to sockets. Few, for each is in `ports`.
PORTS_FIRST, PORTS_COUNT = 16_384, 512
# How often one is drawn for a mapping until a free one is found.
DRAWS = 8
# Of each map and set of a router, which takes memory for so many from the beginning.
_ENTRIES_MAX = 8_192

# What comes in when a mapping is there, and from whom: RFC 4787 section 5.
_CONTACTED = {
    "address-dependent": "ip saddr . udp sport . ip daddr",
    "address-and-port-dependent": "ip saddr . udp sport . ip daddr . udp dport",
}
_FROM = {
    "address-dependent": "ip daddr . udp dport . ip saddr",
    "address-and-port-dependent": "ip daddr . udp dport . ip saddr . udp sport",
}
_CONTACTED_TYPE = {
    "address-dependent": "ipv4_addr . inet_service . ipv4_addr",
    "address-and-port-dependent": "ipv4_addr . inet_service . ipv4_addr . inet_service",
}
# What has a mapping of its own: section 4.1.
_MAPPED = {"endpoint-independent": "ip saddr . udp sport", **_CONTACTED}
_MAPPED_TYPE = {"endpoint-independent": "ipv4_addr . inet_service", **_CONTACTED_TYPE}

_UDP = "meta nfproto ipv4 meta l4proto udp"
_FROM_WAN, _FROM_LAN = f'iifname "{WAN}"', f'iifname != "{WAN}"'
_TO_WAN, _TO_LAN = f'oifname "{WAN}"', f'oifname != "{WAN}"'
_NEW = f"{_FROM_WAN} ct state new"
_PING = ("icmp type echo-request accept", "icmpv6 type echo-request accept")


def router_ruleset(router: Router, *, address: IPv4Address | None, seed: int = 0) -> str:
    """nftables text; empty for a router that lets everything through.

    address  the router's own on its uplink; without one nothing of IPv4 is translated
    seed     what ports are drawn from: the same one gives the same ports
    """
    chains: list[str] = []
    inward, through = [*_firewall_inward(router)], [*_firewall_through(router)]
    if router.nat is not None and address is not None:
        chains += _translation(router.nat, address=address, seed=seed)
        # Without this an early probe to a mapped port becomes the router's own connection, and
        # the mapping moves to another port.
        inward.append(f"{_NEW} meta nfproto ipv4 drop")
        # From inside, the outer address means a host behind it or nobody.
        inward.append(f"{_FROM_LAN} ip daddr {address} drop")
        through += _uninvited(router.nat)
    if not (inward or through):
        return ""
    chains += [
        _chain("input", "filter", "input", "filter", [*_PING, *inward]),
        _chain("forward", "filter", "forward", "filter", [*_PING, *through]),
    ]
    return "\n".join((f"table {_TABLE} {{", *chains, "}\n"))


def reloaded(ruleset: str) -> str:
    """In place of what was there, in one transaction; what the old rules had learnt goes."""
    return f"table {_TABLE}\ndelete table {_TABLE}\n{ruleset}"


def router_sysctls(router: Router) -> tuple[tuple[str, str], ...]:
    """What the ruleset needs besides: how long a mapping lives (RFC 4787 section 4.3)."""
    if router.nat is None:
        return ()
    names = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")
    timeout = str(router.nat.udp_timeout_s)
    return tuple((f"/proc/sys/net/netfilter/{name}", timeout) for name in names)


def _firewall_inward(router: Router) -> Iterator[str]:
    if router.firewall != "none":
        yield f"{_NEW} drop"


def _firewall_through(router: Router) -> Iterator[str]:
    if router.firewall == "block-udp":
        yield "meta l4proto udp drop"
    yield from _firewall_inward(router)


def _uninvited(nat: Nat) -> Iterator[str]:
    """What no mapping leads in, and what Linux would let in by a mapping of another remote."""
    if _lets_in(nat):
        yield f"{_NEW} {_UDP} ct status dnat accept"
    yield f"{_NEW} meta nfproto ipv4 drop"


def _lets_in(nat: Nat) -> bool:
    """Whether what comes in is decided here: Linux's own NAT filters by address and port."""
    return nat.hairpin or nat.filtering != "address-and-port-dependent"


def _translation(nat: Nat, *, address: IPv4Address, seed: int) -> Iterator[str]:
    yield from _memory(nat, seed=seed)
    # After the firewall, so that only what leaves takes a port.
    rules = (f"{_FROM_LAN} {way} {_UDP} goto give" for way in _ways(nat))
    yield _chain("learn", "filter", "forward", "filter + 10", rules)
    if _lets_in(nat):
        if nat.filtering != "endpoint-independent":
            # First of all, where an outer address is not that of a host behind it yet.
            contacts = f"{_FROM_LAN} {_UDP} update @contacted {{ {_CONTACTED[nat.filtering]} }}"
            yield _chain("contact", "filter", "prerouting", "mangle", [contacts])
            # Last of all, where a sender from inside has got its outer address already.
            uninvited = f"{_TO_LAN} {_UDP} ct state new ct status dnat {_FROM[nat.filtering]}"
            drops = f"{uninvited} != @contacted drop"
            yield _chain("filtering", "filter", "postrouting", "srcnat + 50", [drops])
        yield _chain("inbound", "nat", "prerouting", "dstnat", _inbound(nat, address=address))
    yield _chain("outbound", "nat", "postrouting", "srcnat", _outbound(nat, address=address))


def _ways(nat: Nat) -> Iterator[str]:
    """What is translated."""
    yield _TO_WAN
    if nat.hairpin:
        yield f"{_FROM_LAN} {_TO_LAN} ct status dnat"


def _memory(nat: Nat, *, seed: int) -> Iterator[str]:
    """What is learnt, and forgotten with time. A port is a mark here, and no port: nftables lets a
    number that is drawn into a map as nothing else.

    outers     the outer port of a mapping
    taken      outer ports that a mapping has. Two with the same one and the same remote end would
               be one connection to Linux, which drops without a word what comes second.
    mappings   who is behind an outer port
    contacted  who was sent to, as far as filtering looks at it
    ports      marks as ports again, for each that can be drawn
    """
    flags = f"flags dynamic, timeout; timeout {nat.udp_timeout_s}s; size {_ENTRIES_MAX};"
    keep = f"update @outers {{ {_MAPPED[nat.mapping]} : meta mark }} update @taken {{ meta mark }}"
    yield f"map outers {{ type {_MAPPED_TYPE[nat.mapping]} : mark; {flags} }}"
    yield f"set taken {{ type mark; {flags} }}"
    if _lets_in(nat):
        keep += " update @mappings { meta mark : ip saddr . udp sport }"
        yield f"map mappings {{ type mark : ipv4_addr . inet_service; {flags} }}"
        if nat.filtering != "endpoint-independent":
            yield f"set contacted {{ type {_CONTACTED_TYPE[nat.filtering]}; {flags} }}"
    drawn = range(PORTS_FIRST, PORTS_FIRST + PORTS_COUNT)
    elements = ", ".join(f"{port} : {port}" for port in drawn)
    yield f"map ports {{ type mark : inet_service; elements = {{ {elements} }}; }}"
    yield f"chain keep {{ {_UDP} {keep}; }}"
    yield "\n".join(("chain give {", *_giving(nat, seed=seed), "}"))


def _giving(nat: Nat, *, seed: int) -> Iterator[str]:
    """A mapping keeps its port; a new one gets the first that nobody has.

    When all that are tried are taken, there is none: Linux finds one for that connection alone.
    """
    mapped = _MAPPED[nat.mapping]
    yield f"{_UDP} meta mark set {mapped} map @outers goto keep"
    tries = ["@th,0,32 >> 16"] if nat.ports == "preserve" else []
    for number in range(DRAWS):
        limits = f"mod {PORTS_COUNT} seed {(seed + number) % 2**32} offset {PORTS_FIRST}"
        tries.append(f"jhash {mapped} {limits}")
    for port in tries:
        yield f"{_UDP} meta mark set {port} meta mark != @taken goto keep"


def _inbound(nat: Nat, *, address: IPv4Address) -> Iterator[str]:
    # The port that a packet is sent to, as a number.
    to = f"{_UDP} meta mark set @th,16,32 >> 16 dnat ip to meta mark map @mappings"
    yield f"{_FROM_WAN} {to}"
    if nat.hairpin:
        yield f"{_FROM_LAN} ip daddr {address} {to}"


def _outbound(nat: Nat, *, address: IPv4Address) -> Iterator[str]:
    preserves = nat.ports == "preserve"
    for way in _ways(nat):
        outer = f"{way} {_UDP} meta mark set {_MAPPED[nat.mapping]} map @outers"
        yield f"{outer} snat ip to {address}:meta mark map @ports"
        if preserves:
            yield f"{outer} snat ip to {address}"
        undrawn = f"{PORTS_FIRST + PORTS_COUNT}-65535 fully-random"
        yield f"{way} {_UDP} snat ip to {address}:{undrawn}"
        others = f"{way} meta nfproto ipv4 snat ip to {address}"
        yield others if preserves else f"{others} fully-random"


def _chain(name: str, kind: str, hook: str, priority: str, rules: Iterable[str]) -> str:
    head = f"type {kind} hook {hook} priority {priority};"
    return "\n".join((f"chain {name} {{", head, *rules, "}"))
