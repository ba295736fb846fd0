"""Whose name is whose (DNS-010 .. DNS-014)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overlay.addressing import LAST_WORKLOAD_HOST
from overlay.documents.names import WorkloadName
from overlay.documents.schema import AccessDevice, Member, NamedMember, Network
from overlay.peers import zone
from overlay.peers.zone import Place, select_zone
from tests.node_world import OWNERS

LISTED = ("n1", "n2")


def network(*named: tuple[str, int], access: tuple[tuple[str, int], ...] = ()) -> Network:
    return Network(
        name="home",
        version=1,
        owners=OWNERS,
        range="10.1.0.0/16",
        members=tuple(NamedMember(name, f"node of {name}", index) for name, index in named),
        access=tuple(AccessDevice(name, "key", index, "node of n1") for name, index in access),
    )


def member(name: str, index: int, **workloads: int) -> Member:
    return Member(
        network="net1",
        node=f"node of {name}",
        version=1,
        name=name,
        index=index,
        device="wg1",
        joined=1,
        workloads=tuple(WorkloadName(label, host) for label, host in workloads.items()),
    )


def names(document: Network, *members: Member) -> dict[str, tuple[int, int]]:
    """Where each name leads."""
    found: dict[str, tuple[int, int]] = {}
    for place in select_zone(document, members).places:
        for name in place.names:
            assert name not in found
            found[name] = (place.index, place.host)
    return found


def test_nodes_workloads_and_access_devices_have_names() -> None:  # DNS-010
    document = network(("n1", 1), ("n2", 2), access=(("laptop", 9),))
    assert names(document, member("n1", 1, web=2), member("n2", 2, db=3)) == {
        "n1": (1, 1),
        "n2": (2, 1),
        "laptop": (9, 1),
        "web": (1, 2),
        "web.n1": (1, 2),
        "db": (2, 3),
        "db.n2": (2, 3),
    }
    assert select_zone(document, ()).domain == "home.zos"


def test_a_name_that_two_workloads_want_goes_to_the_lowest_index() -> None:  # DNS-011
    found = names(
        network(("n1", 1), ("n2", 2)), member("n2", 2, web=2), member("n1", 1, db=2, web=3)
    )
    assert found["web"] == (1, 3)
    assert (found["web.n1"], found["web.n2"]) == ((1, 3), (2, 2))


def test_no_workload_takes_the_name_of_a_node_or_device() -> None:  # DNS-011
    document = network(("n1", 1), ("n2", 2), access=(("laptop", 9),))
    found = names(document, member("n1", 1, n2=2, laptop=3, guest=4), member("guest", 100))
    assert (found["n2"], found["laptop"], found["guest"]) == ((2, 1), (9, 1), (100, 1))
    assert (found["n2.n1"], found["laptop.n1"], found["guest.n1"]) == ((1, 2), (1, 3), (1, 4))


def test_who_joined_by_token_takes_no_name_from_who_is_listed() -> None:  # DNS-011
    document = network(("n1", 50), ("n2", 60), access=(("laptop", 9),))
    found = names(
        document,
        member("guest", 1, web=2),
        Member("net1", "node of thief", 1, "n2", 2, "wg1", 1, workloads=(WorkloadName("a", 2),)),
        member("laptop", 3, b=2),
        member("n1", 50, web=2),
    )
    assert found["web"] == (50, 2)
    assert (found["n2"], found["laptop"]) == ((60, 1), (9, 1))
    # Who has no name of its own lends none either.
    assert (found["a"], found["b"]) == ((2, 2), (3, 2))
    assert "a.n2" not in found
    assert "b.laptop" not in found


def test_an_address_is_called_by_its_short_name_first() -> None:  # DNS-012
    found = select_zone(network(("n1", 1)), [member("n1", 1, web=2)])
    assert Place(1, 2, ("web", "web.n1")) in found.places


def test_of_too_many_the_first_have_names() -> None:  # DNS-014
    count = zone.MAX_PLACES // (LAST_WORKLOAD_HOST - 1) + 1
    workloads = [
        member(f"n{index}", index, **{f"w{index}-{host}": host for host in range(2, 255)})
        for index in range(1, count + 1)
    ]
    document = network(*((f"n{index}", index) for index in range(1, count + 1)))
    whole = select_zone(document, workloads)
    assert len(whole.places) == zone.MAX_PLACES
    assert whole.left_out == count * LAST_WORKLOAD_HOST - zone.MAX_PLACES > 0
    assert sum(place.host == 1 for place in whole.places) == count


labels = st.sampled_from(("n1", "n2", "web", "db", "guest"))
some_members = st.lists(
    st.builds(
        lambda name, index, workloads: member(name, index, **workloads),
        st.sampled_from(("n1", "n2", "guest", "web", "late")),
        st.integers(1, 5),
        st.dictionaries(labels, st.integers(2, 9), max_size=3),
    ),
    unique_by=(lambda each: each.node, lambda each: each.index),
    max_size=5,
)


@given(members=some_members, data=st.data())
def test_who_holds_the_same_documents_comes_to_the_same_names(
    members: list[Member], data: st.DataObject
) -> None:  # DNS-011
    document = network(("n1", 11), ("n2", 12))
    assert select_zone(document, members) == select_zone(
        document, data.draw(st.permutations(members))
    )
    names(document, *members)  # each leads to one place
