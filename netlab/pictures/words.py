"""The words in pictures: impairments, NATs, roles. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.files import quantities
from netlab.impairment import Both, Impairment
from netlab.nat import NATS, UDP_TIMEOUT_S, Nat
from netlab.pictures.live import Live
from netlab.topology import MTU_BYTES_DEFAULT, Draft, Link, Node, Router

STRAIGHT = ("direct", "lan")
TOLD_MAX = 6  # pairs on a line
ROLES = {"host": "host", "node": "zos node", "registry": "registry", "client": "client"}


def link_lines(link: Link) -> list[str]:
    """What is not plain about a link: a line for both ways, or one for each."""
    lines = both_lines(link.impaired)
    plain = []
    if link.mtu_bytes != MTU_BYTES_DEFAULT:
        plain.append(f"MTU {link.mtu_bytes}")
    if not link.ipv6:
        plain.append("IPv4 only")
    if not link.ipv4:
        plain.append("IPv6 only")
    return [*lines, *([", ".join(plain)] if plain else [])]


def both_lines(both: Both) -> list[str]:
    """ "20 ms ± 2 ms, 1% loss", or a line with ↑ and one with ↓ where they differ."""
    up, down = (", ".join(_one_way(way)) for way in (both.up, both.down))
    if up == down:
        return [up] if up else []
    return [f"{arrow} {words}" for arrow, words in (("↑", up), ("↓", down)) if words]


def nat_words(router: Router) -> list[str]:
    """How a router translates and what it keeps out."""
    lines: list[str] = []
    if router.nat is not None:
        lines += _nat(router.nat)
    if router.firewall != "none":
        lines.append({"stateful": "stateful firewall", "block-udp": "UDP blocked"}[router.firewall])
    return lines or ["router"]


def role_words(node: Node) -> str:
    """ "zos node, relay, exit by eth1" """
    offers = [*(["relay"] if node.relay else [])]
    offers += [f"exit by {node.exit.uplink}"] if node.exit is not None else []
    return ", ".join((ROLES[node.role], *offers))


def way_lines(live: Live) -> list[str]:
    """In which way nodes of each tenant network reach each other, and by whom they leave it.

    Not straight ones by name, as many as fit on a line; straight ones by their number.
    """
    lines = []
    for tenant in dict.fromkeys(tunnel.tenant for tunnel in live.tunnels):
        ways: dict[str, list[str]] = {}
        for tunnel in live.tunnels:
            if tunnel.tenant == tenant:
                ways.setdefault(tunnel.way, []).append("–".join(tunnel.ends))
        for way in sorted(ways, key=lambda way: (way.partition(" ")[0] in STRAIGHT, way)):
            pairs = ways[way]
            if way in STRAIGHT:
                told = f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'}"
            else:
                more = f" and {len(pairs) - TOLD_MAX} more" if len(pairs) > TOLD_MAX else ""
                told = ", ".join(pairs[:TOLD_MAX]) + more
            lines.append(f"{tenant}, {way}: {told}")
    for leaving in live.leaving:
        failed = f" ({', '.join(leaving.failed)} failed)" if leaving.failed else ""
        lines.append(f"{leaving.tenant} leaves by the exit {leaving.exit}{failed}")
    return lines


def counts(topology: Draft) -> str:
    """ "2 regions, 1 router, 5 nodes" """
    numbers = {
        "region": len(topology.regions),
        "router": len(topology.routers),
        "LAN": len(topology.lans),
        "node": len(topology.nodes),
        "tenant": len(topology.tenants),
    }
    return ", ".join(
        f"{count} {what}{'' if count == 1 else 's'}" for what, count in numbers.items() if count
    )


def networks(topology: Draft) -> list[str]:
    """All tenant networks, as "tenant/network"."""
    return [f"{tenant.name}/{each.name}" for tenant in topology.tenants for each in tenant.networks]


def _nat(nat: Nat) -> Iterator[str]:
    name = next(
        (
            name
            for name, preset in NATS.items()
            if (preset.mapping, preset.filtering, preset.ports)
            == (nat.mapping, nat.filtering, nat.ports)
        ),
        None,
    )
    short = {
        "endpoint-independent": "EI",
        "address-dependent": "AD",
        "address-and-port-dependent": "APD",
    }
    axes = f"{short[nat.mapping]} mapping, {short[nat.filtering]} filtering"
    yield f"NAT, {name or axes}"
    rest = []
    if nat.hairpin:
        rest.append("hairpin")
    if nat.udp_timeout_s != UDP_TIMEOUT_S:
        rest.append(f"forgets in {nat.udp_timeout_s} s")
    if rest:
        yield ", ".join(rest)


def _one_way(way: Impairment) -> Iterator[str]:
    if way.delay_s or way.jitter_s:
        jitter = f" ± {_spaced(quantities.format_time(way.jitter_s))}" if way.jitter_s else ""
        yield _spaced(quantities.format_time(way.delay_s)) + jitter
    for share, what in (
        (way.loss, "loss"),
        (way.duplicate, "twice"),
        (way.reorder, "reordered"),
    ):
        if share:
            yield f"{quantities.format_share(share)} {what}"
    if way.rate_bit_s:
        yield _spaced(quantities.format_rate(way.rate_bit_s)) + "/s"
    for drop in way.drops:
        yield f"no {quantities.format_drop(drop)}"


def _spaced(quantity: str) -> str:
    """ "20 ms" of "20ms" """
    digits = quantity.rstrip("abcdefghijklmnopqrstuvwxyz")
    return f"{digits} {quantity[len(digits) :]}"
