"""From what a network publishes to where it leads, on an exit and where the workload is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from overlay import addressing
from overlay.documents.published import Published
from overlay.documents.schema import Member
from overlay.model import AllowRule, NetworkResource, NodeId, Prefix, Publication
from overlay.peers.selection import Selection


def select_published(
    selection: Selection, nr: NetworkResource, *, exit_: NodeId
) -> Iterator[tuple[Published, Publication | None]]:
    """What the network publishes at this exit, each with where it leads: a member says what its
    workloads are called, and gives names to its own addresses only (DNS-002)."""
    for each in _published(selection):
        if each.exit == exit_:
            yield each, _publication(selection, nr, each)


def select_admitted(
    selection: Selection, nr: NetworkResource, *, own: NodeId, hosts: Mapping[str, int]
) -> tuple[AllowRule, ...]:
    """What exits may send to workloads here, because the network publishes these (PUB-023).

    `hosts` are the workloads that are attached here, by name.
    """
    return tuple(
        AllowRule(
            source=_addresses(nr, index, addressing.GATEWAY_HOST),
            to=_addresses(nr, nr.index, hosts[each.workload]),
            protocol=each.protocol,
            ports=((each.target, each.target),),
        )
        for each in _published(selection)
        if each.node == own and each.exit != own and each.workload in hosts
        if (index := _named_index(selection, each.exit)) is not None
    )


def _publication(
    selection: Selection, nr: NetworkResource, published: Published
) -> Publication | None:
    member = _admitted(selection, published.node)
    if member is None:
        return None
    host = next((w.host for w in member.workloads if w.name == published.workload), None)
    if host is None:
        return None
    v4, v6 = _subnets(nr, member.index)
    return Publication(
        published.protocol,
        published.port,
        addressing.address_of(addressing.host_address(v4, host)),
        addressing.address_of(addressing.host_address(v6, host)),
        published.target,
    )


def _published(selection: Selection) -> tuple[Published, ...]:
    """Ports of exits that lead to workloads of the network."""
    roster = selection.roster
    return () if roster is None or roster.network.deleted else roster.network.published


def _named_index(selection: Selection, node: str) -> int | None:
    """The place of a node that the tenant lists."""
    named = None if selection.roster is None else selection.roster.named(NodeId(node))
    return None if named is None else named.index


def _admitted(selection: Selection, node: str) -> Member | None:
    """The document of a member against which nothing speaks; our own is one."""
    member = selection.members.get(node)
    return None if member is None or node in selection.refusals else member


def _addresses(nr: NetworkResource, index: int, host: int) -> tuple[Prefix, ...]:
    v4, v6 = (
        addressing.address_of(addressing.host_address(subnet, host))
        for subnet in _subnets(nr, index)
    )
    return Prefix(f"{v4}/32"), Prefix(f"{v6}/128")


def _subnets(nr: NetworkResource, index: int) -> tuple[Prefix, Prefix]:
    return addressing.subnet_v4(nr.range_v4, index), addressing.subnet_v6(nr.range_v6, index)
