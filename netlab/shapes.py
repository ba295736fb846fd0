"""Labs of a common shape, for those who build them in Python. Pure.

Each is what a lab file says with `count`: star(100) is `[node.n]` with `count = 100`.
"""

from __future__ import annotations

from netlab.files import expansion
from netlab.nat import NATS, Nat
from netlab.topology import Link, Node, Router, Topology

_PLAIN = Link()


def star(count: int, *, link: Link = _PLAIN, name: str = "star") -> Topology:
    """n-1 to n-COUNT, each with a link of its own to the internet. Raises Rejected for too many."""
    return Topology(tuple(expansion.numbered_nodes(Node("n", (link,)), count)), name=name)


def chain(count: int, *, link: Link = _PLAIN, name: str = "chain") -> Topology:
    """n-1 at the internet, and each other one behind the one before. Raises Rejected."""
    nodes, lans = expansion.chained(expansion.numbered_nodes(Node("n", (link,)), count))
    return Topology(tuple(nodes), lans=tuple(lans), name=name)


def homes(
    count: int, *, nat: Nat | None = NATS["port-restricted"], name: str = "homes"
) -> Topology:
    """n-1 to n-COUNT, each at home: behind home-1 to home-COUNT. Raises Rejected."""
    at_home = Node("n", (Link(f"home-{expansion.NUMBER}"),))
    return Topology(
        tuple(expansion.numbered_nodes(at_home, count)),
        tuple(expansion.numbered_routers(Router("home", nat=nat), count)),
        name=name,
    )
