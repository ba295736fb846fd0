"""A lab as a forest of cards: what is behind what. Pure.

Regions are the roots. A router hangs below what its link leads to, a node below what its first
link leads to, a LAN below its gateway or the first node that reaches it. All other links go
across. Nodes in a row that differ in nothing but their numbers become one card.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from netlab.pictures.live import Live
from netlab.pictures.words import link_lines, nat_words, role_words
from netlab.topology import Draft, Link, Node, Router

Kind = Literal["region", "router", "lan", "host", "node", "registry", "client"]

ALIKE_MIN = 10  # as many nodes alike, one after the other, are drawn as one


@dataclass(slots=True, eq=False)
class Card:
    """One box. `own` is the link by which it hangs below its parent, `links` what it says of it.

    members    tenant networks, as "tenant/network"
    workloads  (tenant network, name)
    stands_for how many nodes
    """

    name: str
    kind: Kind
    lines: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    members: tuple[str, ...] = ()
    workloads: tuple[tuple[str, str], ...] = ()
    stands_for: int = 1
    is_dead: bool = False
    is_cut: bool = False
    parent: Card | None = None
    children: list[Card] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Across:
    """A link that is not the one by which a card hangs."""

    source: Card
    target: Card
    lines: tuple[str, ...]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Forest:
    roots: tuple[Card, ...]
    across: tuple[Across, ...]
    by_name: dict[str, Card]  # of nodes that stand together, all names


def grow(topology: Draft, live: Live) -> Forest:
    """Every card below the one that it hangs from."""
    cards = {region.name: Card(region.name, "region") for region in topology.regions}
    for router in topology.routers:
        cards[router.name] = _router(router, live)
    for lan in topology.lans:
        cards[lan.name] = Card(lan.name, "lan", ["LAN"])
    for card in _nodes(topology, live):
        for name in card.names:
            cards[name] = card.card
    return _hung(topology, cards, live)


def walk(roots: Iterable[Card]) -> Iterator[Card]:
    """Parents before children, without recursion: a chain may be thousands deep."""
    waiting = list(reversed(tuple(roots)))
    while waiting:
        card = waiting.pop()
        yield card
        waiting.extend(reversed(card.children))


@dataclass(frozen=True, slots=True)
class _Alike:
    names: tuple[str, ...]
    card: Card


def _router(router: Router, live: Live) -> Card:
    return Card(
        router.name,
        "router",
        nat_words(router),
        link_lines(router.uplink),
        is_cut=f"{router.name}:{router.uplink.name}" in live.cut,
    )


def _nodes(topology: Draft, live: Live) -> Iterator[_Alike]:
    members, workloads = _tenancy(topology)
    gateways = {lan.gateway for lan in topology.lans}
    ends = {end for tunnel in live.tunnels for end in tunnel.ends}

    def likeness(node: Node) -> object:
        """What nodes have in common that may stand together; by its name alone one that may not."""
        mine = tuple(workloads.get(node.name, ()))
        if node.name in gateways or node.name in ends or mine:
            return node.name
        cut = tuple(f"{node.name}:{link.name}" in live.cut for link in node.links)
        stem = re.sub(r"[0-9]+", "#", node.name)
        joined = tuple(members.get(node.name, ()))
        return stem, node.role, node.links, joined, node.name in live.dead, cut

    for _, group in groupby(topology.nodes, key=likeness):
        alike = list(group)
        for together in [alike] if len(alike) >= ALIKE_MIN else [[node] for node in alike]:
            first, last = together[0], together[-1]
            name = first.name if len(together) == 1 else f"{first.name} … {last.name}"
            words = role_words(first)
            if len(together) > 1:
                words = f"{len(together)} {words}s"
            own = first.links[:1]
            card = Card(
                name,
                first.role,
                [words],
                [line for link in own for line in link_lines(link)],
                tuple(members.get(first.name, ())),
                tuple(workloads.get(first.name, ())),
                len(together),
                is_dead=first.name in live.dead,
                is_cut=any(f"{first.name}:{link.name}" in live.cut for link in own),
            )
            yield _Alike(tuple(node.name for node in together), card)


def _tenancy(topology: Draft) -> tuple[dict[str, list[str]], dict[str, list[tuple[str, str]]]]:
    """By node: the networks that it is in, and the workloads at it."""
    members: dict[str, list[str]] = {}
    workloads: dict[str, list[tuple[str, str]]] = {}
    for tenant in topology.tenants:
        for network in tenant.networks:
            name = f"{tenant.name}/{network.name}"
            clients = (access.client for access in network.clients)
            for member in (*network.nodes, *network.invited, *clients):
                members.setdefault(member, []).append(name)
            for workload in network.workloads:
                workloads.setdefault(workload.at, []).append((name, workload.name))
    return members, workloads


def _hung(topology: Draft, cards: dict[str, Card], live: Live) -> Forest:
    across: dict[Across, None] = {}  # one of nodes that stand together
    for router in topology.routers:
        _hang(cards[router.name], cards[router.uplink.to])
    for node in topology.nodes:
        if node.links:
            _hang(cards[node.name], cards[node.links[0].to])
    drawn = {(node.name, 0) for node in topology.nodes}
    holders = _holders(topology.nodes)
    for lan in topology.lans:
        # The gateway before others.
        able = sorted(holders.get(lan.name, ()), key=lambda each: each[0].name != lan.gateway)
        held = next((each for each in able if _hang(cards[lan.name], cards[each[0].name])), None)
        if held is not None:
            node, position = held
            cards[lan.name].links = link_lines(node.links[position])
            drawn.add((node.name, position))
    for node in topology.nodes:
        for position, link in enumerate(node.links):
            if (node.name, position) not in drawn:
                across.setdefault(_across(node, link, cards, live))
    found = {id(card): card for card in cards.values()}
    roots = tuple(card for card in found.values() if card.parent is None)
    return Forest(roots, tuple(across), cards)


def _holders(nodes: Iterable[Node]) -> dict[str, list[tuple[Node, int]]]:
    """By what they lead to: all links that are not a node's first one."""
    found: dict[str, list[tuple[Node, int]]] = {}
    for node in nodes:
        for position, link in enumerate(node.links[1:], start=1):
            found.setdefault(link.to, []).append((node, position))
    return found


def _hang(card: Card, parent: Card) -> bool:
    """Unless it hangs already, or would hang from itself."""
    above: Card | None = parent
    while above is not None:
        if above is card:
            return False
        above = above.parent
    if card.parent is None:
        card.parent = parent
        parent.children.append(card)
    return card.parent is parent


def _across(node: Node, link: Link, cards: dict[str, Card], live: Live) -> Across:
    is_cut = f"{node.name}:{link.name}" in live.cut
    return Across(cards[node.name], cards[link.to], tuple(link_lines(link)), is_cut)
