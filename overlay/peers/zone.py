"""What is called how inside one network, by what its documents say (DNS-010 .. DNS-014). Pure.

A name belongs to one place. Where several want the same one it goes to what the tenant says, then
to the member that the tenant lists, then to the lowest index and host part: whoever holds the same
documents comes to the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from overlay.addressing import GATEWAY_HOST
from overlay.documents.names import WorkloadName
from overlay.documents.schema import Member, Network

TOP = "zos"  # nobody outside is asked about names that end like this
# Places of one network that are called something: of more, the first ones are. A node keeps them
# in memory twice, a few hundred bytes each.
MAX_PLACES = 65_536


class Place(msgspec.Struct, frozen=True, gc=False):
    """The host-th address of the index-th subnets, and its names below the network's domain."""

    index: int
    host: int
    names: tuple[str, ...]  # the first is what the address is called


class Zone(msgspec.Struct, frozen=True):
    """All names of one network."""

    domain: str  # "home.zos"
    places: tuple[Place, ...] = ()
    left_out: int = 0  # places that would be more than MAX_PLACES


def domain_of(network_name: str) -> str:
    return f"{network_name}.{TOP}"


def select_zone(network: Network, members: Iterable[Member]) -> Zone:
    """The names of a network. `members` are those that are admitted; what they say is believed of
    their own subnets only."""
    taken: set[str] = set()
    listed = {named.node: named.name for named in network.members}
    by_index = sorted(members, key=lambda member: (member.node not in listed, member.index))
    named = _by_the_tenant(network, taken)
    invited = _who_joined(by_index, listed, taken)
    called = {**listed, **{node: place.names[0] for node, place in invited.items()}}
    found = (*named, *invited.values(), *_workloads(by_index, called, taken))
    return Zone(domain_of(network.name), found[:MAX_PLACES], max(0, len(found) - MAX_PLACES))


def _by_the_tenant(network: Network, taken: set[str]) -> list[Place]:
    """Nodes and access devices, whose names the document gives to no two. Those of invitations
    stand for many nodes, so they name none."""
    places = [Place(member.index, GATEWAY_HOST, (member.name,)) for member in network.members]
    places += [Place(device.index, GATEWAY_HOST, (device.name,)) for device in network.access]
    taken.update(place.names[0] for place in places)
    return places


def _who_joined(
    members: Iterable[Member], listed: Mapping[str, str], taken: set[str]
) -> dict[str, Place]:
    """Nodes that joined by token and have a name that nobody had before, by id."""
    found = {}
    for member in members:
        if member.node not in listed and member.name not in taken:
            taken.add(member.name)
            found[member.node] = Place(member.index, GATEWAY_HOST, (member.name,))
    return found


def _workloads(
    members: Iterable[Member], called: Mapping[str, str], taken: set[str]
) -> Iterator[Place]:
    """Each by the name that it has alone in the network, and by the one that it has at its node."""
    for member in members:
        node = called.get(member.node)
        for workload in member.workloads:
            names = () if workload.name in taken else (workload.name,)
            taken.add(workload.name)
            if node is not None:
                names = (*names, f"{workload.name}.{node}")
            if names:
                yield Place(member.index, workload.host, names)


def with_workloads(member: Member, workloads: Iterable[WorkloadName]) -> Member:
    """The member as it will say once it has published what is attached now."""
    ordered = tuple(sorted(workloads, key=lambda each: each.host))
    return msgspec.structs.replace(member, workloads=ordered)
