"""Tenants that cannot have the networks that they want. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from netlab.refusals.words import no_label, repeated, unknown
from netlab.topology import Draft, Tenant, TenantNetwork
from overlay.errors import Rejected

NETWORKS_MAX = 256  # of all tenants together; a node has a device for each that it is in
RELAYS_MAX = 4  # of a network, and of a farm (overlay.documents.relays, which is slow to load)
RELAYS_OFFERED_MAX = 16
# What a lab's own addresses never are in (LAB-004).
RANGES = "10."
RANGES_REMEDY = "use a part of 10.0.0.0/8, such as 10.1.0.0/16"


def find(topology: Draft) -> Iterator[Rejected]:
    """Every fault of tenants, and of nodes that need a registry without one."""
    roles = {node.name: str(node.role) for node in topology.nodes}
    yield from _registry_faults(topology, roles)
    yield from repeated((each.name for each in topology.tenants), path="tenant.{}", what="tenant")
    if sum(len(tenant.networks) for tenant in topology.tenants) > NETWORKS_MAX:
        yield Rejected(
            f"more than {NETWORKS_MAX} networks", field="tenant", remedy="leave some out"
        )
    for tenant in topology.tenants:
        yield from _tenant_faults(tenant, roles)
    yield from _relay_faults(topology)


def _registry_faults(topology: Draft, roles: Mapping[str, str]) -> Iterator[Rejected]:
    registries = [name for name, role in roles.items() if role == "registry"]
    for name in registries[1:]:
        yield Rejected(
            f"{registries[0]} is the registry already", field=f"node.{name}.role", remedy="keep one"
        )
    running = next((name for name, role in roles.items() if role != "host"), None)
    path = f"tenant.{topology.tenants[0].name}" if topology.tenants else f"node.{running}.role"
    if not registries and (running is not None or topology.tenants):
        yield Rejected(
            "needs a registry, and there is none",
            field=path,
            remedy='give one node the role "registry"',
        )


def _relay_faults(topology: Draft) -> Iterator[Rejected]:
    """Of nodes that offer to relay, and of networks that want them."""
    regions = {region.name for region in topology.regions}
    offered = {node.name for node in topology.nodes if node.relay}
    for node in topology.nodes:
        if not node.relay:
            continue
        if node.role != "node":
            yield Rejected(
                f"{node.name} is a {node.role}",
                field=f"node.{node.name}.relay",
                remedy='give it the role "node", or leave relay out',
            )
        elif not node.links or node.links[0].to not in regions:
            yield Rejected(
                f"{node.name} cannot be reached from everywhere",
                field=f"node.{node.name}.relay",
                remedy="link it straight to the internet",
            )
    if len(offered) > RELAYS_OFFERED_MAX:
        yield Rejected(
            f"more than {RELAYS_OFFERED_MAX} relays", field="node", remedy="leave some out"
        )
    for tenant in topology.tenants:
        for network in tenant.networks:
            path = f"tenant.{tenant.name}.network.{network.name}.relays"
            yield from repeated(network.relays, path=path + ".{}", what="relay")
            if len(network.relays) > RELAYS_MAX:
                yield Rejected(
                    f"{len(network.relays)} relays, {RELAYS_MAX} is the most",
                    field=path,
                    remedy="leave some out",
                )
            for name in network.relays:
                yield from unknown(name, known=offered, what="relay", path=f"{path}.{name}")


def _tenant_faults(tenant: Tenant, roles: Mapping[str, str]) -> Iterator[Rejected]:
    path = f"tenant.{tenant.name}"
    yield from no_label(tenant.name, path=path)
    names = (network.name for network in tenant.networks)
    yield from repeated(names, path=f"{path}.network.{{}}", what="network")
    for network in tenant.networks:
        yield from _network_faults(network, roles, path=f"{path}.network.{network.name}")


def _network_faults(
    network: TenantNetwork, roles: Mapping[str, str], *, path: str
) -> Iterator[Rejected]:
    yield from no_label(network.name, path=path)
    yield from _member_faults(network, roles, path=path)
    yield from _client_faults(network, roles, path=path)
    yield from _workload_faults(network, path=path)
    yield from _range_faults(network, path=path)


def _range_faults(network: TenantNetwork, *, path: str) -> Iterator[Rejected]:
    from overlay import addressing  # its netaddr is slow to load, and most labs have no tenants

    try:
        range_v4 = addressing.parse_range(network.range, field=f"{path}.range")
    except Rejected as fault:
        yield Rejected(fault.message, field=fault.field, remedy=fault.remedy or RANGES_REMEDY)
        return
    if not range_v4.startswith(RANGES):
        yield Rejected(
            f"{range_v4} may be the lab's own", field=f"{path}.range", remedy=RANGES_REMEDY
        )
    members = len(network.nodes) + len(network.invited) + len(network.clients)
    room = addressing.index_count(range_v4) - 1  # zos leaves out the first
    if members > room:
        yield Rejected(
            f"{members} members, and {range_v4} has room for {room}",
            field=f"{path}.range",
            remedy="use a larger range",
        )


def _member_faults(
    network: TenantNetwork, roles: Mapping[str, str], *, path: str
) -> Iterator[Rejected]:
    for key in ("nodes", "invited"):
        for name in getattr(network, key):
            yield from _role_faults(name, roles, role="node", path=f"{path}.{key}.{name}")
    for name, count in Counter((*network.nodes, *network.invited)).items():
        if count > 1:
            key = "invited" if name in network.invited else "nodes"
            yield Rejected(
                f"{name} is a member {count} times",
                field=f"{path}.{key}.{name}",
                remedy="name it once",
            )


def _client_faults(
    network: TenantNetwork, roles: Mapping[str, str], *, path: str
) -> Iterator[Rejected]:
    members = frozenset((*network.nodes, *network.invited))
    for access in network.clients:
        own = f"{path}.clients.{access.client}"
        yield from _role_faults(access.client, roles, role="client", path=own)
        yield from unknown(access.via, known=members, what="member", path=own)
    names = (access.client for access in network.clients)
    yield from repeated(names, path=f"{path}.clients.{{}}", what="client")


def _workload_faults(network: TenantNetwork, *, path: str) -> Iterator[Rejected]:
    from overlay import addressing

    members = frozenset((*network.nodes, *network.invited))
    for workload in network.workloads:
        own = f"{path}.workloads.{workload.name}"
        yield from no_label(workload.name, path=own)
        yield from unknown(workload.at, known=members, what="member", path=own)
    names = (workload.name for workload in network.workloads)
    yield from repeated(names, path=f"{path}.workloads.{{}}", what="workload")
    room = addressing.LAST_WORKLOAD_HOST - addressing.FIRST_WORKLOAD_HOST + 1
    for name, count in Counter(workload.at for workload in network.workloads).items():
        if count > room:
            yield Rejected(
                f"{count} workloads at {name}, {room} is the most",
                field=f"{path}.workloads",
                remedy="put some at other members",
            )


def _role_faults(
    name: str, roles: Mapping[str, str], *, role: str, path: str
) -> Iterator[Rejected]:
    if name in roles and roles[name] != role:
        yield Rejected(
            f"{name} is a {roles[name]}, not a {role}",
            field=path,
            remedy=f'give it the role "{role}", or leave it out',
        )
    elif name not in roles:
        fitting = [known for known, its in roles.items() if its == role]
        yield from unknown(name, known=fitting, what=role, path=path)
