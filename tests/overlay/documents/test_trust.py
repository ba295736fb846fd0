"""Who may say what, and whether it is new (DOC-040 .. DOC-055)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from overlay.documents import schema, trust
from overlay.documents.devices import NextDevice
from overlay.documents.envelope import Envelope, sign
from overlay.documents.relays import Sighting
from overlay.documents.schema import (
    AccessDevice,
    Capacity,
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
from overlay.documents.trust import Floor, Roster
from overlay.errors import Conflict, Refused, Rejected
from overlay.keys import wireguard
from overlay.keys.identity import Identity, Kind, Signer
from overlay.keys.wireguard import DeviceKey, WireGuardKey
from overlay.model import NodeId


def seed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def made(kind: Kind, name: str = "") -> Identity:
    return Identity.from_seed(kind, seed(f"{kind} {name}"))


NODE, EVE = made(Kind.NODE), made(Kind.NODE, "eve")
FARM = made(Kind.FARM)
ALICE, BOB, CAROL = sorted((made(Kind.TENANT, n) for n in "abc"), key=lambda each: each.id)
INVITE = made(Kind.INVITE)
DEVICE = DeviceKey.from_seed(seed("device"))
NEXT = DeviceKey.from_seed(seed("next device"))
OWNERS = Owners(1, (ALICE.id,))
HOME = trust.network_id(OWNERS, "home")


def network(**changes: Any) -> Network:
    whole = Network("home", 1, OWNERS, "10.1.0.0/16", (NamedMember("n1", NODE.id, 1),))
    return msgspec.structs.replace(whole, **changes)


def member(**changes: Any) -> Member:
    whole = Member(HOME, NODE.id, 1, "n1", 1, DEVICE.id, 500)
    return msgspec.structs.replace(whole, **changes)


def signed(document: Document, *signers: Signer) -> Envelope:
    kind = schema.kind_of(document)
    return sign(schema.encode(document), schema.payload_type(kind), *signers)


CAPACITY = Capacity(1, 1, 1)
ENTITLED: list[tuple[Document, tuple[Signer, ...]]] = [
    (Farm(FARM.id, 1, "basement"), (FARM,)),
    (Node(NODE.id, 1, "n1", "zos", "kernel", CAPACITY), (NODE,)),
    (Result(HOME, NODE.id, 1, 1, True, 1), (NODE,)),
    (Sighting(HOME, NODE.id, 1), (NODE,)),
    (member(), (NODE, DEVICE)),
    (member(index=10, invitation=INVITE.id), (NODE, DEVICE, INVITE)),
    (member(next_device=NextDevice(NEXT.id, 900)), (NODE, DEVICE, NEXT)),
    (
        member(index=10, invitation=INVITE.id, next_device=NextDevice(NEXT.id, 900)),
        (NODE, DEVICE, INVITE, NEXT),
    ),
    (network(), (ALICE,)),
]


@pytest.mark.parametrize(("document", "signers"), ENTITLED)
def test_those_entitled_are_believed(document: Document, signers: tuple[Signer, ...]) -> None:
    # DOC-040
    verified = trust.verify(signed(document, *signers))
    assert verified.document == document
    assert verified.key == trust.document_key(document)


@pytest.mark.parametrize(("document", "signers"), ENTITLED)
def test_every_signature_counts(document: Document, signers: tuple[Signer, ...]) -> None:
    # DOC-040: with one fewer, with one more, or by somebody else, it says nothing
    for left_out in signers:
        others = [signer for signer in signers if signer is not left_out]
        with pytest.raises(Refused):
            trust.verify(signed(document, EVE, *others))
    with pytest.raises(Refused, match="may not sign"):
        trust.verify(signed(document, *signers, EVE))


@pytest.mark.parametrize(("document", "signers"), ENTITLED)
def test_no_byte_can_be_changed(document: Document, signers: tuple[Signer, ...]) -> None:
    # DOC-040
    envelope = signed(document, *signers)
    for n in range(0, len(envelope.payload), 7):
        changed = bytearray(envelope.payload)
        changed[n] ^= 1
        with pytest.raises(Rejected):
            trust.verify(Envelope(envelope.payload_type, bytes(changed), envelope.signatures))


def test_nobody_announces_the_key_of_another_as_the_next() -> None:
    # DOC-070: EVE knows the victim's public key, and has no way to sign with it
    victim, mine = DeviceKey.from_seed(seed("victim")), DEVICE
    stolen = member(node=EVE.id, next_device=NextDevice(victim.id, 900))
    with pytest.raises(Refused, match=f"no signature by {victim.id}"):
        trust.verify(signed(stolen, EVE, mine))


def test_an_invitation_cannot_be_dropped_from_its_member() -> None:
    # DOC-040
    envelope = signed(member(index=10, invitation=INVITE.id), NODE, DEVICE)
    with pytest.raises(Refused, match="no signature by invite1"):
        trust.verify(envelope)


@pytest.mark.parametrize(
    "owners", [Owners(1, (BOB.id,)), Owners(1, (ALICE.id, BOB.id)), Owners(2, (ALICE.id, BOB.id))]
)
def test_other_owners_make_another_network(owners: Owners) -> None:
    # DOC-041
    assert trust.network_id(owners, "home") != HOME
    assert trust.network_id(OWNERS, "office") != HOME


def test_a_quorum_is_needed_and_enough() -> None:
    # DOC-042
    shared = network(owners=Owners(2, (ALICE.id, BOB.id, CAROL.id)))
    for signers in ((ALICE, BOB), (BOB, CAROL), (ALICE, BOB, CAROL)):
        trust.verify(signed(shared, *signers))
    with pytest.raises(Refused, match="1 of 2 owners"):
        trust.verify(signed(shared, CAROL))
    with pytest.raises(Refused, match="may not sign"):
        trust.verify(signed(shared, ALICE, BOB, made(Kind.TENANT, "eve")))


def test_only_newer_versions_are_news() -> None:
    # DOC-045
    third = trust.verify(signed(network(version=3), ALICE))
    floor = Floor(3, third.digest)
    assert trust.is_news(third, None)
    assert trust.is_news(third, Floor(2, third.digest))
    assert not trust.is_news(third, floor)
    with pytest.raises(Refused, match="older than 4"):
        trust.is_news(third, Floor(4, third.digest))


def test_a_fork_is_a_conflict() -> None:
    # DOC-045
    one = trust.verify(signed(network(version=3), ALICE))
    other = trust.verify(signed(network(version=3, members=()), ALICE))
    with pytest.raises(Conflict, match="fork"):
        trust.is_news(other, Floor(3, one.digest))


def test_claims_have_one_order_for_everybody() -> None:
    # DOC-053
    ranks = {trust.claim_rank(HOME, made(Kind.NODE, str(n)).id) for n in range(50)}
    assert len(ranks) == 50
    assert trust.claim_rank(HOME, NODE.id) == trust.claim_rank(HOME, NODE.id)
    other = trust.network_id(OWNERS, "office")
    assert trust.claim_rank(other, NODE.id) != trust.claim_rank(HOME, NODE.id)


class TestRoster:
    INVITATION = Invitation("guests", INVITE.id, 10, 5, 1_000)

    def roster(self, **changes: Any) -> Roster:
        return Roster(network(invitations=(self.INVITATION,), **changes))

    def test_a_named_member_is_admitted_with_its_index(self) -> None:
        # DOC-050
        self.roster().admit(member())
        with pytest.raises(Refused) as caught:
            self.roster().admit(member(index=2))
        assert caught.value.field == "index"

    @pytest.mark.parametrize("index", [10, 14])
    def test_a_guest_is_admitted_with_an_index_of_the_invitation(self, index: int) -> None:
        # DOC-050
        self.roster().admit(member(node=EVE.id, index=index, invitation=INVITE.id))

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"index": 9}, "index"),
            ({"index": 15}, "index"),
            ({"joined": 1_001}, "joined"),
            ({"invitation": made(Kind.INVITE, "other").id}, "invitation"),
            ({"invitation": None}, "node"),
            ({"network": trust.network_id(OWNERS, "office")}, "network"),
        ],
    )
    def test_a_guest_that_does_not_fit_is_refused(
        self, changes: dict[str, Any], field: str
    ) -> None:
        # DOC-050
        guest = member(node=EVE.id, index=10, joined=1_000, invitation=INVITE.id)
        self.roster().admit(guest)
        with pytest.raises(Refused) as caught:
            self.roster().admit(msgspec.structs.replace(guest, **changes))
        assert caught.value.field == field

    def test_who_was_revoked_does_not_come_back_by_token(self) -> None:
        # DOC-050
        roster = self.roster(revoked=(EVE.id,))
        with pytest.raises(Refused, match="was removed"):
            roster.admit(member(node=EVE.id, index=10, invitation=INVITE.id))

    def test_without_its_invitation_a_guest_is_out(self) -> None:
        # DOC-051
        with pytest.raises(Refused, match="no invitation"):
            Roster(network()).admit(member(node=EVE.id, index=10, invitation=INVITE.id))

    def test_a_deleted_network_has_no_members(self) -> None:
        # DOC-050
        roster = self.roster(deleted=True)
        assert roster.named(NodeId(NODE.id)) is None
        with pytest.raises(Refused, match="deleted"):
            roster.admit(member())

    def test_access_devices_hang_on_their_node(self) -> None:
        device = AccessDevice(
            "laptop", wireguard.format_key(WireGuardKey(seed("pc")).public_key), 20, NODE.id
        )
        roster = self.roster(access=(device,))
        assert roster.access_via(NODE.id) == (device,)
        assert roster.access_via(EVE.id) == ()
