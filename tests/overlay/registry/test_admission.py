"""What may be stored, in every order of arrival (REG-040 .. REG-049)."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.errors import Conflict, OverlayError, Refused, Rejected
from overlay.registry import admission
from overlay.registry.admission import AlreadyThere, Stored
from overlay.registry.directory import FORMER
from overlay.registry.store import MAX_TXN_OPERATIONS, Entry, Txn
from tests.overlay.registry import kit
from tests.overlay.registry.kit import Ledger

OWNER = kit.tenant()
TOKEN = kit.invite()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def with_network(ledger: Ledger, *names: str, **fields: object) -> kit.Network:
    network = kit.network(OWNER, *names, **fields)
    ledger.publish(kit.sign(network, OWNER))
    return network


def test_the_same_document_twice_is_stored_once(ledger: Ledger) -> None:  # REG-041
    envelope = kit.signed_node("a")
    revision = ledger.publish(envelope)
    assert ledger.decide(envelope) == Stored(revision)


def test_an_older_version_is_refused_with_what_is_there(ledger: Ledger) -> None:  # REG-041
    ledger.publish(kit.signed_node("a", version=2))
    with pytest.raises(AlreadyThere) as refused:
        ledger.publish(kit.signed_node("a", version=1))
    assert refused.value.current is not None
    assert refused.value.current.document.version == 2
    assert refused.value.field == "version"


def test_a_fork_is_refused(ledger: Ledger) -> None:  # REG-041
    ledger.publish(kit.signed_node("a", farm_id=kit.farm("f").id))
    with pytest.raises(AlreadyThere, match="fork"):
        ledger.publish(kit.signed_node("a", farm_id=kit.farm("g").id))


def test_a_member_of_an_unknown_network_is_refused(ledger: Ledger) -> None:  # REG-043
    with pytest.raises(Refused, match="holds no network"):
        ledger.publish(kit.signed_member(kit.network(OWNER, "a"), "a", 1))


def test_a_stranger_is_no_member(ledger: Ledger) -> None:
    network = with_network(ledger, "a")
    with pytest.raises(Refused):
        ledger.publish(kit.signed_member(network, "b", 2))


def test_a_key_of_another_member_is_refused(ledger: Ledger) -> None:  # REG-045
    network = with_network(ledger, "a", "b")
    ledger.publish(kit.signed_member(network, "a", 1, device_name="shared"))
    with pytest.raises(Conflict) as refused:
        ledger.publish(kit.signed_member(network, "b", 2, device_name="shared"))
    assert refused.value.field == "device"


def test_a_key_of_the_same_node_in_another_network_is_refused(ledger: Ledger) -> None:
    one = with_network(ledger, "a")
    two = with_network(ledger, "a", name="two")
    ledger.publish(kit.signed_member(one, "a", 1, device_name="shared"))
    with pytest.raises(Conflict):
        ledger.publish(kit.signed_member(two, "a", 1, device_name="shared"))


def test_a_key_that_was_replaced_is_free_again(ledger: Ledger) -> None:
    network = with_network(ledger, "a", "b")
    ledger.publish(kit.signed_member(network, "a", 1, device_name="old"))
    ledger.publish(kit.signed_member(network, "a", 1, device_name="new", version=2))
    ledger.publish(kit.signed_member(network, "b", 2, device_name="old"))


def test_a_key_to_come_is_taken_as_one_in_use_is(ledger: Ledger) -> None:  # REG-045
    network = with_network(ledger, "a", "b")
    ledger.publish(kit.signed_member(network, "a", 1, device_name="old", next_name="new"))
    for device_name, next_name, field in (
        ("new", None, "device"),
        ("other", "new", "next_device"),
        ("other", "old", "next_device"),
    ):
        with pytest.raises(Conflict) as refused:
            ledger.publish(
                kit.signed_member(network, "b", 2, device_name=device_name, next_name=next_name)
            )
        assert refused.value.field == field


def test_a_key_is_free_again_when_its_successor_is_in_use_or_withdrawn(ledger: Ledger) -> None:
    network = with_network(ledger, "a", "b")
    member = partial(kit.signed_member, network, "a", 1)
    ledger.publish(member(device_name="k1", next_name="k2"))
    ledger.publish(member(device_name="k2", version=2))
    ledger.publish(kit.signed_member(network, "b", 2, device_name="k1"))
    ledger.publish(member(device_name="k2", next_name="k3", version=3))
    ledger.publish(member(device_name="k2", version=4))
    ledger.publish(kit.signed_member(network, "b", 2, device_name="k3", version=2))


def test_joining_twice_is_joining_once(ledger: Ledger) -> None:  # REG-044
    network = with_network(ledger, invitations=(kit.invitation(TOKEN),))
    first = ledger.publish(kit.signed_member(network, "a", 100, by=TOKEN))
    assert ledger.publish(kit.signed_member(network, "a", 100, by=TOKEN)) == first
    ledger.publish(kit.signed_member(network, "a", 100, by=TOKEN, version=2))


def test_one_node_uses_an_invitation_once(ledger: Ledger) -> None:  # REG-044
    network = with_network(ledger, invitations=(kit.invitation(TOKEN, uses=2),))
    ledger.publish(kit.signed_member(network, "a", 100, by=TOKEN))
    with pytest.raises(Conflict) as refused:
        ledger.publish(kit.signed_member(network, "a", 101, by=TOKEN, version=2))
    assert refused.value.field == "index"
    ledger.publish(kit.signed_member(network, "b", 101, by=TOKEN))


def test_an_invitation_expires_by_the_registry_s_clock(ledger: Ledger) -> None:  # REG-046
    network = with_network(ledger, invitations=(kit.invitation(TOKEN, uses=2, expires=kit.UNIX),))
    ledger.publish(kit.signed_member(network, "a", 100, by=TOKEN))
    later = kit.NOW.replace(second=1)
    with pytest.raises(Refused, match="expired"):
        # The node says that it joined in time.
        ledger.publish(kit.signed_member(network, "b", 101, by=TOKEN), now=later)
    # Who joined in time stays, and may not change when that was.
    ledger.publish(kit.signed_member(network, "a", 100, by=TOKEN, version=2), now=later)
    with pytest.raises(Conflict):
        ledger.publish(
            kit.signed_member(network, "a", 100, by=TOKEN, version=3, joined=kit.UNIX - 1),
            now=later,
        )


@pytest.mark.parametrize(("ahead_s", "is_stored"), [(300, True), (301, False)])
def test_a_clock_may_be_a_little_ahead(ledger: Ledger, ahead_s: int, is_stored: bool) -> None:
    network = with_network(ledger, invitations=(kit.invitation(TOKEN),))
    envelope = kit.signed_member(network, "a", 100, by=TOKEN, joined=kit.UNIX + ahead_s)
    if is_stored:
        ledger.publish(envelope)
    else:
        with pytest.raises(Refused, match="ahead"):
            ledger.publish(envelope)


def test_who_was_removed_does_not_come_back_with_the_same_use(ledger: Ledger) -> None:
    network = with_network(ledger, invitations=(kit.invitation(TOKEN),))  # REG-044
    ledger.publish(kit.signed_member(network, "a", 100, by=TOKEN))
    revoked = kit.network(
        OWNER, version=2, invitations=(kit.invitation(TOKEN),), revoked=(kit.node("a").id,)
    )
    ledger.publish(kit.sign(revoked, OWNER))
    with pytest.raises(Conflict, match="was used"):
        ledger.publish(kit.signed_member(revoked, "b", 100, by=TOKEN))


def test_an_index_goes_to_who_is_named_next(ledger: Ledger) -> None:  # REG-042
    network = with_network(ledger, "a")
    ledger.publish(kit.signed_member(network, "a", 1))
    ledger.publish(kit.signed_result(network, "a"))
    ledger.publish(kit.sign(kit.network(OWNER, "b", version=2), OWNER))
    ledger.publish(kit.signed_member(network, "b", 1))
    id_ = kit.network_id(network)
    assert ledger.directory.held(f"member/{id_}/{kit.node('a').id}") is None
    assert ledger.directory.held(f"result/{id_}/{kit.node('a').id}") is None
    assert ledger.directory.held(f"member/{id_}/{kit.node('b').id}") is not None


def test_who_lost_its_place_still_learns_why(ledger: Ledger) -> None:
    network = with_network(ledger, invitations=(kit.invitation(TOKEN, first_index=1),))
    ledger.publish(kit.signed_member(network, "a", 1, by=TOKEN))
    ledger.publish(kit.sign(kit.network(OWNER, "b", version=2), OWNER))
    ledger.publish(kit.signed_member(network, "b", 1))
    fact = ledger.directory.fact(FORMER + kit.network_id(network))
    assert fact is not None
    assert kit.node("a").id.encode() in fact.value


def test_results_are_members(ledger: Ledger) -> None:  # REG-047
    network = with_network(ledger, "a")
    ledger.publish(kit.signed_result(network, "a"))
    with pytest.raises(Refused):
        ledger.publish(kit.signed_result(network, "b"))
    ledger.publish(kit.sign(kit.network(OWNER, "a", version=2, deleted=True), OWNER))
    ledger.publish(kit.signed_result(network, "a", version=2))


def test_a_deleted_network_takes_no_members(ledger: Ledger) -> None:
    network = with_network(ledger, "a", deleted=True)
    with pytest.raises(Refused, match="deleted"):
        ledger.publish(kit.signed_member(network, "a", 1))


def test_a_tenant_has_so_many_networks(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_NETWORKS_PER_TENANT", 2)  # REG-048
    with_network(ledger, name="one")
    with_network(ledger, name="two")
    with pytest.raises(Refused, match="2 networks"):
        with_network(ledger, name="three")
    with_network(ledger, name="one", version=2)


def test_nobody_is_charged_for_a_network_that_only_names_them(ledger: Ledger) -> None:
    victim, other = kit.tenant("victim"), kit.tenant("other")  # REG-048
    owners = kit.Owners(1, tuple(sorted((victim.id, other.id))))
    network = kit.Network(name="n", version=1, owners=owners, range="10.1.0.0/16")
    ledger.publish(kit.sign(network, other))
    assert ledger.directory.fact(admission.QUOTA + victim.id) is None
    assert ledger.directory.fact(admission.QUOTA + other.id) is not None


def test_a_node_is_in_so_many_networks(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_NETWORKS_PER_NODE", 1)  # REG-048
    one, two = with_network(ledger, "a", name="one"), with_network(ledger, "a", name="two")
    ledger.publish(kit.signed_member(one, "a", 1))
    ledger.publish(kit.signed_member(one, "a", 1, version=2))
    with pytest.raises(Refused, match="1 networks"):
        ledger.publish(kit.signed_member(two, "a", 1))


def test_a_full_registry_says_so(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(Refused, match="full"):
        ledger.publish(kit.signed_node("a"))


def test_a_document_is_brought_by_who_signed_it() -> None:
    envelope = kit.signed_node("a")
    assert admission.may_publish(kit.node("a").id, envelope)
    assert not admission.may_publish(kit.node("b").id, envelope)


@settings(max_examples=40)
@given(
    uses=st.integers(1, 4),
    redeemers=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 4)), min_size=1, max_size=50, unique=True
    ),
    order=st.randoms(use_true_random=False),
)
def test_a_token_is_used_as_often_as_it_says(
    uses: int, redeemers: list[tuple[int, int]], order: object
) -> None:
    """Decisions made on what was there before, committed in any order (REG-044)."""
    ledger = Ledger()
    network = with_network(ledger, invitations=(kit.invitation(TOKEN, uses=uses),))
    waiting = [
        kit.signed_member(network, f"n{name}", 100 + offset % uses, by=TOKEN)
        for name, offset in redeemers
    ]
    while waiting:
        decided = [(envelope, _decision(ledger, envelope)) for envelope in waiting]
        order.shuffle(decided)
        waiting = [
            envelope
            for envelope, decision in decided
            if isinstance(decision, Txn) and ledger.commit(decision) is None
        ]
    members = ledger.directory.readable(
        OWNER.id, "member", network=kit.network_id(network), now=kit.NOW
    )
    wanted = {offset % uses for _, offset in redeemers}
    assert sorted(h.document.index - 100 for h in members.values()) == sorted(
        {h.document.index - 100 for h in members.values()}
    )
    assert 1 <= len(members) <= len(wanted)


def test_a_relay_says_what_it_hears_as_long_as_it_is_one(ledger: Ledger) -> None:  # REG-071
    network = with_network(ledger, "a", relays=(kit.relay("r"),))
    id_ = kit.network_id(network)
    for stranger in ("a", "x"):
        with pytest.raises(Refused, match="no relay"):
            ledger.publish(kit.signed_sighting(network, stranger))
    ledger.publish(kit.signed_sighting(network, "r"))
    assert ledger.directory.held(f"sighting/{id_}/{kit.node('r').id}") is not None
    without = kit.network(OWNER, "a", version=2)
    ledger.publish(kit.sign(without, OWNER))
    assert ledger.directory.held(f"sighting/{id_}/{kit.node('r').id}") is None
    with pytest.raises(Refused, match="no relay"):
        ledger.publish(kit.signed_sighting(network, "r", version=2))


def test_a_deleted_network_has_no_relay(ledger: Ledger) -> None:  # REG-071
    network = with_network(ledger, "a", relays=(kit.relay("r"),))
    ledger.publish(kit.signed_sighting(network, "r"))
    ledger.publish(kit.sign(kit.network(OWNER, version=2, deleted=True), OWNER))
    with pytest.raises(Refused, match="no relay"):
        ledger.publish(kit.signed_sighting(network, "r", version=2))


def test_a_sighting_of_another_network_says_nothing_here(ledger: Ledger) -> None:  # REG-071
    with_network(ledger, "a", relays=(kit.relay("r"),))
    other = with_network(ledger, "b", name="other")
    with pytest.raises(Refused, match="no relay"):
        ledger.publish(kit.signed_sighting(other, "r"))


def _decision(ledger: Ledger, envelope: kit.Envelope) -> Txn | Stored | None:
    try:
        decision = ledger.decide(envelope)
    except Rejected:
        return None
    if isinstance(decision, Txn):
        assert len(decision.puts) + len(decision.deletes) <= MAX_TXN_OPERATIONS
    return decision


NAMES = ("a", "b", "c")
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["network", "relayed", "member", "node", "farm", "result", "sighting"]),
        st.sampled_from(NAMES),
        st.integers(1, 3),
        st.sets(st.sampled_from(NAMES)),
    ),
    max_size=25,
)


def _event(kind: str, name: str, version: int, names: set[str]) -> kit.Envelope:
    network = kit.network(
        OWNER, *sorted(names), version=version, invitations=(kit.invitation(TOKEN, uses=2),)
    )
    match kind:
        case "network":
            return kit.sign(network, OWNER)
        case "relayed":
            relays = tuple(map(kit.relay, sorted(names)))
            return kit.sign(msgspec.structs.replace(network, members=(), relays=relays), OWNER)
        case "sighting":
            return kit.signed_sighting(network, name, version=version)
        case "member":
            index = 99 + version
            by = TOKEN if len(names) % 2 else None
            return kit.signed_member(
                network, name, index if by else version, by=by, version=version
            )
        case "node":
            return kit.signed_node(name, version=version, farm_id=kit.farm().id)
        case "farm":
            return kit.signed_farm(kit.farm(), *names, version=version, relays=tuple(names))
        case _:
            return kit.signed_result(network, name, version=version)


@given(events=EVENTS)
def test_any_order_of_arrival_keeps_the_rules(events: list[tuple[object, ...]]) -> None:
    """One holder an index, versions only grow, a directory that is rebuilt is the same."""
    ledger = Ledger()
    store: dict[str, tuple[bytes, int]] = {}
    versions: dict[str, int] = {}
    for event in events:
        envelope = _event(*event)
        try:
            decision = ledger.decide(envelope)
        except OverlayError:
            continue
        if isinstance(decision, Stored):
            continue
        revision = ledger.commit(decision)
        assert revision is not None
        store.update({key: (value, revision) for key, value in decision.puts})
        for key in decision.deletes:
            store.pop(key, None)
        key = kit.verified(envelope).key
        version = kit.verified(envelope).version
        assert version > versions.get(key, 0)
        versions[key] = version
    _assert_one_holder_an_index(ledger)
    _assert_rebuilt_is_the_same(ledger, store)


def _assert_one_holder_an_index(ledger: Ledger) -> None:
    network = kit.network_id(kit.network(OWNER))
    here = ledger.directory.network(network)
    held = [h.document.index for n, h in here.members.items() if here.admits(n)] if here else []
    assert len(held) == len(set(held))


def _assert_rebuilt_is_the_same(ledger: Ledger, store: dict[str, tuple[bytes, int]]) -> None:
    rebuilt = kit.Directory()
    entries = [Entry(key, value, revision) for key, (value, revision) in store.items()]
    rebuilt.load(entries, revision=ledger.revision)
    assert rebuilt.bytes == ledger.directory.bytes
    callers = [OWNER.id, kit.farm().id, TOKEN.id, *(kit.node(n).id for n in NAMES)]
    for caller in callers:
        mine = {h.key: h.revision for h in ledger.directory.news(caller, after=-1)}
        assert {h.key: h.revision for h in rebuilt.news(caller, after=-1)} == mine
        assert rebuilt.news(caller, after=ledger.revision) == []
        for kind in kit.schema.KINDS:
            assert (
                rebuilt.readable(caller, kind, network=None, now=kit.NOW).keys()
                == ledger.directory.readable(caller, kind, network=None, now=kit.NOW).keys()
            )
