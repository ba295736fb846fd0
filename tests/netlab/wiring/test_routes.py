"""Whoever should reach each other does, by the facts of the namespaces on the way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.nat import NATS
from netlab.wiring.spans import merge, prefixes
from netlab.wiring.ways import Ways
from netlab.wiring.wirer import wire
from tests.netlab.wiring.forwarding import Network
from tests.netlab.wiring.topologies import topologies

NAT = NATS["port-restricted"]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20))))
def test_prefixes_cover_exactly_the_spans(pairs):
    spans = [(first, first + length) for first, length in pairs]
    covered = [
        network + offset for network, bits in prefixes(merge(spans)) for offset in range(1 << bits)
    ]
    assert covered == sorted({n for first, end in spans for n in range(first, end)})
    assert all(network % (1 << bits) == 0 for network, bits in prefixes(merge(spans)))


@settings(max_examples=100)
@given(topologies())
def test_everybody_with_a_way_out_reaches_every_address_that_is_known_outside(topology):  # LAB-202
    wiring = wire(topology)
    network = Network(wiring)
    ways = Ways(topology)
    for version in (4, 6):
        outside = [
            (station.end.netns, station.ipv4 if version == 4 else station.ipv6)
            for stations in wiring.stations.values()
            for station in stations
            if is_known_outside(wiring, ways, station.link.to, version)
        ]
        for source, _ in outside:
            # By its first way out: a second link to elsewhere answers from there.
            for target, address in outside:
                if address is not None and has_way_out(wiring, ways, source, version):
                    assert network.path(source, str(address))[-1] == target


def is_known_outside(wiring, ways, place, version) -> bool:
    """No NAT and no dead end between here and a region."""
    while place not in wiring.places.regions:
        owner = ways.gateway_of(place, version)
        subnet = wiring.subnets[place]
        up = ways.up_from(owner, version)
        if up is None or (version == 4 and subnet.router is not None and subnet.router.nat):
            return False
        place = up[1].to
    return True


def has_way_out(wiring, ways, name, version) -> bool:
    """The first link with a gateway, which the default route takes, leads to a region."""
    for station in wiring.stations[name]:
        gateway = station.gateway
        address = station.ipv4 if version == 4 else station.ipv6
        if address is None or gateway is None:
            continue
        if (gateway.ipv4 if version == 4 else gateway.ipv6) is not None:
            return is_known_outside(wiring, ways, station.link.to, version)
    return False
