"""Ports of exits that lead to workloads, in documents (specs PUB-001 .. PUB-003)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from overlay.documents.fields import IdText, Label, check_distinct, check_id, parse_port_range
from overlay.errors import Rejected
from overlay.keys.identity import Kind
from overlay.model import Protocol

MAX_PUBLISHED = 64  # of one network
MAX_PUBLISH_RANGES = 32  # of one offer
PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp")
_HOW_PORTS_ARE_WRITTEN = "write tcp/8080 or udp/8000-8999"

Port = Annotated[int, Meta(ge=1, le=65_535)]
PublishRanges = Annotated[
    tuple[Annotated[str, Meta(max_length=15)], ...], Meta(max_length=MAX_PUBLISH_RANGES)
]
# What became of one: it is open, or waits for its workload, or was refused for this reason.
State = Literal["open", "no-workload", "not-offered", "reserved", "taken"]

REASONS: dict[State, str] = {
    "open": "",
    "no-workload": "no workload of this name is attached there",
    "not-offered": "the operator of the exit does not offer this port",
    "reserved": "the exit itself needs this port",
    "taken": "another network holds this port of the exit",
}


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """In a network: who asks this port of the exit's public addresses reaches the workload."""

    exit: IdText
    protocol: Protocol
    port: Port
    node: IdText  # where the workload is
    workload: Label  # what the node calls it
    target: Port  # of the workload


class PublishedState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """In what an exit tells its peers: what became of a port that the network publishes there."""

    protocol: Protocol
    port: Port
    state: State


PublishedStates = Annotated[tuple[PublishedState, ...], Meta(max_length=MAX_PUBLISHED)]


class PortSpan(msgspec.Struct, frozen=True, order=True):
    """Ports of one protocol, both ends included."""

    protocol: Protocol
    first: int
    last: int

    def has(self, protocol: Protocol, port: int) -> bool:
        return self.protocol == protocol and self.first <= port <= self.last


def parse_ports(text: str, *, field: str | None = None) -> PortSpan:
    """ "tcp/8080" or "udp/8000-8999". Raises Rejected."""
    name, slash, ports = text.partition("/")
    protocol = next((each for each in PROTOCOLS if each == name), None)
    if not slash or protocol is None:
        raise Rejected(
            f"{text[:32]!r} is no protocol with ports", field=field, remedy=_HOW_PORTS_ARE_WRITTEN
        )
    try:
        first, last = parse_port_range(ports)
    except Rejected as exc:
        raise Rejected(exc.message, field=field, remedy=_HOW_PORTS_ARE_WRITTEN) from exc
    if ports != (str(first) if first == last else f"{first}-{last}"):
        raise Rejected(f"{text!r} is not canonical", field=field, remedy=f"write {name}/{first}")
    return PortSpan(protocol, first, last)


def check_publish_ranges(ranges: tuple[str, ...], field: str) -> None:
    """Raise Rejected unless each is protocol and ports, and no port stands in two of them."""
    spans = sorted(parse_ports(text, field=f"{field}[{n}]") for n, text in enumerate(ranges))
    for left, right in pairwise(spans):
        if left.protocol == right.protocol and right.first <= left.last:
            raise Rejected(
                f"port {right.first} of {right.protocol} stands there twice",
                field=field,
                remedy="join the two ranges",
            )


def check_published(
    published: tuple[Published, ...], *, exits: Iterable[str], members: Iterable[str]
) -> None:
    """Raise Rejected unless exits and nodes are those of the network, and each port given once."""
    named, listed = frozenset(exits), frozenset(members)
    for n, each in enumerate(published):
        check_id(Kind.NODE, each.exit, f"published[{n}].exit")
        check_id(Kind.NODE, each.node, f"published[{n}].node")
        if each.exit not in named:
            raise Rejected(
                f"{each.exit[:90]} is no exit of the network",
                field=f"published[{n}].exit",
                remedy="name it as an exit first: zos network exit set",
            )
        if each.node not in listed:
            raise Rejected(
                f"{each.node[:90]} is no member that the network lists",
                field=f"published[{n}].node",
                remedy="add the node to the network first",
            )
    check_distinct(
        (f"{each.protocol}/{each.port} of {each.exit}" for each in published), "published"
    )


def check_published_states(states: tuple[PublishedState, ...], field: str) -> None:
    """Raise Rejected when a port stands there twice."""
    check_distinct((f"{each.protocol}/{each.port}" for each in states), field)
