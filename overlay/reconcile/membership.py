"""What this node says of itself in a network, and whether it acts on the network at all. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from overlay.documents.devices import NextDevice
from overlay.documents.exits import ExitService
from overlay.documents.names import WorkloadName
from overlay.documents.schema import (
    EndpointCandidate,
    Farm,
    Invitation,
    Member,
    Network,
    Result,
)
from overlay.documents.trust import Roster
from overlay.errors import OverlayError, Refused
from overlay.model import DeviceId, FarmId, NodeId

MAX_NETWORKS = 128
MAX_NETWORKS_PER_TENANT = 64
MAX_REASON_CHARS = 512


class Gate(msgspec.Struct, frozen=True):
    """Whether this node acts on a network; if not, why, and who can change that."""

    open: bool
    message: str = ""
    remedy: str = ""


OPEN = Gate(open=True)


def select_gate(own: NodeId, *, farm: FarmId | None, listed: Farm | None, joined: bool) -> Gate:
    """A tenant may name any node; the node's own operator decides whether it acts (NODE-003).

    `joined`: somebody with access to this node joined by token, which needs no farm.
    """
    if joined or (listed is not None and own in listed.nodes):
        return OPEN
    if farm is None:
        return Gate(
            open=False,
            message="this node belongs to no farm, so no tenant can use it",
            remedy='set farm = "farm1..." in /etc/zos/node.toml, or run: zos join TOKEN',
        )
    name = listed.name if listed is not None else "FARM"
    return Gate(
        open=False,
        message="the farm does not list this node",
        remedy=f"farm operator runs: zos farm add-node {name} {own}",
    )


def own_member(
    roster: Roster,
    own: NodeId,
    *,
    device: DeviceId,
    endpoints: tuple[EndpointCandidate, ...],
    before: Member | None,
    now: int,
    workloads: Iterable[WorkloadName] = (),
    service: ExitService | None = None,
    next_device: NextDevice | None = None,
) -> Member | None:
    """The member document this node should have published; None when it is not a member.

    The version is the one of `before`: whoever signs gives it the next.
    """
    named, called = roster.named(own), tuple(sorted(workloads, key=lambda each: each.host))
    if named is not None:
        return Member(
            network=roster.id,
            node=own,
            version=before.version if before else 1,
            name=named.name,
            index=named.index,
            device=device,
            joined=before.joined if before else now,
            endpoints=endpoints,
            workloads=called,
            exit=service,
            next_device=next_device,
        )
    if before is None or before.invitation is None or not _is_admitted(roster, before):
        return None
    return msgspec.structs.replace(
        before, device=device, endpoints=endpoints, workloads=called, next_device=next_device
    )


def invited_member(
    roster: Roster,
    own: NodeId,
    *,
    name: str,
    index: int,
    version: int,
    invitation: str,
    device: DeviceId,
    endpoints: tuple[EndpointCandidate, ...],
    now: int,
) -> Member:
    """The member document with which a node takes one use of an invitation."""
    return Member(
        network=roster.id,
        node=own,
        version=version,
        name=name,
        index=index,
        device=device,
        joined=now,
        endpoints=endpoints,
        invitation=invitation,
    )


def find_invitation(network: Network, key: str, *, now: int) -> Invitation:
    """The invitation with this key. Raises Refused when it is gone or has expired."""
    remedy = "ask the tenant for a new token: zos network invite"
    if network.deleted:
        raise Refused(f"network {network.name} is deleted", field="token")
    invitation = next((i for i in network.invitations if i.key == key), None)
    if invitation is None:
        raise Refused(f"{network.name} has withdrawn this invitation", field="token", remedy=remedy)
    if now > invitation.expires:
        raise Refused(
            f"invitation {invitation.name} has expired {now - invitation.expires} s ago",
            field="token",
            remedy=remedy,
        )
    return invitation


def result(
    network: str, own: NodeId, *, document_version: int, error: OverlayError | None, now: int
) -> Result:
    """What this node did with a version of the network document."""
    return Result(
        network=network,
        node=own,
        version=1,
        document_version=document_version,
        ok=error is None,
        at=now,
        reason="" if error is None else str(error)[:MAX_REASON_CHARS],
    )


def says_the_same(left: Member | Result | None, right: Member | Result) -> bool:
    """Whether publishing `right` after `left` would tell nobody anything new."""
    if type(left) is not type(right) or left is None:
        return False
    if isinstance(left, Result) and isinstance(right, Result):
        return msgspec.structs.replace(left, version=right.version, at=right.at) == right
    return msgspec.structs.replace(left, version=right.version) == right


def refuse_excess(held: tuple[Network, ...], network: Network) -> None:
    """Raise Refused when the node is in as many networks as it may be (NODE-005)."""
    if len(held) >= MAX_NETWORKS:
        raise Refused(
            f"this node is in {MAX_NETWORKS} networks already",
            remedy="name another node, or remove this one from a network",
        )
    for owner in network.owners.keys:
        if sum(owner in other.owners.keys for other in held) >= MAX_NETWORKS_PER_TENANT:
            raise Refused(
                f"this node is in {MAX_NETWORKS_PER_TENANT} networks of {owner} already",
                remedy="name another node, or remove this one from a network",
            )


def _is_admitted(roster: Roster, member: Member) -> bool:
    try:
        roster.admit(member)
    except Refused:
        return False
    return True
