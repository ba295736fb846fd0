"""How much crossed every link and tunnel between two looks at a lab. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from netlab.supervisor.status import LabStatus, LinkStatus, ZosPeer


class LinkRate(msgspec.Struct, frozen=True):
    """`out` leaves the end that declares the link."""

    name: str
    state: str  # "up" or "cut"
    out_bit_s: float
    in_bit_s: float
    dropped: int  # since the lab began


class TunnelRate(msgspec.Struct, frozen=True):
    """Both directions together, as the node at one end counts them."""

    name: str  # "n1 - n2"
    network: str
    state: str
    path: str
    bit_s: float


class Rates(msgspec.Struct, frozen=True):
    """The busiest first; the same order for the same figures."""

    schema: int
    lab: str
    state: str
    lab_s: float
    links: tuple[LinkRate, ...]
    tunnels: tuple[TunnelRate, ...]


def compare(before: LabStatus, now: LabStatus, *, rows: int) -> Rates:
    """Two looks at one lab, `before` the earlier one; at most so many rows of each kind."""
    seconds = max(now.lab_s - before.lab_s, 0.001)
    links = sorted(
        _links(before, now, seconds), key=lambda each: (-each.out_bit_s - each.in_bit_s, each.name)
    )
    tunnels = sorted(
        _tunnels(before, now, seconds), key=lambda each: (-each.bit_s, each.network, each.name)
    )
    return Rates(
        schema=now.schema,
        lab=now.name,
        state=now.state,
        lab_s=now.lab_s,
        links=tuple(links[:rows]),
        tunnels=tuple(tunnels[:rows]),
    )


def _links(before: LabStatus, now: LabStatus, seconds: float) -> Iterator[LinkRate]:
    earlier = {link.end: link for link in before.links}
    for link in now.links:
        then = earlier.get(link.end)
        yield LinkRate(
            name=link.name,
            state="up" if link.up else "cut",
            out_bit_s=_bits(then, link, "tx_bytes") / seconds,
            in_bit_s=_bits(then, link, "rx_bytes") / seconds,
            dropped=link.counters.rx_drops + link.counters.tx_drops if link.counters else 0,
        )


def _bits(then: LinkStatus | None, now: LinkStatus, what: str) -> int:
    if then is None or then.counters is None or now.counters is None:
        return 0
    # A machine that has started again counts from nothing.
    grown: int = getattr(now.counters, what) - getattr(then.counters, what)
    return max(0, 8 * grown)


def _tunnels(before: LabStatus, now: LabStatus, seconds: float) -> Iterator[TunnelRate]:
    earlier = {(node, network, peer.name): peer for node, network, peer in _peers(before)}
    seen: set[tuple[str, str, str]] = set()
    for node, network, peer in _peers(now):
        first, second = sorted((node, peer.name))
        if (first, second, network) in seen:
            continue
        seen.add((first, second, network))
        then = earlier.get((node, network, peer.name))
        grown = 0
        if then is not None:
            grown = peer.rx_bytes + peer.tx_bytes - then.rx_bytes - then.tx_bytes
        yield TunnelRate(
            name=f"{first} - {second}",
            network=network,
            state=peer.state,
            path=peer.path,
            bit_s=max(0, 8 * grown) / seconds,
        )


def _peers(lab: LabStatus) -> Iterator[tuple[str, str, ZosPeer]]:
    for node in lab.nodes:
        for network in node.zos.networks if node.zos is not None else ():
            for peer in network.peers:
                yield node.name, network.name, peer
