"""Topologies of every shape that wiring has to bear: regions, chains of routers, gateways."""

from __future__ import annotations

from hypothesis import strategies as st

from netlab.impairment import Both, Impairment
from netlab.nat import NATS
from netlab.topology import INTERNET, Lan, Latency, Link, Node, Region, Router, Topology

REGIONS = (INTERNET, "eu", "us")
IMPAIRED = Both(up=Impairment(delay_s=0.01), down=Impairment(loss=0.5))


@st.composite
def topologies(draw) -> Topology:
    """A router leads to a region, an earlier router or a LAN, so there is no circle."""
    regions = tuple(Region(name) for name in REGIONS[: draw(st.integers(1, 3))])
    lan_names = [f"l{n}" for n in range(draw(st.integers(0, 3)))]
    places = [*(region.name for region in regions), *lan_names]
    routers: list[Router] = []
    for number in range(draw(st.integers(0, 4))):
        uplink = Link(to=draw(st.sampled_from(places)), name="wan")
        nat = draw(st.sampled_from([None, NATS["port-restricted"]]))
        routers.append(Router(f"r{number}", uplink, nat))
        places.append(f"r{number}")
    nodes = [_node(draw, number, places) for number in range(draw(st.integers(0, 6)))]
    lans = [_lan(draw, name, nodes) for name in lan_names]
    latencies = []
    if len(regions) > 1 and draw(st.booleans()):
        latencies.append(Latency((regions[1].name, regions[0].name), IMPAIRED))
    return Topology(
        nodes=tuple(nodes),
        routers=tuple(routers),
        lans=tuple(lans),
        regions=regions,
        latencies=tuple(latencies),
    )


def _node(draw, number: int, places: list[str]) -> Node:
    links = draw(
        st.lists(st.tuples(st.sampled_from(places), st.sampled_from(["46", "4", "6"])), max_size=3)
    )
    return Node(
        f"n{number}",
        tuple(
            Link(to=to, name=f"eth{position}", ipv4="4" in families, ipv6="6" in families)
            for position, (to, families) in enumerate(links)
        ),
    )


def _lan(draw, name: str, nodes: list[Node]) -> Lan:
    """Led out of by somebody who is nearer to a region: whose first link leads to one."""
    able = [
        node.name
        for node in nodes
        if node.links
        and node.links[0].to in REGIONS
        and node.links[0].ipv4
        and node.links[0].ipv6
        and any(link.to == name for link in node.links)
    ]
    return Lan(name, gateway=draw(st.sampled_from(["", *able])))
