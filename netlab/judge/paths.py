"""How the overlay gets from one node to another, from what a node says of its peers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netlab.topology import Via
from netlab.wiring.wiring import Wiring
from overlay import addressing
from zos_core.status import PeerStatus, Status


def lan_addresses(wiring: Wiring, near: str, far: str) -> frozenset[str]:
    """Where `far` is found on a LAN that `near` is on, too."""
    shared = {cable.far.netns for cable in wiring.cables_of(near) if cable.subnet is not None}
    return frozenset(
        str(interface.ip)
        for cable in wiring.cables_of(far)
        if cable.subnet is not None and cable.far.netns in shared
        for interface in (cable.ipv4, cable.ipv6)
        if interface is not None
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
    return "lan" if address in on_lan else "direct"
