"""What is true inside a network namespace, one value each, and the message that makes it so.

Everything but links themselves: those come and go with cables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from netlab.keeper import rtnetlink as nl


class Up(NamedTuple):
    """The link is up, and the kernel has made up no address for it."""

    ifindex: int


class Bridge(NamedTuple):
    name: str
    ifindex: int
    mac: bytes


class Port(NamedTuple):
    """The link is a port of a bridge."""

    ifindex: int
    bridge: int


class Address(NamedTuple):
    ifindex: int
    packed: bytes
    prefix_length: int


class Neighbour(NamedTuple):
    ifindex: int
    packed: bytes
    mac: bytes


class Route(NamedTuple):
    """Straight to the link without a gateway."""

    ifindex: int
    destination: bytes
    prefix_length: int
    gateway: bytes = b""
    metric: int = 0


class Unreachable(NamedTuple):
    """What has no route of its own in here has none at all."""

    ifindex: int
    destination: bytes
    prefix_length: int


Fact: TypeAlias = Up | Bridge | Port | Address | Neighbour | Route | Unreachable


def program(facts: Iterable[Fact]) -> bytes:
    """The messages that make the facts true, in their order; safe to send again, bridges aside."""
    return b"".join(_WRITE[type(fact)](fact) for fact in facts)


def undo(fact: Address | Neighbour | Route | Unreachable) -> bytes:
    """The message that ends the fact, of which it must be true."""
    return nl.withdrawn(_WRITE[type(fact)](fact))


_LOOPBACK_IFINDEX = 1


def _up(fact: Up) -> bytes:
    if fact.ifindex == _LOOPBACK_IFINDEX:
        return nl.link_up(fact.ifindex)
    return nl.no_generated_addresses(fact.ifindex) + nl.link_up(fact.ifindex)


def _address(fact: Address) -> bytes:
    return nl.address(fact.ifindex, packed=fact.packed, prefix_length=fact.prefix_length)


def _neighbour(fact: Neighbour) -> bytes:
    return nl.neighbour(fact.ifindex, packed=fact.packed, mac=fact.mac)


def _route(fact: Route) -> bytes:
    return nl.route(
        fact.ifindex,
        destination=fact.destination,
        prefix_length=fact.prefix_length,
        gateway=fact.gateway,
        metric=fact.metric,
    )


def _unreachable(fact: Unreachable) -> bytes:
    return nl.unreachable(destination=fact.destination, prefix_length=fact.prefix_length)


_WRITE: dict[type[Any], Callable[[Any], bytes]] = {
    Up: _up,
    Bridge: lambda fact: nl.bridge(name=fact.name, ifindex=fact.ifindex, mac=fact.mac),
    Port: lambda fact: nl.link_master(fact.ifindex, master=fact.bridge),
    Address: _address,
    Neighbour: _neighbour,
    Route: _route,
    Unreachable: _unreachable,
}
