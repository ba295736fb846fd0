"""Who is told what, and who may read what (REG-030 .. REG-036)."""

from __future__ import annotations

import pytest

from overlay.errors import Refused
from overlay.registry.directory import DOCUMENT
from overlay.registry.store import Batch, Change, Entry
from tests.overlay.registry import kit
from tests.overlay.registry.kit import Ledger

OWNER = kit.tenant()
OPERATOR = kit.farm()
TOKEN = kit.invite()
ID = kit.network_id(kit.network(OWNER))
A, B, C = (kit.node(n).id for n in "abc")


@pytest.fixture
def ledger() -> Ledger:
    """A farm with node a, and a network of nodes a and b, to which c was invited."""
    ledger = Ledger()
    for name in "abc":
        ledger.publish(kit.signed_node(name, farm_id=OPERATOR.id if name == "a" else None))
    ledger.publish(kit.signed_farm(OPERATOR, "a", "b"))
    network = kit.network(OWNER, "a", "b", invitations=(kit.invitation(TOKEN),))
    ledger.publish(kit.sign(network, OWNER))
    for name, index, by in (("a", 1, None), ("b", 2, None), ("c", 100, TOKEN)):
        ledger.publish(kit.signed_member(network, name, index, by=by))
        ledger.publish(kit.signed_result(network, name))
    return ledger


def keys(ledger: Ledger, caller: str, *, after: int = -1) -> set[str]:
    return {held.key for held in ledger.directory.news(caller, after=after)}


def members(*nodes: str) -> set[str]:
    return {f"member/{ID}/{n}" for n in nodes}


def results(*nodes: str) -> set[str]:
    return {f"result/{ID}/{n}" for n in nodes}


def test_each_caller_is_told_what_concerns_them(ledger: Ledger) -> None:  # REG-031
    network = {f"network/{ID}", *members(A, B, C)}
    farm = f"farm/{OPERATOR.id}"
    assert keys(ledger, A) == {f"node/{A}", farm, *network}
    assert keys(ledger, B) == {f"node/{B}", farm, *network}
    assert keys(ledger, C) == {f"node/{C}", *network}
    assert keys(ledger, OWNER.id) == {
        *network,
        *results(A, B, C),
        f"node/{A}",
        f"node/{B}",
        f"node/{C}",
    }
    assert keys(ledger, OPERATOR.id) == {farm, f"node/{A}"}
    for stranger in (kit.node("x").id, kit.tenant("x").id, kit.farm("x").id, TOKEN.id):
        assert keys(ledger, stranger) == set()


def test_nothing_changed_costs_nothing(ledger: Ledger) -> None:  # REG-032
    for caller in (A, B, C, OWNER.id, OPERATOR.id):
        assert keys(ledger, caller, after=ledger.revision) == set()


def test_a_change_is_told_to_those_it_concerns(ledger: Ledger) -> None:
    before = ledger.revision
    ledger.publish(kit.signed_member(kit.network(OWNER), "a", 1, version=2))
    key = f"member/{ID}/{A}"
    assert ledger.told() == {(who, key) for who in (A, B, C, OWNER.id)}
    for who in (A, B, C, OWNER.id):
        assert keys(ledger, who, after=before) == {key}
    assert keys(ledger, OPERATOR.id, after=before) == set()


def test_results_are_told_to_owners_only(ledger: Ledger) -> None:
    ledger.publish(kit.signed_result(kit.network(OWNER), "a", version=2))
    assert ledger.told() == {(OWNER.id, f"result/{ID}/{A}")}


def test_a_node_that_is_named_is_told_the_whole_network(ledger: Ledger) -> None:  # REG-033
    ledger.publish(kit.signed_node("d"))
    before = ledger.revision
    d = kit.node("d").id
    ledger.publish(kit.sign(kit.network(OWNER, "a", "b", "d", version=2), OWNER))
    assert {key for who, key in ledger.told() if who == d} == {
        f"network/{ID}",
        *members(A, B, C),
    }
    # And also when it was away meanwhile, though the members are older than what it saw last.
    assert keys(ledger, d, after=before) == {f"network/{ID}", *members(A, B, C)}
    # The tenant now sees the node, whose document is older too.
    assert (OWNER.id, f"node/{d}") in ledger.told()
    assert f"node/{d}" in keys(ledger, OWNER.id, after=before)


def test_a_node_that_joins_is_told_the_whole_network(ledger: Ledger) -> None:  # REG-033
    other = kit.invite("other")
    invitations = (kit.invitation(other, first_index=200),)
    network = kit.network(OWNER, "a", "b", version=2, invitations=invitations)
    ledger.publish(kit.sign(network, OWNER))
    before = ledger.revision
    d = kit.node("d").id
    ledger.publish(kit.signed_member(network, "d", 200, by=other))
    everything = {f"network/{ID}", *members(A, B, C, d)}
    assert {key for who, key in ledger.told() if who == d} == everything
    assert keys(ledger, d, after=before) == everything


def test_who_is_removed_is_told_the_network_document_only(ledger: Ledger) -> None:  # REG-034
    before = ledger.revision
    ledger.publish(kit.sign(kit.network(OWNER, "a", version=2, revoked=(C,)), OWNER))
    for gone in (B, C):
        assert (gone, f"network/{ID}") in ledger.told()
        assert keys(ledger, gone, after=before) == {f"network/{ID}"}
    ledger.publish(kit.signed_member(kit.network(OWNER), "a", 1, version=2))
    assert {who for who, _ in ledger.told()} == {A, OWNER.id}
    assert not ledger.directory.may_read(B, f"member/{ID}/{A}", now=kit.NOW)


def test_a_tombstone_reaches_everybody(ledger: Ledger) -> None:  # REG-034
    before = ledger.revision
    ledger.publish(kit.sign(kit.network(OWNER, version=2, deleted=True), OWNER))
    for who in (A, B, C, OWNER.id):
        assert (who, f"network/{ID}") in ledger.told()
        assert f"network/{ID}" in keys(ledger, who, after=before)
    assert ledger.directory.news(A, after=before)[-1].key == f"network/{ID}"


def test_an_operator_sees_nodes_that_claim_the_farm(ledger: Ledger) -> None:  # REG-035
    ledger.publish(kit.signed_node("x", farm_id=OPERATOR.id))
    x = kit.node("x").id
    assert (OPERATOR.id, f"node/{x}") in ledger.told()
    assert (x, f"farm/{OPERATOR.id}") in ledger.told()
    ledger.publish(kit.signed_node("x", version=2))
    assert (OPERATOR.id, f"node/{x}") in ledger.told()
    assert f"node/{x}" not in keys(ledger, OPERATOR.id)


def test_a_node_that_leaves_a_farm_s_list_is_told(ledger: Ledger) -> None:
    ledger.publish(kit.signed_farm(OPERATOR, "a", version=2))
    assert (B, f"farm/{OPERATOR.id}") in ledger.told()
    assert f"farm/{OPERATOR.id}" not in keys(ledger, B)


def test_a_revision_that_is_held_already_is_told_to_nobody(ledger: Ledger) -> None:
    held = ledger.directory.held(f"node/{A}")
    assert held is not None
    again = Batch(held.revision, (Change(f"{DOCUMENT}node/{A}", b"anything"),))
    assert ledger.directory.apply(again) == []
    assert ledger.directory.held(f"node/{A}") == held


def test_a_stored_document_that_cannot_be_read_stops_no_other() -> None:
    directory = kit.Directory()
    good = kit.dsse.encode_envelope(kit.signed_node("a"))
    directory.load(
        [Entry(f"{DOCUMENT}node/{A}", good, 1), Entry(f"{DOCUMENT}node/{B}", good, 2)], revision=2
    )
    assert directory.unreadable == 1
    assert directory.held(f"node/{A}") is not None
    assert directory.held(f"node/{B}") is None


CALLERS = {
    "owner": OWNER.id,
    "operator": OPERATOR.id,
    "farmed member": A,
    "listed member": B,
    "invited member": C,
    "token": TOKEN.id,
    "stranger": kit.node("x").id,
    "other tenant": kit.tenant("x").id,
    "other operator": kit.farm("x").id,
    "other token": kit.invite("x").id,
}
MEMBERS = {"farmed member", "listed member", "invited member"}
MAY_READ = {
    f"farm/{OPERATOR.id}": {"operator", "farmed member", "listed member"},
    f"node/{A}": {"owner", "operator", "farmed member"},
    f"node/{C}": {"owner", "invited member"},
    f"network/{ID}": {"owner", "token"} | MEMBERS,
    f"member/{ID}/{A}": {"owner", "token"} | MEMBERS,
    f"result/{ID}/{A}": {"owner"} | MEMBERS,
}


@pytest.mark.parametrize("key", MAY_READ)
@pytest.mark.parametrize("caller", CALLERS)
def test_who_may_read_what(ledger: Ledger, caller: str, key: str) -> None:  # REG-036
    expected = caller in MAY_READ[key]
    directory = ledger.directory
    assert directory.may_read(CALLERS[caller], key, now=kit.NOW) is expected
    kind, *ids = key.split("/")
    for network in (None, ID) if len(ids) == 2 or kind == "network" else (None,):
        # A token reads the one network that it names, and learns of no other.
        if network is None and caller == "token":
            continue
        found = directory.readable(CALLERS[caller], kind, network=network, now=kit.NOW)
        assert (key in found) is expected


def test_an_expired_token_reads_nothing_and_is_told_why(ledger: Ledger) -> None:
    later = kit.NOW.replace(hour=2)
    for key in (f"network/{ID}", f"member/{ID}/{A}"):
        with pytest.raises(Refused, match="expired"):
            ledger.directory.may_read(TOKEN.id, key, now=later)


@pytest.fixture
def relayed() -> Ledger:
    """The network of nodes a and b, with r as a relay that its farm offers."""
    ledger = Ledger()
    ledger.publish(kit.signed_farm(OPERATOR, "r", "s", relays=("r",)))
    for name in "rs":
        ledger.publish(kit.signed_node(name, farm_id=OPERATOR.id))
    network = kit.network(OWNER, "a", "b", relays=(kit.relay("r"),))
    ledger.publish(kit.sign(network, OWNER))
    for index, name in enumerate("ab", 1):
        ledger.publish(kit.signed_member(network, name, index))
    ledger.publish(kit.signed_sighting(network, "r"))
    ledger.publish(kit.signed_result(network, "a"))
    return ledger


R = kit.node("r").id
SIGHTING = f"sighting/{ID}/{R}"


def test_a_relay_is_told_who_the_members_are_and_no_more(relayed: Ledger) -> None:  # REG-070
    own = {f"node/{R}", f"farm/{OPERATOR.id}"}
    assert keys(relayed, R) == {f"network/{ID}", *members(A, B), *own}
    for key, may in (
        (f"network/{ID}", True),
        (f"member/{ID}/{A}", True),
        (SIGHTING, True),
        (f"result/{ID}/{A}", False),
        (f"node/{A}", False),
    ):
        assert relayed.directory.may_read(R, key, now=kit.NOW) is may
    listed = relayed.directory.readable(R, "member", network=ID, now=kit.NOW)
    assert listed.keys() == members(A, B)
    assert relayed.directory.readable(R, "result", network=ID, now=kit.NOW) == {}


def test_a_relay_is_told_of_changes_at_once(relayed: Ledger) -> None:  # REG-070
    before = relayed.revision
    relayed.publish(kit.signed_member(kit.network(OWNER), "a", 1, version=2))
    assert (R, f"member/{ID}/{A}") in relayed.told()
    assert keys(relayed, R, after=before) == members(A)


def test_a_node_that_becomes_a_relay_is_told_all_of_it(relayed: Ledger) -> None:  # REG-070
    before = relayed.revision
    relays = (kit.relay("r"), kit.relay("s"))
    relayed.publish(kit.sign(kit.network(OWNER, "a", "b", version=2, relays=relays), OWNER))
    s = kit.node("s").id
    everything = {f"network/{ID}", *members(A, B)}
    assert {key for who, key in relayed.told() if who == s} == everything
    assert keys(relayed, s, after=before) == everything
    assert keys(relayed, R, after=before) == {f"network/{ID}"}


def test_who_is_no_relay_any_more_is_told_so_and_nothing_after(relayed: Ledger) -> None:
    # REG-070
    before = relayed.revision
    relayed.publish(kit.sign(kit.network(OWNER, "a", "b", version=2), OWNER))
    assert (R, f"network/{ID}") in relayed.told()
    assert keys(relayed, R, after=before) == {f"network/{ID}"}
    relayed.publish(kit.signed_member(kit.network(OWNER), "a", 1, version=2))
    assert R not in {who for who, _ in relayed.told()}
    assert not relayed.directory.may_read(R, f"member/{ID}/{A}", now=kit.NOW)


def test_what_a_relay_hears_is_told_to_members_and_owners(relayed: Ledger) -> None:  # REG-071
    relayed.publish(kit.signed_sighting(kit.network(OWNER), "r", version=2))
    assert relayed.told() == {(who, SIGHTING) for who in (A, B, OWNER.id)}
    assert SIGHTING in keys(relayed, A)
    for stranger in (kit.node("s").id, kit.tenant("x").id, OPERATOR.id):
        assert not relayed.directory.may_read(stranger, SIGHTING, now=kit.NOW)
        assert SIGHTING not in keys(relayed, stranger)


def test_a_tenant_may_read_of_a_node_that_is_offered(relayed: Ledger) -> None:  # REG-072
    may_read, other = relayed.directory.may_read, kit.tenant("x").id
    s = kit.node("s").id
    assert may_read(other, f"node/{R}", now=kit.NOW)
    assert not may_read(other, f"node/{s}", now=kit.NOW)
    assert not may_read(other, f"farm/{OPERATOR.id}", now=kit.NOW)
    assert not may_read(kit.node("x").id, f"node/{R}", now=kit.NOW)
    relayed.publish(kit.signed_farm(OPERATOR, "r", "s", version=2))
    assert not may_read(other, f"node/{R}", now=kit.NOW)


def test_a_farm_offers_only_nodes_that_belong_to_it(relayed: Ledger) -> None:  # REG-072
    """Else whoever makes a farm could make any node readable."""
    eve = kit.farm("eve")
    relayed.publish(kit.signed_farm(eve, "s", relays=("s",)))
    s = kit.node("s").id
    assert not relayed.directory.may_read(kit.tenant("x").id, f"node/{s}", now=kit.NOW)
