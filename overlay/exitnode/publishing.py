"""Which network holds which port of an exit's public addresses (PUB-010 .. PUB-013). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, groupby
from types import MappingProxyType

import msgspec

from overlay import addressing
from overlay.documents.exits import ExitOffer
from overlay.documents.published import PROTOCOLS, PortSpan, Published, State, parse_ports
from overlay.exitnode.egress import OpenPort
from overlay.model import Address, Endpoint, InterfaceAddress, NetworkId, Protocol, Publication

Port = tuple[Protocol, int]
EVERY_PORT = tuple(PortSpan(protocol, 1, 65_535) for protocol in PROTOCOLS)


class Claim(msgspec.Struct, frozen=True):
    """A network publishes a port here; `to` is None while nothing is called as the workload is."""

    network: NetworkId
    published: Published
    to: Publication | None = None

    @property
    def port(self) -> Port:
        return self.published.protocol, self.published.port


class Decided(msgspec.Struct, frozen=True):
    """A claim, and what becomes of it."""

    claim: Claim
    state: State


class Decision(msgspec.Struct, frozen=True):
    """What becomes of all claims, and who holds which port from now on."""

    by_network: Mapping[NetworkId, tuple[Decided, ...]] = MappingProxyType({})  # each by port
    holders: Mapping[Port, NetworkId] = MappingProxyType({})

    @property
    def decided(self) -> Iterator[Decided]:
        """In order of network and port."""
        return chain.from_iterable(self.by_network.values())

    def of(self, network: NetworkId) -> tuple[Decided, ...]:
        return self.by_network.get(network, ())

    def publications(self, network: NetworkId) -> tuple[Publication, ...]:
        """Where the open ports of the network lead."""
        found = (each.claim.to for each in self.of(network) if each.state == "open")
        return tuple(sorted(to for to in found if to is not None))

    @property
    def open_ports(self) -> tuple[OpenPort, ...]:
        return tuple(
            OpenPort(each.claim.network, *each.claim.port)
            for each in self.decided
            if each.state == "open"
        )


def decide(
    offer: ExitOffer,
    claims: Iterable[Claim],
    *,
    holders: Mapping[Port, NetworkId],
    reserved: Iterable[PortSpan] = (),
) -> Decision:
    """Who held a port keeps it while the claim stands and is offered. A port that nobody holds goes
    to the network with the lowest id, which is the same in whatever order the claims came."""
    ordered = sorted(claims, key=lambda claim: (claim.network, claim.port))
    offered, needed = tuple(map(parse_ports, offer.publish)), tuple(reserved)
    refused = {
        claim.port: refusal
        for claim in ordered
        if (refusal := _refusal(claim, offered=offered, reserved=needed)) is not None
    }
    wanted: dict[Port, list[NetworkId]] = {}
    for claim in ordered:
        if claim.port not in refused:
            wanted.setdefault(claim.port, []).append(claim.network)
    held = {
        port: before if (before := holders.get(port)) in networks else networks[0]
        for port, networks in wanted.items()
    }
    decided = (Decided(claim, _state(claim, refused, held)) for claim in ordered)
    by_network = {
        network: tuple(each) for network, each in groupby(decided, key=lambda d: d.claim.network)
    }
    return Decision(by_network, held)


def reserved_ports(
    offer: ExitOffer,
    *,
    own: Iterable[Address],
    wireguard: Iterable[Endpoint],
    wireguard_ports: int,
    relays: Iterable[Endpoint],
) -> tuple[PortSpan, ...]:
    """What the node itself is reached at by the addresses of the uplink.

    `own`: addresses of the node's links: all ports of one that is the uplink's too are the node's.
    `wireguard`: declared endpoints, each the first of `wireguard_ports` (NODE-030).
    """
    public = {addressing.address_of(InterfaceAddress(text)) for text in offer.uplink.addresses}
    if public.intersection(own):
        return EVERY_PORT
    devices = (
        PortSpan("udp", each.port, min(each.port + wireguard_ports - 1, 65_535))
        for each in wireguard
        if each.address in public
    )
    relayed = (PortSpan("udp", e.port, e.port) for e in relays if e.address in public)
    return tuple(sorted({*devices, *relayed}))


def _refusal(
    claim: Claim, *, offered: Iterable[PortSpan], reserved: Iterable[PortSpan]
) -> State | None:
    if not any(span.has(*claim.port) for span in offered):
        return "not-offered"
    return "reserved" if any(span.has(*claim.port) for span in reserved) else None


def _state(claim: Claim, refused: Mapping[Port, State], held: Mapping[Port, NetworkId]) -> State:
    if claim.port in refused:
        return refused[claim.port]
    if held[claim.port] != claim.network:
        return "taken"
    return "no-workload" if claim.to is None else "open"
