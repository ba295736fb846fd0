from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from netlab.faults import INTERNET_LINKS_MAX, LAN_LINKS_MAX, LANS_MAX
from netlab.nat import NATS
from netlab.topology import Lan, Link, Node, Router, Topology
from netlab.wiring.wiring import routed_through, wire


@st.composite
def topologies(draw) -> Topology:
    routers = tuple(Router(f"r{n}") for n in range(draw(st.integers(0, 3))))
    lans = tuple(Lan(f"l{n}") for n in range(draw(st.integers(0, 3))))
    targets = st.sampled_from(["internet", *(hub.name for hub in (*routers, *lans))])
    links = st.lists(st.tuples(targets, st.sampled_from(["46", "4", "6"])), max_size=3)
    nodes = tuple(
        Node(
            f"n{n}",
            tuple(
                Link(to=to, name=f"eth{position}", ipv4="4" in families, ipv6="6" in families)
                for position, (to, families) in enumerate(each)
            ),
        )
        for n, each in enumerate(draw(st.lists(links, max_size=6)))
    )
    return Topology(nodes=nodes, routers=routers, lans=lans)


@given(topologies())
def test_wiring_gives_every_end_a_place_of_its_own(topology):  # LAB-004
    cables = wire(topology).cables
    ends = list(chain.from_iterable((cable.near, cable.far) for cable in cables))
    assert len({(end.netns, end.name) for end in ends}) == len(ends)
    assert len({(end.netns, end.ifindex) for end in ends}) == len(ends)
    bridges = [subnet.bridge.mac for subnet in wire(topology).subnets]
    macs = [*(end.mac for end in ends), *bridges]
    assert len(set(macs)) == len(macs)
    assert all(mac[0] & 0b11 == 0b10 for mac in macs)  # local, unicast


@given(topologies())
def test_wiring_gives_every_address_once(topology):  # LAB-004
    wiring = wire(topology)
    used = [cable.ipv4.ip for cable in wiring.cables if cable.ipv4]
    used += [cable.ipv6.ip for cable in wiring.cables if cable.ipv6]
    used += [address.ip for each in wiring.subnets for address in (each.ipv4, each.ipv6)]
    assert len(set(used)) == len(used)


@given(topologies())
def test_wiring_follows_the_declared_families(topology):
    wiring = wire(topology)
    for node in topology.nodes:
        for link, cable in zip(node.links, wiring.cables_of(node.name), strict=True):
            assert (cable.ipv4 is not None) == link.ipv4
            assert (cable.ipv6 is not None) == link.ipv6
            assert (cable.link_local is not None) == link.ipv6


@given(topologies())
def test_wiring_keeps_addresses_when_a_node_is_appended(topology):  # LAB-004
    more = Topology(
        nodes=(*topology.nodes, Node("last")), routers=topology.routers, lans=topology.lans
    )
    before = [(cable.near.netns, cable.ipv4, cable.ipv6) for cable in wire(topology).cables]
    after = [(cable.near.netns, cable.ipv4, cable.ipv6) for cable in wire(more).cables]
    assert [each for each in after if each[0] != "last"] == before


def test_wiring_fits_the_largest_topologies():
    crowd = tuple(Node(f"n{n}") for n in range(INTERNET_LINKS_MAX))
    family = tuple(Node(f"m{n}", (Link(to="home"),)) for n in range(LAN_LINKS_MAX))
    assert str(wire(Topology(nodes=crowd)).cables[-1].ipv4) == "198.18.2.244/32"
    last = wire(Topology(nodes=family, routers=(Router("home"),))).cables_of("m244")[0]
    assert (str(last.ipv4), str(last.ipv6)) == ("192.168.1.254/24", "2001:db8:1:1::fe/64")
    lans = wire(Topology(nodes=(), lans=tuple(Lan(f"l{n}") for n in range(LANS_MAX)))).subnets
    assert str(lans[-1].ipv4) == "192.168.254.1/24"


def test_wiring_hides_ipv4_behind_nat_and_nothing_else():
    natted, plain = Router("a", nat=NATS["port-restricted"]), Router("b")
    first, second = wire(Topology(nodes=(), routers=(natted, plain))).subnets
    assert [str(each) for each in routed_through(natted, subnet=first)] == ["2001:db8:1:1::/64"]
    assert [str(each) for each in routed_through(plain, subnet=second)] == [
        "192.168.2.0/24",
        "2001:db8:1:2::/64",
    ]
