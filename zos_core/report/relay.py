"""What this node does as a relay, and by way of which relays its own networks are reached."""

from __future__ import annotations

from collections.abc import Iterable

from overlay.documents.relays import key_of
from overlay.keys.wireguard import format_key
from overlay.model import NetworkId
from overlay.reconcile.node import NodeLoop
from overlay.reconcile.relayed import Relayed
from overlay.reconcile.resource import ResourceLoop
from overlay.relay.server import Relay
from zos_core.status import HealthItem, NetworkRelayStatus, RelayedNetworkStatus, RelayStatus


def read_relay(node: NodeLoop) -> RelayStatus | None:
    """None while the farm does not offer this node as a relay."""
    relaying = node.relaying
    offer, relayed, relay = relaying.offer, relaying.relayed, relaying.relay
    streams = relaying.streams
    if offer is None:
        return None
    error = relaying.error
    found = relay.statistics() if relay is not None else None
    return RelayStatus(
        state="serving" if relay is not None else "failed" if error is not None else "starting",
        message=error.message if error is not None else "",
        remedy=(error.remedy or "zos tries again by itself") if error is not None else "",
        public_key=format_key(relaying.key.public_key) if relaying.key is not None else None,
        endpoints=offer.endpoints,
        registered=found.members if found else 0,
        sessions=found.sessions if found else 0,
        forwarded_bytes=found.forwarded_bytes if found else 0,
        unsent=relay.unsent if relay is not None else 0,
        packets={fate.value: count for fate, count in found.packets.items()} if found else {},
        networks=_networks(relayed, relay) if relayed is not None else (),
        rate_mbit=offer.rate_mbit,
        tls_port=offer.tls_port,
        tls_message=str(relaying.tls_error) if relaying.tls_error is not None else "",
        connections=len(streams) if streams is not None else 0,
        refused_connections=(
            {end.value: count for end, count in streams.ends.items()} if streams is not None else {}
        ),
        tls_dropped=streams.dropped if streams is not None else 0,
    )


def relay_health(status: RelayStatus | None) -> Iterable[HealthItem]:
    if status is None:
        return
    if status.state == "failed":
        yield HealthItem(
            "relay-failed", "The relay does not run", "error", status.message, status.remedy
        )
    if status.tls_message:
        yield HealthItem(
            "relay-no-tls",
            "The relay takes no connections",
            "warning",
            status.tls_message,
            "members where UDP is blocked do not reach it; free the port, or offer another one",
        )
    for network in status.networks:
        if network.message:
            yield HealthItem(
                "relay-unnamed",
                f"{network.name} does not name this relay's key",
                "warning",
                network.message,
                network.remedy,
                network=network.id,
            )


def network_relays(loop: ResourceLoop) -> tuple[NetworkRelayStatus, ...]:
    """The relays of one of our networks, and from where they hear us."""
    heard = loop.goals.observed(loop.device_key.public_key)
    streams = loop.goals.streams
    return tuple(
        NetworkRelayStatus(
            name=relay.name,
            node=relay.node,
            public_key=relay.public_key,
            endpoints=relay.endpoints,
            hears_us_at=str(heard[relay.node]) if relay.node in heard else None,
            tls_port=relay.tls_port,
            over_tcp=key_of(relay) in streams,
            tcp_message=loop.last_resort.trouble(key_of(relay)),
        )
        for relay in loop.goals.selection.relays
    )


def _networks(relayed: Relayed, relay: Relay | None) -> tuple[RelayedNetworkStatus, ...]:
    membership = relayed.membership()
    found = []
    for id_, selection in relayed.networks.items():
        if (roster := selection.roster) is None:
            continue
        keys, network = membership[id_], roster.network
        other = relayed.names_other_key(NetworkId(id_))
        found.append(
            RelayedNetworkStatus(
                id=id_,
                name=network.name,
                owners=network.owners.keys,
                version=network.version,
                members=len(keys),
                heard=sum(relay.where(key) is not None for key in keys) if relay else 0,
                message="it names another key than this relay has" if other else "",
                remedy=f"its tenant runs: zos network relay update {network.name}" if other else "",
            )
        )
    return tuple(sorted(found, key=lambda each: (each.name, each.id)))
