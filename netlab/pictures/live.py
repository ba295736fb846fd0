"""What of a running lab a picture shows beside what its file says. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Two nodes of a tenant network that reach each other through the overlay.

    tenant  "tenant/network"
    path    how: "lan", "direct", ...; empty while it is not known
    """

    ends: tuple[str, str]
    tenant: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """dead: names of nodes; cut: links by their end, "alice:eth0"; tunnels that carry."""

    dead: frozenset[str] = frozenset()
    cut: frozenset[str] = frozenset()
    tunnels: tuple[Tunnel, ...] = ()


NOTHING = Live()
