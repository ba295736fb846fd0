"""Everything that `zos status` shows of a node: itself, its registry, its networks."""

from __future__ import annotations

import os

from overlay import addressing
from overlay.reconcile.node import NodeLoop
from zos_core.report.exit import exit_health, read_exit
from zos_core.report.facts import Facts
from zos_core.report.health import read_health
from zos_core.report.networks import read_network, refused_network
from zos_core.report.refusals import network_of, refusal_status
from zos_core.report.relay import read_relay, relay_health
from zos_core.status import SCHEMA, FarmState, NodeStatus, RegistryStatus, Repair, Status


async def read_status(node: NodeLoop, facts: Facts) -> Status:
    """Everything, with the peers as the devices have them now."""
    now = node.clock.now()
    networks = [await read_network(node, loop, now=now) for loop in tuple(node.loops.values())]
    networks += [
        refused_network(id_, document, error) for id_, (document, error) in node.refused.items()
    ]
    networks.sort(key=lambda network: (network.name, network.id))
    own, registry, relay = _node(node, facts), _registry(node, facts), read_relay(node)
    exit_ = read_exit(node)
    return Status(
        schema=SCHEMA,
        generation=node.generation,
        at=now,
        node=own,
        registry=registry,
        networks=tuple(networks),
        repairs=tuple(Repair(r.at, r.network, r.what, r.by) for r in node.journal.repairs),
        refusals=tuple(
            refusal_status(refusal)
            for refusal in node.journal.refusals
            if network_of(refusal.key) not in node.loops
        ),
        health=(
            *read_health(node, facts, own, registry, networks),
            *relay_health(relay),
            *exit_health(read_exit(node)),
        ),
        relay=relay,
        exit=exit_,
    )


def _node(node: NodeLoop, facts: Facts) -> NodeStatus:
    settings, here = node.settings, node.surroundings
    return NodeStatus(
        id=node.id,
        name=settings.name,
        software=settings.software,
        pid=os.getpid(),
        started_at=facts.started_at,
        backend=node.backend,
        backend_reason=facts.backend_reason,
        farm=settings.farm,
        farm_state=_farm_state(node),
        underlay_mtu_bytes=here.mtu_bytes,
        endpoints=tuple(map(str, settings.endpoints)),
        addresses=tuple(map(addressing.address_of, here.addresses)),
        state_directory=facts.state_directory,
    )


def _farm_state(node: NodeLoop) -> FarmState:
    if node.settings.farm is None:
        return "none"
    return "listed" if node.farm is not None and node.id in node.farm.nodes else "waiting"


def _registry(node: NodeLoop, facts: Facts) -> RegistryStatus:
    connection = node.following.feed.connection
    return RegistryStatus(
        reference=str(node.following.client.ref) if node.following.client else facts.registry,
        state=connection.state if node.following.client else "none",
        since=connection.since,
        verified_at=connection.verified_at,
        revision=node.following.revision or 0,
        error=connection.error,
    )
