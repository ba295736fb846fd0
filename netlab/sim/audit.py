"""Who is whose peer in a world that is quiet, with which prefixes, and why (LAB-103, LAB-104)."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.sim import cast
from netlab.sim.reference import Reference
from netlab.sim.resource import Resource
from netlab.sim.world import World
from overlay.model import WgPeer, WgPublicKey
from overlay.peers.selection import select_all

RESELECTED = 48  # resources of a world whose documents are all selected anew


def misinformed(world: World, reference: Reference) -> Iterator[str]:
    """What is wrong about anybody's peers, of those whom the registry can tell everything."""
    resources = []
    for network in world.tenants:
        whole = _Whole(world, reference, network)
        for node in reference.informed(network):
            resource = world.resource(network, node)
            if resource is None:
                yield f"node {node} has no part in network {network}, which names it"
                continue
            resources.append(resource)
            yield from _Part(whole, node, resource).faults()
    yield from _still_in(world, reference)
    for resource in resources[:: max(1, len(resources) // RESELECTED)]:
        yield from _not_as_selected(resource)


def _still_in(world: World, reference: Reference) -> Iterator[str]:
    """Who has left a network, and still has a part in it."""
    tenants = {tenant.id: tenant for tenant in world.tenants.values()}
    for agent in world.agents.values():
        for network in agent.resources:
            tenant = tenants[network]
            if agent.number not in tenant.indexes and reference.is_informed(agent.number):
                yield f"node {agent.number} is still in network {tenant.number}, which it left"


class _Whole:
    """What the reference says of one network, the same for all parts of it."""

    def __init__(self, world: World, reference: Reference, network: int) -> None:
        self.reference = reference
        self.network = network
        self.members = reference.members(network)
        self.access = list(world.tenants[network].access.values())
        self.prefixes = {node: reference.prefixes(network, node) for node in self.members}
        self.keys: dict[WgPublicKey, int] = {}
        for node in self.members:
            if (resource := world.resource(network, node)) is not None:
                self.keys[resource.key.public_key] = node


class _Part:
    """One node's part of one network, beside what the reference says."""

    def __init__(self, whole: _Whole, node: int, resource: Resource) -> None:
        self._reference = whole.reference
        self._node = node
        self._resource = resource
        self._here = f"node {node} in network {whole.network}"
        self._members = whole.members
        self._prefixes = whole.prefixes
        self._shown = resource.device.shown(resource.device.tunnels)
        self._access = whole.access.count(node)
        self._keys = {key: other for key, other in whole.keys.items() if other != node}

    def faults(self) -> Iterator[str]:
        yield from self._missing()
        yield from self._too_many()
        for key, other in self._keys.items():
            if key in self._shown:
                yield from self._wrong_prefixes(self._shown[key], other)
        yield from self._wrong_keepalives()
        if self._shown.keys() != self._resource.goals.peers.keys():
            yield f"{self._here}: the device has other peers than it should"

    def _missing(self) -> Iterator[str]:
        for key, other in self._keys.items():
            if key not in self._shown and self._reference.is_informed(other):
                yield f"{self._here} does not have member {other} as a peer"

    def _too_many(self) -> Iterator[str]:
        strangers = [
            key for key in self._shown if key not in self._keys and not self._is_excused(key)
        ]
        if len(strangers) != self._access:
            yield (
                f"{self._here} has {len(strangers)} peers that are no members,"
                f" and {self._access} access devices"
            )

    def _is_excused(self, key: WgPublicKey) -> bool:
        """Who is cut off may not have said with which key it is back."""
        member = self._resource.goals.selection.member_at(key)
        return member is not None and any(
            cast.node_id(other) == member.node and not self._reference.is_informed(other)
            for other in self._members
        )

    def _wrong_prefixes(self, peer: WgPeer, other: int) -> Iterator[str]:
        found = {prefix for prefix in peer.allowed_ips if ":" not in prefix}
        wanted = self._prefixes[other]
        if found != wanted or len(peer.allowed_ips) != 2 * len(wanted):
            yield f"{self._here}: peer {other} has {sorted(found)}, not {sorted(wanted)}"

    def _wrong_keepalives(self) -> Iterator[str]:
        """Only the hidden send them, only to the declared: no mesh of keepalives (NODE-046)."""
        known = self._keys.keys() & self._shown.keys()
        wanted = {k for k in known if self._reference.keeps_open(self._node, self._keys[k])}
        kept = {key for key in known if self._shown[key].keepalive_s}
        if kept != wanted:
            yield f"{self._here} sends keepalives to {len(kept)} peers, not to {len(wanted)}"


def _not_as_selected(resource: Resource) -> Iterator[str]:
    """What all documents give at once is what they led to one by one (ARC-010)."""
    selection = resource.goals.selection
    if selection.roster is None:
        return
    full = select_all(
        resource.own,
        own_key=resource.key.public_key,
        network=selection.roster.network,
        members=selection.members.values(),
    )
    if dict(full.peers) != dict(selection.peers) or dict(full.refusals) != dict(selection.refusals):
        yield f"{resource.own}: the peers are not those that its documents give"
