"""What a living lab says of itself, as what a picture is drawn from. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from netlab.impairment import Both
from netlab.nat import Firewall
from netlab.pictures.live import Leaving, Live, Tunnel
from netlab.supervisor.status import LabStatus, LinkStatus, TenantStatus
from netlab.topology import (
    Access,
    Draft,
    Exit,
    ExitOffer,
    Lan,
    Latency,
    Link,
    Node,
    Region,
    Role,
    Router,
    Tenant,
    TenantNetwork,
    Workload,
)

# As in `zos status`: a tunnel through which something has come.
_CARRYING = ("active", "idle")


def draft_of(status: LabStatus) -> Draft:
    """Places, links and tenants as they are now; the timeline is not among them."""
    links: dict[str, list[Link]] = {}
    for each in status.links:
        links.setdefault(each.of, []).append(_link(each))
    return Draft(
        tuple(
            Node(
                each.name,
                tuple(links.get(each.name, ())),
                cast("Role", each.role),
                relay=each.relay,
                exit=ExitOffer(each.uplink) if each.uplink else None,
            )
            for each in status.nodes
        ),
        tuple(
            Router(
                each.name,
                links.get(each.name, [Link(each.to)])[0],
                each.nat,
                cast("Firewall", each.firewall),
            )
            for each in status.routers
        ),
        tuple(Lan(each.name, each.gateway) for each in status.lans),
        name=status.name,
        seed=status.seed,
        regions=tuple(map(Region, status.regions)),
        latencies=tuple(Latency(each.between, each.impaired) for each in status.latencies),
        tenants=tuple(map(_tenant, status.tenants)),
    )


def live_of(status: LabStatus) -> Live:
    """Who is dead, what is cut, which tunnels carry."""
    return Live(
        dead=frozenset(node.name for node in status.nodes if node.state == "dead"),
        cut=frozenset(link.end for link in status.links if not link.up),
        tunnels=tuple(_tunnels(status)),
        leaving=tuple(dict.fromkeys(_leaving(status))),
    )


def _link(status: LinkStatus) -> Link:
    return Link(
        status.to,
        status.end.partition(":")[2],
        status.mtu_bytes,
        status.ipv4 is not None,
        status.ipv6 is not None,
        status.impaired or Both(),
    )


def _tenant(status: TenantStatus) -> Tenant:
    return Tenant(
        status.name,
        tuple(
            TenantNetwork(
                network.name,
                network.range,
                network.nodes,
                network.invited,
                tuple(Access(client, "") for client in network.clients),
                tuple(Workload(*words.split(" at ")) for words in network.workloads),
                network.relays,
                tuple(Exit(name, order) for order, name in enumerate(network.exits)),
            )
            for network in status.networks
        ),
    )


def _names(status: LabStatus) -> dict[str, str]:
    """ "tenant/network" by the network's id."""
    return {
        network.id: f"{tenant.name}/{network.name}"
        for tenant in status.tenants
        for network in tenant.networks
        if network.id
    }


def _leaving(status: LabStatus) -> Iterator[Leaving]:
    names = _names(status)
    for node in status.nodes:
        for network in node.zos.networks if node.zos is not None else ():
            if network.exit:
                tenant = names.get(network.id, network.name)
                yield Leaving(tenant, network.exit, network.failed_exits)


def _tunnels(status: LabStatus) -> Iterator[Tunnel]:
    """Each once, whichever end tells of it."""
    names = _names(status)
    seen: set[tuple[str, frozenset[str]]] = set()
    for node in status.nodes:
        for network in node.zos.networks if node.zos is not None else ():
            for peer in network.peers:
                key = network.id, frozenset((node.name, peer.name))
                if peer.state in _CARRYING and key not in seen:
                    seen.add(key)
                    tenant = names.get(network.id, network.name)
                    yield Tunnel((node.name, peer.name), tenant, peer.path, peer.relay)
