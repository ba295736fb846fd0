from __future__ import annotations

from datetime import UTC, datetime

import pytest

from overlay.documents import trust
from overlay.errors import Conflict, Rejected
from overlay.keys import wireguard
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import WireGuardKey
from zos_core.files import network

ALICE = Identity.from_seed(Kind.TENANT, b"a" * 32).id
BOB = Identity.from_seed(Kind.TENANT, b"b" * 32).id
N1 = Identity.from_seed(Kind.NODE, b"1" * 32).id
N2 = Identity.from_seed(Kind.NODE, b"2" * 32).id
INVITE = Identity.from_seed(Kind.INVITE, b"i" * 32).id
KEY = wireguard.format_key(WireGuardKey(b"k" * 32).public_key)
UNTIL = datetime(2027, 1, 1, tzinfo=UTC)


def test_new_file_is_a_document_without_members() -> None:
    document = network.network_document(network.parse_network_file(new()), 1)

    assert (document.name, document.range, document.version) == ("home", "10.1.0.0/16", 1)
    assert document.owners.keys == (ALICE,)


def test_owners_are_one_network_in_any_order() -> None:
    # DOC-041: the id is a hash over sorted owners, so order in a file must not matter.
    files = [
        network.parse_network_file(new(keys=keys, threshold=2))
        for keys in ((ALICE, BOB), (BOB, ALICE))
    ]

    ids = {trust.network_id(network.owners(file), file.name) for file in files}

    assert len(ids) == 1


def test_edits_keep_comments_and_order_of_a_person() -> None:  # CLI-001
    text = new().replace("[owners]", "# mine\n[owners]") + "\n# the end\n"

    text = network.add_member(text, "n1", node=N1, index=1)
    text = network.add_access(text, "laptop", public_key=KEY, index=2, via="n1")
    text = network.remove_entry(text, "access", "laptop")
    text = network.revoke(text, N2)
    text = network.signed_as(text, 7)

    assert "# mine\n" in text
    assert "# the end\n" in text
    assert "version = 7  # signed last" in text
    file = network.parse_network_file(text)
    assert (file.version, set(file.members), file.access, file.revoked) == (7, {"n1"}, {}, (N2,))


def test_document_holds_what_the_file_names() -> None:
    text = network.add_member(new(), "n1", node=N1, index=1)
    text = network.add_invitation(text, "guest", key=INVITE, first_index=4, uses=3, expires=UNTIL)
    text = network.add_access(text, "laptop", public_key=KEY, index=2, via="n1")
    text += '\n[[policy]]\nfrom = ["n1"]\nto = ["*"]\nprotocol = "tcp"\nports = [80, "90-99"]\n'

    document = network.network_document(network.parse_network_file(text), 5)

    assert document.members[0].node == N1
    assert (document.invitations[0].first_index, document.invitations[0].uses) == (4, 3)
    assert document.invitations[0].expires == int(UNTIL.timestamp())
    assert document.access[0].via == N1  # the name is resolved
    assert document.policy[0].ports == ("80", "90-99")


def test_node_that_comes_back_is_not_revoked_any_more() -> None:
    text = network.revoke(new(), N1)

    file = network.parse_network_file(network.add_member(text, "n1", node=N1, index=1))

    assert file.revoked == ()


@pytest.mark.parametrize(
    ("line", "field", "remedy"),
    [
        ("rnage = 1\n", "rnage", "did you mean range?"),
        ("members.n1.nod = 'x'\n", "members.n1.nod", "did you mean node?"),
        ("access.l.vai = 'x'\n", "access.l.vai", "did you mean via?"),
        ("policy = [{form = []}]\n", "policy.0.form", "did you mean from?"),
        ("zzz = 1\n", "zzz", "known: "),
    ],
)
def test_unknown_key_is_refused_with_the_nearest(line: str, field: str, remedy: str) -> None:
    with pytest.raises(Rejected) as caught:  # CLI-004
        network.parse_network_file(line + new())

    assert caught.value.field == field
    assert remedy in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("old", "wrong", "field"),
    [
        ('name = "home"', 'name = "Home!"', "name"),
        ('"10.1.0.0/16"', '"10.1.0.1/16"', "range"),
        ('"10.1.0.0/16"', '"127.0.0.0/16"', "range"),
        ("threshold = 1", "threshold = 2", "owners.threshold"),
    ],
)
def test_what_nodes_would_refuse_is_refused_here(old: str, wrong: str, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        network.network_document(network.parse_network_file(new().replace(old, wrong)), 1)

    assert caught.value.field == field


def test_text_that_is_no_toml_is_rejected_with_its_line() -> None:
    with pytest.raises(Rejected, match="line 2"):
        network.parse_network_file("name = 'home'\nrange = \n")


def test_expiry_without_time_zone_is_refused() -> None:
    text = (
        new()
        + f'\n[invitations.g]\nkey = "{INVITE}"\nfirst_index = 1\nexpires = 2027-01-01T00:00:00\n'
    )

    with pytest.raises(Rejected) as caught:
        network.network_document(network.parse_network_file(text), 1)

    assert caught.value.field == "invitations.g.expires"


def test_name_is_one_among_members_invitations_and_devices() -> None:
    text = network.add_member(new(), "n1", node=N1, index=1)

    with pytest.raises(Conflict):
        network.add_access(text, "n1", public_key=KEY, index=2, via="n1")
    with pytest.raises(Conflict):
        network.add_member(text, "other", node=N1, index=2)


def test_via_that_is_no_member_is_refused_with_the_members() -> None:
    text = network.add_member(new(), "n1", node=N1, index=1)
    text = network.add_access(text, "laptop", public_key=KEY, index=2, via="n2")

    with pytest.raises(Rejected) as caught:
        network.network_document(network.parse_network_file(text), 1)

    assert (caught.value.field, caught.value.remedy) == ("access.laptop.via", "members are n1")


def test_removing_what_is_not_there_names_what_is() -> None:
    text = network.add_member(new(), "n1", node=N1, index=1)

    with pytest.raises(Rejected) as caught:
        network.remove_entry(text, "members", "n2")

    assert caught.value.remedy == "it has n1"


def test_free_index_finds_gaps_and_room_for_invitations() -> None:  # NET-012
    text = network.add_member(new(), "n1", node=N1, index=1)
    text = network.add_invitation(text, "guest", key=INVITE, first_index=4, uses=3, expires=UNTIL)
    file = network.parse_network_file(text)

    assert network.free_index(file) == 2
    assert network.free_index(file, 2) == 2
    assert network.free_index(file, 3) == 7


def test_free_index_of_a_full_range_is_refused_at_the_bound() -> None:
    file = network.parse_network_file(new(range_v4="10.1.0.0/22"))  # indexes 0 to 3

    assert network.free_index(file, 3) == 1
    with pytest.raises(Rejected) as caught:
        network.free_index(file, 4)
    assert caught.value.field == "range"


def new(
    *, keys: tuple[str, ...] = (ALICE,), threshold: int = 1, range_v4: str = "10.1.0.0/16"
) -> str:
    return network.format_new(
        "home", range_v4=range_v4, keys=keys, threshold=threshold, registry=None
    )
