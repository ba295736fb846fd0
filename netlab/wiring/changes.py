"""What has to be done to a lab that runs, one value for each step, in an order that works.

`verb` and `subject` say it to programs, `text` to people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from netlab.impairment import Both
from netlab.wiring.facts import Address, Fact, Neighbour, Route, Unreachable
from netlab.wiring.realize import Namespace
from netlab.wiring.wiring import Cable

Withdrawable: TypeAlias = Address | Neighbour | Route | Unreachable


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Facts end whose link stays. First, while everything that they speak of is still there."""

    netns: str
    facts: tuple[Withdrawable, ...]
    verb = "withdraw"

    @property
    def subject(self) -> str:
        return self.netns

    @property
    def text(self) -> str:
        return f"{self.netns}: take back {_listed(self.facts)}"


@dataclass(frozen=True, slots=True)
class RemoveCable:
    """Before anything is added: a new cable may take the name and number of an old one.

    at  the namespace and interface index of the end to delete; the other goes with it
    """

    cable: Cable
    at: tuple[str, int]
    verb = "remove-link"

    @property
    def subject(self) -> str:
        return self.cable.name

    @property
    def text(self) -> str:
        return f"remove link {self.cable.name}"


@dataclass(frozen=True, slots=True)
class RemoveBridge:
    """After its cables. A LAN that joins two needs none."""

    netns: str
    ifindex: int
    verb = "remove-switch"

    @property
    def subject(self) -> str:
        return self.netns

    @property
    def text(self) -> str:
        return f"remove the switch of {self.netns}"


@dataclass(frozen=True, slots=True)
class RemoveNamespace:
    """After its cables, which would outlive it for a moment."""

    kind: str
    name: str
    verb = "remove"

    @property
    def subject(self) -> str:
        return self.name

    @property
    def text(self) -> str:
        return f"remove {self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class AddNamespace:
    """Without its facts, for which its cables must be there."""

    kind: str
    namespace: Namespace
    verb = "add"

    @property
    def subject(self) -> str:
        return self.namespace.name

    @property
    def text(self) -> str:
        return f"add {self.kind} {self.namespace.name}"


@dataclass(frozen=True, slots=True)
class AddCable:
    cable: Cable
    verb = "add-link"

    @property
    def subject(self) -> str:
        return self.cable.name

    @property
    def text(self) -> str:
        return f"add link {self.cable.name}"


@dataclass(frozen=True, slots=True)
class SetMtu:
    """At both ends, and nothing else of the cable changes."""

    cable: Cable
    verb = "set-mtu"

    @property
    def subject(self) -> str:
        return self.cable.name

    @property
    def text(self) -> str:
        return f"set the MTU of {self.cable.name} to {self.cable.mtu_bytes}"


@dataclass(frozen=True, slots=True)
class LoadRules:
    """Before sysctls: those of connection tracking may come with the rules."""

    router: str
    verb = "set-nat"

    @property
    def subject(self) -> str:
        return self.router

    @property
    def text(self) -> str:
        return f"set NAT and firewall of {self.router}; it forgets its connections"


@dataclass(frozen=True, slots=True)
class SetSysctls:
    netns: str
    sysctls: tuple[tuple[str, str], ...]
    verb = "set-sysctls"

    @property
    def subject(self) -> str:
        return self.netns

    @property
    def text(self) -> str:
        return f"{self.netns}: set {', '.join(path for path, _ in self.sysctls)}"


@dataclass(frozen=True, slots=True)
class State:
    """Facts begin; one that takes the place of another ends that one."""

    netns: str
    facts: tuple[Fact, ...]
    verb = "state"

    @property
    def subject(self) -> str:
        return self.netns

    @property
    def text(self) -> str:
        return f"{self.netns}: set {_listed(self.facts)}"


@dataclass(frozen=True, slots=True)
class Impair:
    """Last, when everything carries."""

    cable: Cable
    both: Both
    verb = "impair"

    @property
    def subject(self) -> str:
        return self.cable.name

    @property
    def text(self) -> str:
        return f"set the impairment of {self.cable.name}"


Change: TypeAlias = (
    Withdraw
    | RemoveCable
    | RemoveBridge
    | RemoveNamespace
    | AddNamespace
    | AddCable
    | SetMtu
    | LoadRules
    | SetSysctls
    | State
    | Impair
)


def places_of(change: Change) -> tuple[str, ...]:
    """The namespaces that it changes."""
    if isinstance(change, RemoveCable | AddCable | SetMtu | Impair):
        return (change.cable.near.netns, change.cable.far.netns)
    return (change.subject,)


def _listed(facts: tuple[Fact, ...]) -> str:
    """'3 routes, 1 address'."""
    counts: dict[str, int] = {}
    for fact in facts:
        word = type(fact).__name__.lower()
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in counts.items())
