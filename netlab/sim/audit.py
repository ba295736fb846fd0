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
    for network, tenant in world.tenants.items():
        for node in reference.informed(network):
            resource = world.resource(network, node)
            if resource is None:
                yield f"node {node} has no part in network {network}, which names it"
                continue
            resources.append(resource)
            yield from _Part(world, reference, network, node, resource).faults()
        for agent in world.agents.values():
            is_left = tenant.id in agent.resources and agent.number not in tenant.indexes
            if is_left and reference.is_informed(agent.number):
                yield f"node {agent.number} is still in network {network}, which it left"
    for resource in resources[:: max(1, len(resources) // RESELECTED)]:
        yield from _not_as_selected(resource)


class _Part:
    """One node's part of one network, beside what the reference says."""

    def __init__(
        self, world: World, reference: Reference, network: int, node: int, resource: Resource
    ) -> None:
        self._reference = reference
        self._network = network
        self._node = node
        self._resource = resource
        self._here = f"node {node} in network {network}"
        self._members = reference.members(network)
        self._shown = resource.device.shown(resource.device.tunnels)
        self._access = sum(via == node for via in world.tenants[network].access.values())
        self._keys: dict[WgPublicKey, int] = {}
        for other in self._members:
            there = world.resource(network, other)
            if there is not None and other != node:
                self._keys[there.key.public_key] = other

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
        wanted = self._reference.prefixes(self._network, other)
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
