"""Relays in documents: who offers one, who uses it, what it hears (specs DOC-060 .. DOC-066)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from overlay import addressing
from overlay.documents.fields import (
    EndpointText,
    IdText,
    KeyText,
    Label,
    RateMbit,
    Version,
    check_distinct,
    check_endpoint,
    check_id,
)
from overlay.errors import Rejected
from overlay.keys import identity, wireguard
from overlay.keys.identity import Kind
from overlay.model import Endpoint, WgPublicKey

DEFAULT_RELAY_PORT = 51_819  # beside the ports that networks get unless a node says otherwise
DEFAULT_TLS_PORT = 443  # what passes where nothing else does
MAX_RELAY_OFFERS = 16  # of one farm
MAX_RELAYS = 4  # of one network: a member registers with two, and two may be gone
RELAYS_IN_USE = 2  # of a network's: one may be gone
MAX_RELAY_ENDPOINTS = 2  # one of each family
MAX_SEEN = 4_096  # as many members as a relay holds

RelayEndpoints = Annotated[
    tuple[EndpointText, ...], Meta(min_length=1, max_length=MAX_RELAY_ENDPOINTS)
]


TlsPort = Annotated[int, Meta(ge=1, le=65_535)]


class RelayOffer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """In a farm: this node relays for tenants who name it, and can be reached here."""

    node: IdText
    endpoints: RelayEndpoints
    tls_port: TlsPort | None = None  # TCP, at each of its addresses; None: UDP alone
    rate_mbit: RateMbit = 0  # of what one member sends


class Relay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """In a network: members may be reached by way of this node."""

    name: Label
    node: IdText
    public_key: KeyText
    endpoints: RelayEndpoints
    tls_port: TlsPort | None = None  # as the node says


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A member's WireGuard key, and from where it is heard."""

    public_key: KeyText
    endpoint: EndpointText


class Sighting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed by a relay's node: where it hears the members of one network. A hint, no more."""

    network: IdText
    node: IdText
    version: Version
    seen: Annotated[tuple[Seen, ...], Meta(max_length=MAX_SEEN)] = ()  # sorted by key


def key_of(relay: Relay) -> WgPublicKey:
    """The relay's WireGuard key, of a relay that was checked."""
    return wireguard.parse_public_key(relay.public_key)


def endpoints_of(relay: Relay | RelayOffer) -> tuple[Endpoint, ...]:
    """Where it can be reached, of one that was checked."""
    return tuple(map(addressing.endpoint_of, relay.endpoints))


def streams_of(relay: Relay) -> tuple[Endpoint, ...]:
    """Where it can be reached by TLS over TCP, of a relay that was checked."""
    port = relay.tls_port
    if port is None:
        return ()
    return tuple(Endpoint(endpoint.address, port) for endpoint in endpoints_of(relay))


def places_in(sighting: Sighting) -> Mapping[WgPublicKey, Endpoint]:
    """From where each member is heard, of a sighting that was checked."""
    return {
        WgPublicKey(wireguard.decode_key(seen.public_key)): addressing.endpoint_of(seen.endpoint)
        for seen in sighting.seen
    }


def relay_of(relays: Iterable[Relay], node: str) -> Relay | None:
    """The relay that is at `node`."""
    return next((relay for relay in relays if relay.node == node), None)


def select_relays(named: Iterable[Relay]) -> tuple[Relay, ...]:
    """Those of a network's at which everybody registers: the first ones (NODE-070).

    The last of them gives way to one that takes connections by TLS, if none else does: where UDP is
    blocked there must be one at which the others are as well.
    """
    named = tuple(named)
    first = named[:RELAYS_IN_USE]
    if all(relay.tls_port is None for relay in first):
        spare = [relay for relay in named[RELAYS_IN_USE:] if relay.tls_port is not None]
        return (*first[: RELAYS_IN_USE - 1], *spare[:1]) if spare else first
    return first


def check_offers(offers: tuple[RelayOffer, ...], *, nodes: Iterable[str]) -> None:
    """Raise Rejected unless each offer is of one of the farm's nodes, and of another one."""
    known = frozenset(nodes)
    for n, offer in enumerate(offers):
        if offer.node not in known:
            raise Rejected(
                f"{offer.node[:90]} is no node of this farm",
                field=f"relays[{n}].node",
                remedy="add the node to the farm first",
            )
        check_relay_endpoints(offer.endpoints, f"relays[{n}].endpoints")
    check_distinct((offer.node for offer in offers), "relays")


def check_relays(relays: tuple[Relay, ...], *, access_keys: Iterable[str]) -> None:
    """Raise Rejected unless each relay is another one, and no access device has its key."""
    for n, relay in enumerate(relays):
        check_id(Kind.NODE, relay.node, f"relays[{n}].node")
        wireguard.parse_public_key(relay.public_key, field=f"relays[{n}].public_key")
        check_relay_endpoints(relay.endpoints, f"relays[{n}].endpoints")
    for values in (
        [relay.name for relay in relays],
        [relay.node for relay in relays],
        [relay.public_key for relay in relays],
        [endpoint for relay in relays for endpoint in relay.endpoints],
    ):
        check_distinct(values, "relays")
    if both := {relay.public_key for relay in relays}.intersection(access_keys):
        raise Rejected(f"{min(both)} is the key of a relay and of an access device", field="relays")


def check_relay_endpoints(texts: tuple[str, ...], field: str) -> None:
    """Raise Rejected unless there is one endpoint of each family at most."""
    families = [check_endpoint(text, f"{field}[{n}]").family for n, text in enumerate(texts)]
    check_distinct((f"IPv{family}" for family in families), field)


def check_sighting(sighting: Sighting) -> None:
    """Raise Rejected, naming the field, unless it is consistent in itself."""
    identity.parse_network_id(sighting.network, field="network")
    check_id(Kind.NODE, sighting.node, "node")
    for n, seen in enumerate(sighting.seen):
        wireguard.decode_key(seen.public_key, field=f"seen[{n}].public_key")
        check_endpoint(seen.endpoint, f"seen[{n}].endpoint")
    check_distinct(_keys(sighting), "seen")


def _keys(sighting: Sighting) -> Iterator[str]:
    return (seen.public_key for seen in sighting.seen)
