"""What may be stored: decisions over what the registry holds, as transactions. Pure.

Every key that a decision looked at is compared when the transaction is committed, so a decision
holds on any `Store` and between any number of registries, or is made again (specs REG-040 ..).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from overlay.documents import trust
from overlay.documents.envelope import Envelope, encode_envelope
from overlay.documents.relays import Sighting
from overlay.documents.schema import Invitation, Member, Network, Result
from overlay.documents.trust import Verified
from overlay.errors import Conflict, Refused
from overlay.registry.directory import DOCUMENT, FORMER, Directory
from overlay.registry.held import Held, HeldNetwork, is_admitted
from overlay.registry.store import Txn

MAX_NETWORKS_PER_TENANT = 1_024  # deleted ones included: their tombstones are kept
MAX_NETWORKS_PER_NODE = 1_024
MAX_FORMER_PER_NETWORK = 16_384
MAX_DOCUMENT_BYTES = 1 << 30  # of all documents together, as they are sent
JOIN_SKEW_S = 300  # how far ahead of the registry's clock a joining node's may be

# Beside documents, the store holds who consumed what.
CLAIM = "claim/"  # claim/<network>/<index> -> Claim
DEVICE = "device/"  # device/<wg id> -> "<network>/<node>"
QUOTA = "quota/"  # quota/<signer> -> how many documents count against it


class Claim(msgspec.Struct, frozen=True):
    """Who took an index, and which invitation was used for it."""

    node: str
    invitation: str | None = None


class Stored(msgspec.Struct, frozen=True):
    """Nothing is to be done: the very document is there."""

    revision: int


class AlreadyThere(Conflict):
    """Refused in favour of what is there."""

    def __init__(
        self, message: str, *, field: str, remedy: str | None = None, current: Held | None = None
    ) -> None:
        super().__init__(message, field=field, remedy=remedy)
        self.current = current


def decide(
    directory: Directory, verified: Verified, envelope: Envelope, *, now: datetime
) -> Txn | Stored:
    """The transaction that stores a verified document. Raises Refused or AlreadyThere with why."""
    case = _Case(directory, verified, now)
    current = case.held(verified.key)
    if not _is_news(verified, current):
        return Stored(current.revision if current else 0)
    raw = encode_envelope(envelope)
    if directory.bytes + len(raw) > MAX_DOCUMENT_BYTES:
        raise Refused("the registry is full", remedy="ask its operator for room")
    case.put(DOCUMENT + verified.key, raw)
    match verified.document:
        case Network() as network:
            _admit_network(case, network, frozenset(s.keyid for s in envelope.signatures))
        case Member() as member:
            _admit_member(case, member)
        case Result() as result:
            _admit_result(case, result)
        case Sighting() as sighting:
            _admit_sighting(case, sighting)
    return case.txn()


def may_publish(caller: str, envelope: Envelope) -> bool:
    """Documents are brought by somebody who signed them."""
    return any(signature.keyid == caller for signature in envelope.signatures)


class _Case:
    """One decision: what it looked at, and what it writes."""

    def __init__(self, directory: Directory, verified: Verified, now: datetime) -> None:
        self._directory = directory
        self._compares: dict[str, int] = {}
        self._puts: dict[str, bytes] = {}
        self._deletes: dict[str, None] = {}
        self.verified = verified
        self.now = now

    def held(self, key: str) -> Held | None:
        held = self._directory.held(key)
        self._compares[DOCUMENT + key] = held.revision if held else 0
        return held

    def fact(self, key: str) -> bytes | None:
        entry = self._directory.fact(key)
        self._compares[key] = entry.mod_revision if entry else 0
        return entry.value if entry else None

    def known_network(self, network: str) -> HeldNetwork | None:
        self.held(f"network/{network}")
        return self._directory.network(network)

    def network(self, network: str) -> HeldNetwork:
        """The network a document is about. Raises Refused when the registry holds none."""
        if (found := self.known_network(network)) is None:
            raise Refused(
                f"the registry holds no network {network}",
                field="network",
                remedy="publish the network document first",
            )
        return found

    def put(self, key: str, value: bytes) -> None:
        self._puts[key] = value

    def delete(self, key: str) -> None:
        self._deletes[key] = None

    def count(self, signer: str, change: int, *, limit: int, what: str) -> None:
        """Charge a signer. Raises Refused above the limit."""
        found = self.fact(QUOTA + signer)
        count = max(0, msgspec.json.decode(found, type=int) + change if found else change)
        if change > 0 and count > limit:
            raise Refused(f"{signer} has {limit} {what} already, the most there may be")
        self.put(QUOTA + signer, msgspec.json.encode(count))

    def txn(self) -> Txn:
        return Txn(
            compares=tuple(self._compares.items()),
            puts=tuple(self._puts.items()),
            deletes=tuple(key for key in self._deletes if key not in self._puts),
        )


def _is_news(verified: Verified, current: Held | None) -> bool:
    try:
        return trust.is_news(verified, current.floor if current else None)
    except (Refused, Conflict) as exc:
        raise AlreadyThere(
            exc.message, field="version", remedy="publish a higher version", current=current
        ) from exc


def _admit_network(case: _Case, network: Network, signers: frozenset[str]) -> None:
    id_ = case.verified.key.partition("/")[2]
    here = case.known_network(id_)
    if here is None:
        # Only who signed is charged: anybody can write another's key into `owners`.
        for signer in sorted(signers):
            case.count(signer, 1, limit=MAX_NETWORKS_PER_TENANT, what="networks")
        return
    relays = frozenset(() if network.deleted else (r.node for r in network.relays))
    named = frozenset(m.node for m in network.members) | relays
    former = ((here.named | here.relays.keys()) - named) | (here.former - named)
    for node in here.sightings.keys() - relays:
        case.delete(f"{DOCUMENT}sighting/{id_}/{node}")
    if former != here.former:
        _remember(case, id_, former)


def _remember(case: _Case, network: str, former: frozenset[str]) -> None:
    """Who was in has to learn that it is out, also when it was not listening."""
    case.fact(FORMER + network)
    kept = sorted(former)[:MAX_FORMER_PER_NETWORK]
    case.put(FORMER + network, msgspec.json.encode(kept))


def _admit_member(case: _Case, member: Member) -> None:
    here = case.network(member.network)
    if here.roster is None:
        raise Refused(f"the registry holds no network {member.network}", field="network")
    here.roster.admit(member)
    held = case.held(f"member/{member.network}/{member.node}")
    before = held.document if held is not None and isinstance(held.document, Member) else None
    invitation = None if member.node in here.named else member.invitation
    if invitation is not None:
        _admit_invited(case, member, before, here)
    if before is None:
        case.count(member.node, 1, limit=MAX_NETWORKS_PER_NODE, what="networks")
    _take_index(case, member, invitation, here)
    _take_devices(case, member)
    if before is not None:
        _release(case, before, member)


def _admit_invited(case: _Case, member: Member, before: Member | None, here: HeldNetwork) -> None:
    """The first use is judged by the registry's clock; what follows may not use it twice."""
    if before is not None and before.invitation == member.invitation:
        if (before.index, before.joined) != (member.index, member.joined):
            raise AlreadyThere(
                f"{member.node} joined with index {before.index} at {before.joined} already",
                field="index" if before.index != member.index else "joined",
                remedy="keep index and joined of the first version",
                current=case.held(case.verified.key),
            )
        return
    now = int(case.now.timestamp())
    expires = next((i.expires for i in _invitations(here) if i.key == member.invitation), 0)
    if now > expires:
        raise Refused(
            "the invitation has expired", field="invitation", remedy="ask for a new token"
        )
    if member.joined > now + JOIN_SKEW_S:
        raise Refused(
            f"joined is {member.joined - now} s ahead", field="joined", remedy="set the clock"
        )


def _take_index(case: _Case, member: Member, invitation: str | None, here: HeldNetwork) -> None:
    key = f"{CLAIM}{member.network}/{member.index}"
    value = msgspec.json.encode(Claim(member.node, invitation))
    found = case.fact(key)
    if found is not None:
        claim = msgspec.json.decode(found, type=Claim)
        if claim.node != member.node:
            _evict(case, member, invitation, claim, here)
    if found != value:
        case.put(key, value)


def _evict(
    case: _Case, member: Member, invitation: str | None, claim: Claim, here: HeldNetwork
) -> None:
    """Remove a holder who is no member any more. Raises AlreadyThere when it holds its index."""
    holder_key = f"{member.network}/{claim.node}"
    holder = case.held(f"member/{holder_key}")
    document = holder.document if holder is not None else None
    is_there = isinstance(document, Member) and document.index == member.index
    if is_there and here.roster is not None and is_admitted(here.roster, document):
        raise AlreadyThere(
            f"index {member.index} is taken", field="index", remedy="take another", current=holder
        )
    if claim.invitation is not None and claim.invitation == invitation:
        # Else whoever was removed could come back with another key and the same token.
        raise AlreadyThere(
            f"the invitation was used for index {member.index}",
            field="index",
            remedy="take another index, or ask for a new token",
        )
    if is_there and isinstance(document, Member):
        case.delete(f"{DOCUMENT}member/{holder_key}")
        case.delete(f"{DOCUMENT}result/{holder_key}")
        for device in _devices(document):
            case.delete(DEVICE + device)
        _remember(case, member.network, here.former | {claim.node})
        case.count(claim.node, -1, limit=MAX_NETWORKS_PER_NODE, what="networks")


def _devices(member: Member) -> tuple[str, ...]:
    """The keys that are its own: in use, and to come."""
    coming = member.next_device
    return (member.device,) if coming is None else (member.device, coming.device)


def _take_devices(case: _Case, member: Member) -> None:
    owner = f"{member.network}/{member.node}".encode()
    for field, device in zip(("device", "next_device"), _devices(member), strict=False):
        found = case.fact(DEVICE + device)
        if found is not None and found != owner:
            raise AlreadyThere(
                "the WireGuard key is in use by another member",
                field=field,
                remedy="make a new key",
            )
        if found is None:
            case.put(DEVICE + device, owner)


def _release(case: _Case, before: Member, member: Member) -> None:
    """Give back what an earlier version held; the use of an invitation stays consumed."""
    owner = f"{before.network}/{before.node}".encode()
    for device in sorted(set(_devices(before)) - set(_devices(member))):
        if case.fact(DEVICE + device) == owner:
            case.delete(DEVICE + device)
    if before.index != member.index:
        key = f"{CLAIM}{before.network}/{before.index}"
        found = case.fact(key)
        claim = msgspec.json.decode(found, type=Claim) if found else None
        if claim == Claim(member.node, None):
            case.delete(key)


def _admit_result(case: _Case, result: Result) -> None:
    """Members report; of a deleted network, those who were members when it was deleted."""
    here = case.network(result.network)
    member = case.held(f"member/{result.network}/{result.node}")
    is_revoked = here.roster is not None and result.node in here.roster.network.revoked
    if result.node not in here.named and (member is None or is_revoked):
        raise Refused(f"{result.node} is no member of {result.network}", field="node")


def _admit_sighting(case: _Case, sighting: Sighting) -> None:
    """The tenant says who relays, and so who may say what a relay hears."""
    here = case.network(sighting.network)
    if sighting.node not in here.relays:
        raise Refused(f"{sighting.node} is no relay of {sighting.network}", field="node")


def _invitations(here: HeldNetwork) -> Iterator[Invitation]:
    yield from here.roster.network.invitations if here.roster else ()
