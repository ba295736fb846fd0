"""What of a running lab a picture shows beside what its file says. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Two nodes of a tenant network that reach each other through the overlay.

    tenant  "tenant/network"
    path    how: "lan", "direct", "punched" or "relay"; empty while it is not known
    relay   by way of which
    """

    ends: tuple[str, str]
    tenant: str
    path: str = ""
    relay: str = ""

    @property
    def way(self) -> str:
        """The path in words."""
        return f"{self.path} {self.relay}".strip() or "no path"


@dataclass(frozen=True, slots=True)
class Leaving:
    """By which exit somebody of a tenant network leaves it; `failed` are those that did before."""

    tenant: str
    exit: str
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Live:
    """dead: names of nodes; cut: links by their end, "alice:eth0"; tunnels that carry; exits."""

    dead: frozenset[str] = frozenset()
    cut: frozenset[str] = frozenset()
    tunnels: tuple[Tunnel, ...] = ()
    leaving: tuple[Leaving, ...] = ()


NOTHING = Live()
