"""A document as the registry holds it, and a network as its document and members make it. Pure."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from overlay.documents import schema, trust
from overlay.documents.envelope import parse_envelope
from overlay.documents.schema import Document, Member
from overlay.documents.trust import Floor, Roster
from overlay.errors import Refused, Rejected
from overlay.peers import registry_wire as wire


class Held(msgspec.Struct, frozen=True):
    """A document as it is stored, with the line that is sent for it."""

    key: str
    revision: int
    document: Document
    digest: bytes
    line: bytes

    @property
    def floor(self) -> Floor:
        return Floor(self.document.version, self.digest)


class HeldNetwork:
    """One network: its document, its members, and since when each of them may see the others."""

    __slots__ = (
        "former",
        "held",
        "insiders",
        "latest",
        "members",
        "named",
        "relays",
        "results",
        "roster",
        "sightings",
    )

    def __init__(self) -> None:
        self.held: Held | None = None
        self.roster: Roster | None = None
        self.named: frozenset[str] = frozenset()
        self.former: frozenset[str] = frozenset()
        self.members: dict[str, Held] = {}
        self.results: dict[str, Held] = {}
        # Node -> the revision that made it a member. After a restart that revision is known only
        # as "no later than": its documents may then be sent once more, and are never left out.
        self.insiders: dict[str, int] = {}
        # Relays see who the members are; the same holds for their revisions.
        self.relays: dict[str, int] = {}
        self.sightings: dict[str, Held] = {}
        self.latest = 0  # revision of the last change to anything here

    @property
    def owners(self) -> tuple[str, ...]:
        return self.roster.network.owners.keys if self.roster else ()

    def related(self) -> set[str]:
        """Nodes that the network document concerns: they are, were or want to be in, or relay."""
        return {*self.named, *self.former, *self.members, *self.relays}

    def admits(self, node: str) -> bool:
        """Whether the node is a member, by the network document."""
        if self.roster is None or self.roster.network.deleted:
            return False
        if node in self.named:
            return True
        member = self.members.get(node)
        return member is not None and is_admitted(self.roster, member.document)


def is_admitted(roster: Roster, member: object) -> bool:
    if not isinstance(member, Member):
        return False
    try:
        roster.admit(member)
    except Refused:
        return False
    return True


def is_invited(here: HeldNetwork, caller: str, *, now: datetime) -> bool:
    """Whether `caller` is an invitation of the network. Raises Refused when it has expired."""
    if here.roster is None or here.roster.network.deleted or not caller.startswith("invite1"):
        return False
    found = next((i for i in here.roster.network.invitations if i.key == caller), None)
    if found is not None and now.timestamp() > found.expires:
        raise Refused(
            f"invitation {found.name} has expired",
            field="invitation",
            remedy="ask the tenant for a new token",
        )
    return found is not None


def parse_held(key: str, raw: bytes, revision: int) -> Held | None:
    """The document in a stored envelope; None when this version cannot read it."""
    try:
        envelope = parse_envelope(raw)
        document = schema.parse_document(envelope.payload, envelope.payload_type)
    except Rejected:
        return None
    if trust.document_key(document) != key:
        return None
    digest = hashlib.sha256(envelope.payload).digest()
    line = wire.document_line(key=key, revision=revision, envelope=raw)
    return Held(key, revision, document, digest, line)
