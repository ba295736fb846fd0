"""Joining a network by token: one index of the invitation's range, taken by a signed document.

Idempotent by node key: whoever asks twice, or crashed in between, is told where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import msgspec

from overlay.documents.envelope import Envelope, encode_envelope, sign
from overlay.documents.schema import Invitation, Member, Network, encode, payload_type
from overlay.errors import Conflict, Refused, Rejected
from overlay.keys.identity import Identity, Signer
from overlay.keys.wireguard import DeviceKey
from overlay.model import NetworkId
from overlay.peers.registry import Document, PublishConflict, RegistryClient, RegistryRef
from overlay.peers.selection import Selection, select_all
from overlay.reconcile import membership
from overlay.reconcile.node import NodeLoop

MAX_TRIES = 64  # indexes that others take while we try

# A registry and who calls it -> its client, open for as long as the block lasts.
MakeClient = Callable[[RegistryRef, Signer], AbstractAsyncContextManager[RegistryClient]]


class Joined(msgspec.Struct, frozen=True):
    network: NetworkId
    index: int
    already: bool


async def join(
    node: NodeLoop,
    registry: RegistryRef,
    network: NetworkId,
    invitation: Identity,
    *,
    make_client: MakeClient,
) -> Joined:
    """This node is a member of the network. Raises Refused with why it cannot be."""
    async with node.joining:
        loop = node.loops.get(network)
        if loop is not None and loop.is_wanted and (nr := loop.network_resource) is not None:
            return Joined(network, nr.index, already=True)
        async with make_client(registry, invitation) as client:
            documents = await _fetch(client, network)
        selection = _select(node, documents, device=node.keys.device(network))
        if (index := selection.own_index) is not None:
            # Named, or a member since an answer that never reached us.
            node.adopt(network, documents, invitation=invitation)
            return Joined(network, index, already=True)
        async with make_client(registry, node.identity) as client:
            own = await _take_index(node, client, selection, invitation)
        key = f"member/{network}/{node.id}"
        document = Document(0, key, encode_envelope(own))
        node.adopt(network, (*documents, document), invitation=invitation)
        return Joined(network, node.loops[network].goals.selection.own_index or 0, already=False)


async def _fetch(client: RegistryClient, network: NetworkId) -> tuple[Document, ...]:
    """The network's document first, then its members'."""
    document = await client.fetch(f"network/{network}")
    if document is None:
        raise Refused(
            "the registry does not have this network, or the invitation is not valid any more",
            field="token",
            remedy="ask the tenant for a new token: zos network invite",
        )
    return (document, *await client.list("member", network))


def _select(node: NodeLoop, documents: tuple[Document, ...], *, device: DeviceKey) -> Selection:
    """The network as its verified documents make it. Raises Rejected when its own is not good."""
    network, *members = documents
    document = node.intake.verify(network.envelope, key=network.key).document
    if not isinstance(document, Network):
        raise Rejected(f"{network.key} is no network document")
    found = []
    for member in members:
        try:
            verified = node.intake.verify(member.envelope, key=member.key).document
        except Rejected:
            continue  # it is refused, and shown, when it is stored
        if isinstance(verified, Member):
            found.append(verified)
    return select_all(node.id, own_key=device.public_key, network=document, members=found)


async def _take_index(
    node: NodeLoop, client: RegistryClient, selection: Selection, invitation: Identity
) -> Envelope:
    """A member document that the registry took: with the first free index; on a race, the next."""
    roster = selection.roster
    if roster is None:
        raise Rejected("no network document")
    offered = membership.find_invitation(roster.network, invitation.id, now=node.now())
    device = node.keys.device(roster.id)
    node.keys.keep_invitation(roster.id, invitation)
    refusal: Conflict | None = None
    for _, index in zip(range(MAX_TRIES), _free_indexes(selection, offered), strict=False):
        member = membership.invited_member(
            roster,
            node.id,
            name=node.settings.name,
            index=index,
            version=node.intake.next_version(f"member/{roster.id}/{node.id}"),
            invitation=invitation.id,
            device=device.id,
            endpoints=node.networks.own_endpoints(node.networks.reserve_port(roster.id)),
            now=node.now(),
        )
        roster.admit(member)
        signers = (node.identity, device, invitation)
        envelope = sign(encode(member), payload_type("member"), *signers)
        try:
            await client.publish(envelope)
        except PublishConflict as exc:
            if exc.field != "index":
                raise
            refusal = exc
            continue
        return envelope
    raise Refused(
        f"all {offered.uses} uses of invitation {offered.name} are taken",
        field="token",
        remedy="ask the tenant for a new token: zos network invite",
    ) from refusal


def _free_indexes(selection: Selection, invitation: Invitation) -> Iterator[int]:
    taken = {member.index for member in selection.members.values()}
    first = invitation.first_index
    return (index for index in range(first, first + invitation.uses) if index not in taken)
