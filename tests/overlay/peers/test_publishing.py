"""Where a published port leads, and what the node of the workload lets in (PUB-010, PUB-023)."""

from __future__ import annotations

from overlay.documents.exits import Exit
from overlay.documents.names import WorkloadName
from overlay.documents.published import Published
from overlay.documents.schema import Member, Network
from overlay.model import NetworkResource, NodeId
from overlay.peers.publishing import select_admitted, select_published
from overlay.peers.selection import Selection
from tests.overlay.peers.test_selection import HOME, device, network, node

E1, N1, N3 = node("n1"), node("n2"), node("n3")
WEB = Published(E1, "tcp", 8080, N1, "web", 80)
DNS = Published(E1, "udp", 5353, E1, "dns", 53)
ELSEWHERE = Published(N3, "tcp", 8080, N1, "web", 81)


def published(*entries: Published) -> Network:
    return network(exits=(Exit(E1), Exit(N3)), published=entries)


def member(name: str, index: int, *workloads: WorkloadName) -> Member:
    return Member(HOME, node(name), 1, name, index, device(name).id, 0, workloads=workloads)


def selected(own: NodeId, said: Network, *members: Member) -> tuple[Selection, NetworkResource]:
    selection = Selection(own, own_key=device("n1" if own == E1 else "n2").public_key)
    selection.put_network(said)
    for each in members:
        selection.put_member(each)
    nr = selection.network_resource(listen_port=51_820, mtu_bytes=1_420)
    assert nr is not None
    return selection, nr


def test_a_port_leads_to_what_the_member_calls_so() -> None:  # PUB-010
    said = published(WEB, DNS, ELSEWHERE)
    members = (
        member("n1", 1, WorkloadName("dns", 9)),
        member("n2", 2, WorkloadName("db", 2), WorkloadName("web", 7)),
    )
    selection, nr = selected(E1, said, *members)
    found = list(select_published(selection, nr, exit_=E1))
    assert [each for each, _ in found] == [WEB, DNS]
    (web, dns) = (to for _, to in found)
    assert web is not None
    assert dns is not None
    assert (web.port, web.address_v4, web.target) == (8080, "10.1.2.7", 80)
    assert web.address_v6.endswith(":2::7")
    assert (dns.address_v4, dns.target) == ("10.1.1.9", 53)


def test_who_is_not_there_or_refused_is_led_to_by_nobody() -> None:  # PUB-010
    for there in (
        (),
        (member("n2", 2, WorkloadName("db", 2)),),
        (member("n2", 3, WorkloadName("web", 7)),),  # claims another's index
    ):
        selection, nr = selected(E1, published(WEB), member("n1", 1), *there)
        assert list(select_published(selection, nr, exit_=E1)) == [(WEB, None)]


def test_a_deleted_network_publishes_nothing() -> None:  # PUB-010
    selection, nr = selected(E1, published(WEB))
    deleted = network(exits=(Exit(E1),), published=(WEB,), deleted=True)
    selection.put_network(deleted)
    assert list(select_published(selection, nr, exit_=E1)) == []


def test_the_node_of_the_workload_lets_in_what_the_exits_gateway_sends() -> None:  # PUB-023
    selection, nr = selected(N1, published(WEB, DNS, ELSEWHERE))
    by_e1, by_n3 = select_admitted(selection, nr, own=N1, hosts={"web": 7, "db": 2})
    assert by_e1.source[0] == "10.1.1.1/32"
    assert by_e1.source[1].endswith(":1::1/128")
    assert by_e1.to[0] == "10.1.2.7/32"
    assert by_e1.to[1].endswith(":2::7/128")
    assert (by_e1.protocol, by_e1.ports) == ("tcp", ((80, 80),))
    assert (by_n3.source[0], by_n3.ports) == ("10.1.3.1/32", ((81, 81),))


def test_an_address_admits_nobody_once_its_name_is_gone() -> None:  # PUB-023
    selection, nr = selected(N1, published(WEB))
    assert select_admitted(selection, nr, own=N1, hosts={"db": 7}) == ()
    # Nor is there anything to let in on other nodes.
    assert select_admitted(selection, nr, own=N3, hosts={"web": 7}) == ()
