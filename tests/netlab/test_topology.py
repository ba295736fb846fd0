from __future__ import annotations

import pytest

from netlab import faults as limits
from netlab.impairment import Both
from netlab.nat import Nat
from netlab.topology import Lan, Latency, Link, Node, Region, Router, Topology
from netlab.wiring.places import NODE_LINKS_MAX, REGIONS_MAX
from overlay.errors import Rejected


def refusal(*nodes: Node, routers=(), lans=(), name="lab") -> Rejected:
    with pytest.raises(Rejected) as caught:
        Topology(nodes=nodes, routers=routers, lans=lans, name=name)
    return caught.value


@pytest.mark.parametrize("name", ["", "N1", "-a", "a-", "a.b", "a_b", "n" * 64, "ä", "a\n"])
def test_topology_refuses_names_that_are_no_dns_labels(name):  # LAB-001
    assert refusal(Node(name)).field == f"node.{name}"
    assert refusal(routers=(Router(name),)).field == f"router.{name}"
    assert refusal(lans=(Lan(name),)).field == f"lan.{name}"
    assert refusal(name=name).field == "name"


def test_topology_takes_the_longest_name():
    Topology(nodes=(Node("n" * 63),))


def test_topology_refuses_a_name_given_twice_whatever_bears_it():  # LAB-001
    assert refusal(Node("a"), Node("a")).field == "a"
    assert refusal(Node("a"), routers=(Router("a"),)).field == "a"
    assert refusal(routers=(Router("a"),), lans=(Lan("a"),)).field == "a"


def test_topology_keeps_the_name_of_the_internet():
    assert refusal(Node("internet")).field == "internet"


def test_topology_names_the_nearest_thing_a_link_could_lead_to():  # LAB-002
    error = refusal(Node("a", (Link(to="hom-a"),)), routers=(Router("home-a"), Router("office")))
    assert error.field == "node.a.links.eth0.to"
    assert "'home-a'" in str(error)
    assert "'internet'" in str(refusal(Node("a", (Link(to="b"),)), Node("b")))


def test_topology_names_the_nearest_kind_of_firewall_and_role():
    error = refusal(Node("a", role="registrar"))
    assert (error.field, "'registry'" in str(error)) == ("node.a.role", True)
    error = refusal(routers=(Router("r", firewall="statefull"),))
    assert (error.field, "'stateful'" in str(error)) == ("router.r.firewall", True)


@pytest.mark.parametrize("name", ["lo", "", "Eth0", "0eth", "e" * 16, "a/b", "a b", "."])
def test_topology_refuses_link_names_that_the_kernel_would(name):
    assert refusal(Node("a", (Link(name=name),))).field == f"node.a.links.{name}"


def test_topology_refuses_a_link_given_twice():
    assert refusal(Node("a", (Link(), Link()))).field == "node.a.links.eth0"


def test_topology_refuses_a_link_without_any_family():
    assert refusal(Node("a", (Link(ipv4=False, ipv6=False),))).field == "node.a.links.eth0"


@pytest.mark.parametrize(
    ("ipv6", "lowest"), [(False, limits.MTU_BYTES_MIN_IPV4), (True, limits.MTU_BYTES_MIN_IPV6)]
)
def test_topology_bounds_the_mtu_by_family(ipv6, lowest):
    for allowed in (lowest, limits.MTU_BYTES_MAX):
        Topology(nodes=(Node("a", (Link(mtu_bytes=allowed, ipv6=ipv6),)),))
    for refused in (lowest - 1, limits.MTU_BYTES_MAX + 1, 0, -1):
        error = refusal(Node("a", (Link(mtu_bytes=refused, ipv6=ipv6),)))
        assert error.field == "node.a.links.eth0.mtu_bytes"


def test_topology_bounds_links_and_fan_out():  # LAB-003
    def links(count: int) -> tuple[Link, ...]:
        return tuple(Link(name=f"eth{number}") for number in range(count))

    def nodes(count: int, to: str) -> tuple[Node, ...]:
        return tuple(Node(f"n{number}", (Link(to=to),)) for number in range(count))

    Topology(nodes=(Node("a", links(NODE_LINKS_MAX)),))
    assert refusal(Node("a", links(NODE_LINKS_MAX + 1))).field == "node.a.links"

    home = (Router("home"),)
    Topology(nodes=nodes(limits.LAN_LINKS_MAX, "home"), routers=home)
    assert refusal(*nodes(limits.LAN_LINKS_MAX + 1, "home"), routers=home).field == "home"
    far = (Router("office", Link(to="home")),)
    crowd = nodes(limits.LAN_LINKS_MAX, "home")
    assert refusal(*crowd, routers=(*home, *far)).field == "home"


@pytest.mark.parametrize(
    ("most", "field", "build"),
    [
        (limits.NODES_MAX, "node", lambda n: {"nodes": [Node(f"n{i}", ()) for i in range(n)]}),
        (limits.ROUTERS_MAX, "router", lambda n: {"routers": [Router(f"r{i}") for i in range(n)]}),
        (limits.LANS_MAX, "lan", lambda n: {"lans": [Lan(f"l{i}") for i in range(n)]}),
        (
            REGIONS_MAX,
            "core.regions",
            lambda n: {"regions": [Region("internet"), *(Region(f"g{i}") for i in range(n - 1))]},
        ),
    ],
)
def test_topology_bounds_what_there_is_of_each_kind(most, field, build):  # LAB-003
    def topology(count: int) -> Topology:
        return Topology(**{"nodes": (), **{k: tuple(v) for k, v in build(count).items()}})

    topology(most)
    with pytest.raises(Rejected) as caught:
        topology(most + 1)
    assert caught.value.field == field


def test_topology_bounds_namespaces_of_all_kinds():  # LAB-003
    nodes = tuple(Node(f"n{n}", ()) for n in range(limits.NODES_MAX))
    left = limits.NAMESPACES_MAX - limits.NODES_MAX
    routers = tuple(Router(f"r{n}") for n in range(left))
    two = (Node("a", (Link(to="pair"),)), Node("b", (Link(to="pair"),)))
    # A LAN that joins two has no namespace.
    Topology(nodes=(*nodes[2:], *two), routers=routers, lans=(Lan("pair"),))
    error = refusal(*nodes, routers=routers, lans=(Lan("alone"),))
    assert (error.field, "9500 is the most" in str(error)) == ("node", True)


def test_topology_bounds_links_to_the_internet():  # LAB-003
    full, rest = divmod(limits.INTERNET_LINKS_MAX, NODE_LINKS_MAX)
    links = tuple(Link(name=f"eth{n}") for n in range(NODE_LINKS_MAX))
    crowd = tuple(Node(f"n{n}", links) for n in range(full))
    Topology(nodes=(*crowd, Node("rest", links[:rest])))
    assert refusal(*crowd, Node("rest", links[: rest + 1])).field == "core"


def test_topology_refuses_a_gateway_that_is_not_there():  # LAB-204
    error = refusal(Node("alice", (Link(to="lan"),)), lans=(Lan("lan", gateway="alise"),))
    assert (error.field, "'alice'" in str(error)) == ("lan.lan.gateway", True)
    error = refusal(Node("alice"), lans=(Lan("lan", gateway="alice"),))
    assert (error.field, "no link to lan" in str(error)) == ("lan.lan.gateway", True)


def test_topology_refuses_latencies_between_what_are_no_two_regions():  # LAB-200
    regions = (Region("eu"), Region("us"))

    def refused(*between: tuple[str, str]) -> Rejected:
        with pytest.raises(Rejected) as caught:
            Topology(
                nodes=(),
                regions=regions,
                latencies=tuple(Latency(each, Both()) for each in between),
            )
        return caught.value

    error = refused(("eu", "uss"))
    assert (error.field, "'us'" in str(error)) == ("core.latency[0].between", True)
    assert refused(("eu", "eu")).field == "core.latency[0].between"
    assert refused(("eu", "us"), ("us", "eu")).field == "core.latency[1].between"


def test_topology_refuses_a_way_out_that_goes_round():  # LAB-202
    routers = (Router("a", Link(to="b")), Router("b", Link(to="a")))
    assert "a -> b -> a" in str(refusal(routers=routers))
    assert "a -> a" in str(refusal(routers=(Router("a", Link(to="a")),)))
    one = Node("one", (Link(to="y"), Link(to="x", name="eth1")))
    other = Node("other", (Link(to="x"), Link(to="y", name="eth1")))
    lans = (Lan("x", gateway="one"), Lan("y", gateway="other"))
    assert "x -> y -> x" in str(refusal(one, other, lans=lans))
    # With a link to the internet first, the same two lead out.
    way_out = Node("one", (Link(name="wan0"), *one.links))
    Topology(nodes=(way_out, other), lans=lans)


@pytest.mark.parametrize(
    ("nat", "field"),
    [
        (Nat(mapping="endpoint"), "mapping"),
        (Nat(filtering="none"), "filtering"),
        (Nat(ports="keep"), "ports"),
        (Nat(udp_timeout_s=limits.UDP_TIMEOUT_S_MIN - 1), "udp_timeout_s"),
        (Nat(udp_timeout_s=limits.UDP_TIMEOUT_S_MAX + 1), "udp_timeout_s"),
        (Nat(mapping="address-dependent"), "ports"),
        (Nat(mapping="address-dependent", ports="random", hairpin=True), "hairpin"),
    ],
)
def test_topology_refuses_a_nat_that_cannot_be(nat, field):  # LAB-320
    assert refusal(routers=(Router("r", nat=nat),)).field == f"router.r.nat.{field}"


def test_topology_takes_nat_timeouts_at_their_bounds():
    for seconds in (limits.UDP_TIMEOUT_S_MIN, limits.UDP_TIMEOUT_S_MAX):
        Topology(nodes=(), routers=(Router("r", nat=Nat(udp_timeout_s=seconds)),))
