"""What a router does to packets, as one nftables table. Pure.

Linux's own NAT maps by endpoint and filters by address and port (RFC 4787). Every other kind needs
to know what was sent: the chain `learn` writes down who sent what from where, before anything is
translated, and the maps and sets that it fills decide about what comes in. All of it holds for
UDP; TCP and ping are masqueraded and let nothing new in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from netlab.nat import Nat
from netlab.topology import WAN, Router

_TABLE = "inet netlab"

# Where ports come from that are not the sender's own: below those that Linux gives to sockets.
PORTS_FIRST, PORTS_COUNT = 10_000, 20_000
_ENTRIES_MAX = 65_535

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
# What a drawn port depends on: section 4.1.
_DRAWN_FROM = {
    "endpoint-independent": "ip saddr . udp sport",
    "address-dependent": "ip saddr . udp sport . ip daddr",
    "address-and-port-dependent": "ip saddr . udp sport . ip daddr . udp dport",
}

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
    if _learns(nat):
        yield f"{_NEW} {_UDP} ct status dnat accept"
    yield f"{_NEW} meta nfproto ipv4 drop"


def _learns(nat: Nat) -> bool:
    """Whether it takes more than Linux's own NAT."""
    return nat.hairpin or nat.filtering != "address-and-port-dependent"


def _preserves(nat: Nat) -> bool:
    return nat.ports == "preserve"


def _translation(nat: Nat, *, address: IPv4Address, seed: int) -> Iterator[str]:
    drawn = f"jhash {_DRAWN_FROM[nat.mapping]} mod {PORTS_COUNT} seed {seed} offset {PORTS_FIRST}"
    if _learns(nat):
        yield from _memory(nat)
        yield _chain("learn", "filter", "prerouting", "mangle", [*_learning(nat, drawn=drawn)])
        yield _chain("inbound", "nat", "prerouting", "dstnat", [*_inbound(nat, address=address)])
        if nat.filtering != "endpoint-independent":
            # Last of all, where a sender from inside has got its outer address already.
            rule = f"{_TO_LAN} {_UDP} ct state new ct status dnat {_FROM[nat.filtering]}"
            rules = [f"{rule} != @contacted drop"]
            yield _chain("filtering", "filter", "postrouting", "srcnat + 50", rules)
    outbound = [*_outbound(nat, address=address, drawn=drawn)]
    yield _chain("outbound", "nat", "postrouting", "srcnat", outbound)


def _memory(nat: Nat) -> Iterator[str]:
    flags = f"flags dynamic, timeout; timeout {nat.udp_timeout_s}s; size {_ENTRIES_MAX};"
    yield f"map mappings {{ type inet_service : ipv4_addr . inet_service; {flags} }}"
    if nat.filtering != "endpoint-independent":
        yield f"set contacted {{ type {_CONTACTED_TYPE[nat.filtering]}; {flags} }}"
    if _preserves(nat):
        yield f"set taken {{ type inet_service; {flags} }}"
        yield f"set holders {{ type inet_service . ipv4_addr; {flags} }}"


def _learning(nat: Nat, *, drawn: str) -> Iterator[str]:
    sent = f"{_FROM_LAN} {_UDP}"
    if nat.filtering != "endpoint-independent":
        yield f"{sent} update @contacted {{ {_CONTACTED[nat.filtering]} }}"
    inner = "ip saddr . udp sport"
    if _preserves(nat):
        # The first to use a port has it outside as well; for the others one is drawn.
        held = f"{sent} udp sport . ip saddr @holders update @taken {{ udp sport }}"
        yield f"{sent} udp sport != @taken update @holders {{ udp sport . ip saddr }}"
        yield (
            f"{held} update @holders {{ udp sport . ip saddr }}"
            f" update @mappings {{ udp sport : {inner} }} accept"
        )
    yield f"{sent} update @mappings {{ {drawn} : {inner} }}"


def _inbound(nat: Nat, *, address: IPv4Address) -> Iterator[str]:
    to = f"{_UDP} dnat ip to udp dport map @mappings"
    yield f"{_FROM_WAN} {to}"
    if nat.hairpin:
        yield f"{_FROM_LAN} ip daddr {address} {to}"


def _outbound(nat: Nat, *, address: IPv4Address, drawn: str) -> Iterator[str]:
    ways = [_TO_WAN]
    if nat.hairpin:
        ways.append(f"{_FROM_LAN} {_TO_LAN} ct status dnat")
    for way in ways:
        yield from _leaving(nat, way=way, address=address, drawn=drawn)


def _leaving(nat: Nat, *, way: str, address: IPv4Address, drawn: str) -> Iterator[str]:
    if not _preserves(nat):
        yield f"{way} {_UDP} snat ip to {address}:{drawn}"
        yield f"{way} meta nfproto ipv4 snat ip to {address} fully-random"
        return
    if _learns(nat):
        yield f"{way} {_UDP} udp sport . ip saddr != @holders snat ip to {address}:{drawn}"
    yield f"{way} meta nfproto ipv4 snat ip to {address}"


def _chain(name: str, kind: str, hook: str, priority: str, rules: Iterable[str]) -> str:
    head = f"type {kind} hook {hook} priority {priority};"
    return "\n".join((f"chain {name} {{", head, *rules, "}"))
