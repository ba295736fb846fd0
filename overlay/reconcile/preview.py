"""What a network document that nobody has signed yet would change in the kernel."""

from __future__ import annotations

from overlay import addressing
from overlay.documents.schema import Network
from overlay.exitnode.named import has_exits, is_named_exit, leaves_by
from overlay.keys import store
from overlay.keys.identity import Kind
from overlay.keys.wireguard import DeviceKey
from overlay.model import NetworkId, NetworkResource, Publication
from overlay.netns.changes import Change
from overlay.netns.resource import desired_resource
from overlay.netns.state import absent_resource
from overlay.peers import candidates
from overlay.peers.publishing import select_admitted, select_published
from overlay.peers.selection import Selection
from overlay.reconcile import draining
from overlay.reconcile.goals import PeerGoals
from overlay.reconcile.node import NodeLoop
from overlay.reconcile.resource import ResourceLoop


async def plan_network(node: NodeLoop, id_: NetworkId, network: Network) -> tuple[Change, ...]:
    """What would change here if this were the network's document."""
    loop = node.loops.get(id_)
    members = () if loop is None else tuple(loop.goals.selection.members.values())
    # Of a network that is new to us there is no key yet: any other shows the same changes.
    key = DeviceKey(store.generate(Kind.WG)) if loop is None else loop.device_key
    goals = PeerGoals(
        node.id,
        own_key=key.public_key,
        underlay=candidates.underlay_of(node.surroundings, declared=node.settings.endpoints),
    )
    for member in members:
        goals.put_member(member, now=node.clock.monotonic())
    goals.put_network(network, now=node.clock.monotonic())
    if loop is not None:
        goals.adopt_takeovers(loop.goals.takeovers.taken, now=node.clock.monotonic())
    if loop is not None and has_exits(goals.selection):
        goals.set_way_out(loop.goals.way_out, draining=loop.goals.draining)
    nr = goals.selection.network_resource(
        listen_port=loop.listen_port if loop else node.settings.first_port,
        mtu_bytes=candidates.overlay_mtu_bytes(node.surroundings),
    )
    netns = addressing.netns_name(id_)
    offer = node.exiting.offer_in_use
    is_exit = leaves_by(goals.selection, offer)
    desired = (
        absent_resource(netns)
        if nr is None
        else desired_resource(
            nr,
            device_key=key.public_key,
            peers=draining.shared_peers(goals),
            attachments=() if loop is None else loop.workloads(nr),
            devices=goals.selection.access_subnets(),
            is_exit=is_exit,
            is_routed=loop is not None and loop.is_routed,
            serves_members=is_named_exit(goals.selection) and not (offer and offer.local),
            has_exits=has_exits(goals.selection) and not is_exit,
            way_out=draining.mark_of(goals, goals.way_out),
            drain=draining.select_drain(goals),
            # Who gets a port that is published anew is decided once the document is signed.
            publications=() if loop is None else _kept(loop, goals.selection, nr),
            admitted=select_admitted(
                goals.selection, nr, own=node.id, hosts={} if loop is None else loop.hosts
            ),
        )
    )
    return await node.machine.configurator.plan(desired)


def _kept(loop: ResourceLoop, selection: Selection, nr: NetworkResource) -> tuple[Publication, ...]:
    published = select_published(selection, nr, exit_=loop.node)
    return tuple(sorted(to for _, to in published if to in loop.publications))
