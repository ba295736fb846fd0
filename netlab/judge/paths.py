"""How the overlay gets from one node to another, from what a node says of its peers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netlab.topology import Via
from netlab.wiring.wiring import Wiring
from overlay import addressing
from zos_core.status import PeerStatus, Status


def lan_addresses(wiring: Wiring, near: str, far: str) -> frozenset[str]:
    """Where `far` is found on a LAN that `near` is on, too."""
    shared = {each.link.to for each in wiring.stations.get(near, ()) if each.on_lan}
    return frozenset(
        str(address)
        for station in wiring.stations.get(far, ())
        if station.on_lan and station.link.to in shared
        for address in (station.ipv4, station.ipv6)
        if address is not None
    )


def find_peer(
    status: Status, network_id: str, *, far: str, node_ids: Mapping[str, str]
) -> PeerStatus | None:
    """What a node says of another one; None when it does not know it."""
    peers: Iterable[PeerStatus] = (
        peer for network in status.networks if network.id == network_id for peer in network.peers
    )
    wanted = node_ids.get(far)
    return next((peer for peer in peers if peer.node == wanted), None)


def path_of(peer: PeerStatus | None, *, on_lan: frozenset[str]) -> Via:
    """By which way packets to the peer go; "" while there is no tunnel."""
    if peer is None or peer.endpoint is None or peer.latest_handshake is None:
        return ""
    address = addressing.parse_endpoint(peer.endpoint).address
    if address in on_lan:
        return "lan"
    return peer.path if peer.path in ("punched", "relay") else "direct"
