"""A whole lab as one value, from what is declared and what is known of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from netlab.impairment import Both
from netlab.supervisor.status import (
    SCHEMA,
    Build,
    Counters,
    LabState,
    LabStatus,
    LanStatus,
    LatencyStatus,
    LinkStatus,
    NetworkStatus,
    NodeState,
    NodeStatus,
    RouterStatus,
    TenantStatus,
    ZosStatus,
)
from netlab.topology import Tenant, TenantNetwork
from netlab.wiring.addresses import LAN_LENGTH_IPV4, LAN_LENGTH_IPV6
from netlab.wiring.partition import parts_of
from netlab.wiring.wiring import Cable, Wiring


@dataclass(frozen=True, slots=True)
class Known:
    """What a lab has become since it was declared."""

    state: LabState
    build: Build | None
    began_at: float
    ready_after_s: float | None
    at: float
    lab_s: float
    last_event: int
    pid: int
    keeper_pid: int | None
    workdir: str
    registry: str = ""
    network_ids: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[tuple[str, ...], ...] = ()
    cut: frozenset[str] = frozenset()  # links, by name, as all that follows
    nodes: Mapping[str, NodeState] = field(default_factory=dict)
    zos: Mapping[str, ZosStatus] = field(default_factory=dict)
    mtus: Mapping[str, int] = field(default_factory=dict)  # that were changed
    impaired: Mapping[str, Both] = field(default_factory=dict)
    back_ends: Mapping[str, str] = field(default_factory=dict)
    counters: Mapping[str, Counters] = field(default_factory=dict)


def compose(wiring: Wiring, known: Known) -> LabStatus:
    topology = wiring.topology
    return LabStatus(
        schema=SCHEMA,
        name=topology.name,
        state=known.state,
        build=known.build,
        seed=topology.seed,
        began_at=known.began_at,
        ready_after_s=known.ready_after_s,
        at=known.at,
        lab_s=known.lab_s,
        last_event=known.last_event,
        pid=known.pid,
        keeper_pid=known.keeper_pid,
        workdir=known.workdir,
        registry=known.registry,
        partition=known.parts,
        regions=tuple(region.name for region in topology.regions),
        latencies=tuple(LatencyStatus(each.between, each.impaired) for each in topology.latencies),
        routers=tuple(_routers(wiring)),
        lans=tuple(
            LanStatus(lan.name, lan.gateway, _prefixes(wiring, lan.name)) for lan in topology.lans
        ),
        nodes=tuple(_nodes(wiring, known)),
        links=tuple(_link(cable, known) for cable in wiring.cables),
        tenants=tuple(_tenant(tenant, known) for tenant in topology.tenants),
    )


def _routers(wiring: Wiring) -> Iterator[RouterStatus]:
    for router in wiring.topology.routers:
        yield RouterStatus(
            name=router.name,
            to=router.uplink.to,
            link=wiring.cable(f"{router.name}:{router.uplink.name}").name,
            addresses=_addresses(wiring, router.name),
            lan=_prefixes(wiring, router.name),
            nat=router.nat,
            firewall=router.firewall,
        )


def _nodes(wiring: Wiring, known: Known) -> Iterator[NodeStatus]:
    part = parts_of(wiring.topology, known.parts) if known.parts else {}
    links = _links_by_node(wiring)
    for node in wiring.topology.nodes:
        yield NodeStatus(
            name=node.name,
            role=node.role,
            state=known.nodes.get(node.name, "running"),
            addresses=_addresses(wiring, node.name),
            links=tuple(links.get(node.name, ())),
            part=part.get(node.name, 0),
            zos=known.zos.get(node.name),
            relay=node.relay,
            uplink=node.exit.uplink if node.exit is not None else "",
        )


def _links_by_node(wiring: Wiring) -> dict[str, list[str]]:
    """One walk over all cables: a lab has thousands of both."""
    found: dict[str, list[str]] = {}
    for cable in wiring.cables:
        for station in (cable.near_station, cable.far_station):
            if station is not None:
                found.setdefault(station.end.netns, []).append(cable.name)
    return found


def _link(cable: Cable, known: Known) -> LinkStatus:
    near = cable.near_station
    # A large region has several core routers, which are nobody's business.
    is_to_region = near is not None and not cable.subnet
    return LinkStatus(
        name=cable.name,
        end=f"{cable.near.netns}:{cable.near.name}",
        of=cable.near.netns,
        to=near.link.to if near is not None and is_to_region else cable.far.netns,
        lan=cable.subnet,
        up=cable.name not in known.cut,
        mtu_bytes=known.mtus.get(cable.name, cable.mtu_bytes),
        ipv4=_text(near.ipv4 if near is not None else None),
        ipv6=_text(near.ipv6 if near is not None else None),
        impaired=known.impaired.get(cable.name) or None,
        back_end=known.back_ends.get(cable.name, ""),
        counters=known.counters.get(cable.name),
    )


def _addresses(wiring: Wiring, name: str) -> tuple[str, ...]:
    found = (each for at in wiring.stations.get(name, ()) for each in (at.ipv4, at.ipv6))
    return tuple(str(address) for address in found if address is not None)


def _text(address: IPv4Address | IPv6Address | None) -> str | None:
    return None if address is None else str(address)


def _prefixes(wiring: Wiring, name: str) -> tuple[str, ...]:
    """Of a LAN, which a router's bears its name."""
    subnet = wiring.subnets.get(name)
    if subnet is None:
        return ()
    ipv4 = IPv4Network((subnet.ipv4, LAN_LENGTH_IPV4), strict=False)
    ipv6 = IPv6Network((subnet.ipv6, LAN_LENGTH_IPV6), strict=False)
    return str(ipv4), str(ipv6)


def _tenant(tenant: Tenant, known: Known) -> TenantStatus:
    networks = (_network(tenant, network, known) for network in tenant.networks)
    return TenantStatus(tenant.name, tuple(networks))


def _network(tenant: Tenant, network: TenantNetwork, known: Known) -> NetworkStatus:
    return NetworkStatus(
        name=network.name,
        id=known.network_ids.get(f"{tenant.name}/{network.name}", ""),
        range=network.range,
        nodes=network.nodes,
        invited=network.invited,
        clients=tuple(access.client for access in network.clients),
        workloads=tuple(f"{workload.name} at {workload.at}" for workload in network.workloads),
        relays=network.relays,
        exits=tuple(each.node for each in sorted(network.exits, key=lambda each: each.order)),
    )
