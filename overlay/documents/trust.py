"""Who may say what, and whether it is new (specs DOC-040 .. DOC-059).

`verify` proves that a document was said by those entitled to say it, from the document alone: a
farm, node, member or result carries its speaker's key in its subject, a network's id is a hash over
its owners' keys. `Roster` decides from a network document who is a member. `is_news` holds the
order. No look-up anywhere can change an answer given here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from overlay.documents import envelope as dsse
from overlay.documents import schema
from overlay.documents.envelope import Envelope
from overlay.documents.relays import Relay, Sighting
from overlay.documents.schema import (
    AccessDevice,
    Document,
    Farm,
    Invitation,
    Member,
    NamedMember,
    Network,
    Node,
    Owners,
    Result,
)
from overlay.errors import Conflict, Refused
from overlay.keys import identity
from overlay.model import NetworkId, NodeId


class Verified(msgspec.Struct, frozen=True):
    """A document whose signatures and consistency were checked, with what identifies it."""

    key: str  # "network/net1...", "member/net1.../node1..."
    document: Document
    digest: bytes  # SHA-256 over the payload bytes

    @property
    def version(self) -> int:
        return self.document.version


class Floor(msgspec.Struct, frozen=True):
    """The newest version of a document that was ever accepted."""

    version: int
    digest: bytes


@lru_cache(maxsize=4096)
def network_id(owners: Owners, name: str) -> NetworkId:
    """The id that pins owners and name: 20 bytes of SHA-256 (DOC-041)."""
    canonical = msgspec.json.encode([owners.threshold, list(owners.keys), name])
    digest = hashlib.sha256(b"zos network\x00" + canonical).digest()
    return NetworkId(identity.format_network_id(digest[:20]))


def document_key(document: Document) -> str:
    """Where the document lives: kind and subject. Versions of one key replace each other."""
    match document:
        case Farm():
            return f"farm/{document.farm}"
        case Node():
            return f"node/{document.node}"
        case Network():
            return f"network/{network_id(document.owners, document.name)}"
        case Member() | Result() | Sighting():
            return f"{schema.kind_of(document)}/{document.network}/{document.node}"


def verify(envelope: Envelope) -> Verified:
    """The document in the envelope, said by those entitled to it. Raises Rejected or Refused."""
    document = schema.parse_document(envelope.payload, envelope.payload_type)
    _check_signers(document, dsse.verified_signers(envelope))
    return Verified(document_key(document), document, hashlib.sha256(envelope.payload).digest())


def is_news(verified: Verified, floor: Floor | None) -> bool:
    """True when newer than the floor, False when it is the floor itself (DOC-045).

    Raises Refused for an older version, and Conflict for a fork: the same version with other
    bytes, which only a speaker who signed twice can make.
    """
    if floor is None or verified.version > floor.version:
        return True
    if verified.version < floor.version:
        raise Refused(
            f"{verified.key} version {verified.version} is older than {floor.version}, seen before",
            field="version",
        )
    if verified.digest != floor.digest:
        raise Conflict(
            f"{verified.key} version {verified.version} exists with other content (fork)",
            field="version",
            remedy="its signer publishes a higher version",
        )
    return False


def claim_rank(network: NetworkId, node: str) -> bytes:
    """Order among members that claim one index: the lowest rank holds it (DOC-049).

    The same on every node and in every order of arrival, so that all peers agree without asking.
    """
    return hashlib.sha256(f"zos claim\x00{network}\x00{node}".encode()).digest()


class Roster:
    """Who is a member of one network, by one version of its document. Immutable."""

    __slots__ = ("_access", "_by_invitation", "_by_node", "_revoked", "id", "network")

    def __init__(self, network: Network) -> None:
        self.id: NetworkId = network_id(network.owners, network.name)
        self.network = network
        self._by_node: Mapping[str, NamedMember] = {m.node: m for m in network.members}
        self._by_invitation: Mapping[str, Invitation] = {i.key: i for i in network.invitations}
        self._revoked = frozenset(network.revoked)
        access: dict[str, list[AccessDevice]] = {}
        for device in network.access:
            access.setdefault(device.via, []).append(device)
        self._access: Mapping[str, list[AccessDevice]] = access

    @property
    def relays(self) -> tuple[Relay, ...]:
        """By way of whom members may be reached; none when the network is deleted."""
        return () if self.network.deleted else self.network.relays

    def named(self, node: NodeId) -> NamedMember | None:
        """The entry that names the node, None when it is not listed or the network is deleted."""
        return None if self.network.deleted else self._by_node.get(node)

    def access_via(self, node: str) -> tuple[AccessDevice, ...]:
        """The access devices that hang on `node`."""
        return tuple(self._access.get(node, ()))

    def admit(self, member: Member) -> None:
        """Return when the network document makes this node a member. Raises Refused with why."""
        if member.network != self.id:
            raise Refused(f"a member of {member.network} is not one of {self.id}", field="network")
        if self.network.deleted:
            raise Refused(f"network {self.network.name} is deleted", field="network")
        if member.node in self._revoked:
            raise Refused(f"{member.node} was removed from {self.network.name}", field="node")
        if (named := self._by_node.get(member.node)) is not None:
            self._admit_named(member, named)
        else:
            self._admit_invited(member)

    def _admit_named(self, member: Member, named: NamedMember) -> None:
        if member.index != named.index:
            raise Refused(
                f"{member.node} has index {named.index}, not {member.index}", field="index"
            )

    def _admit_invited(self, member: Member) -> None:
        if member.invitation is None:
            raise Refused(f"{member.node} is not in {self.network.name}", field="node")
        invitation = self._by_invitation.get(member.invitation)
        if invitation is None:
            raise Refused(
                f"{self.network.name} has no invitation {member.invitation}",
                field="invitation",
                remedy="ask the tenant for a new token",
            )
        last = invitation.first_index + invitation.uses - 1
        if not invitation.first_index <= member.index <= last:
            raise Refused(
                f"index {member.index} is not between {invitation.first_index} and {last}",
                field="index",
            )
        if member.joined > invitation.expires:
            raise Refused(
                f"invitation {invitation.name} expired before {member.node} joined",
                field="joined",
                remedy="ask the tenant for a new token",
            )


def _check_signers(document: Document, signers: frozenset[str]) -> None:
    if isinstance(document, Network):
        _check_owners(document.owners, signers)
        return
    entitled = _speakers(document)
    if missing := entitled - signers:
        raise Refused(f"no signature by {min(missing)}", field="signatures")
    if strangers := signers - entitled:
        raise Refused(f"{min(strangers)} may not sign this", field="signatures")


def _speakers(document: Farm | Node | Member | Result | Sighting) -> set[str]:
    match document:
        case Farm():
            return {document.farm}
        case Node() | Result() | Sighting():
            return {document.node}
        case Member(next_device=coming, invitation=invitation):
            others = {coming.device} if coming is not None else set()
            others |= {invitation} if invitation is not None else set()
            return {document.node, document.device, *others}
    raise AssertionError(document)


def _check_owners(owners: Owners, signers: frozenset[str]) -> None:
    if strangers := signers - set(owners.keys):
        raise Refused(f"{min(strangers)} may not sign this", field="signatures")
    if len(signers) < owners.threshold:
        raise Refused(
            f"{len(signers)} of {owners.threshold} owners' signatures", field="signatures"
        )
