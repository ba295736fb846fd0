"""Where tenants leave a lab's exits: the addresses of uplinks, and as whom they are seen. Pure.

An exit has a link of its own beside one of the node's, with one address of each family that the
node's has there: hosts .2 to .9 of the LAN, in order of declaration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from netlab.topology import ExitOffer
from netlab.wiring import addresses
from netlab.wiring.ways import Ways
from netlab.wiring.wiring import Station, Wiring

FIRST_EXIT_HOST = 2

IpAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Egress:
    """What the operator of an exit says of its uplink, as the words of `zos exit offer`.

    seen_as  the addresses by which others see what leaves here
    """

    uplink: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    beacons: tuple[str, ...]
    allow: tuple[str, ...]
    refuse: tuple[str, ...]
    seen_as: frozenset[str]


def find_egresses(wiring: Wiring) -> Mapping[str, Egress]:
    """By name of the node, of all that are offered as exits."""
    taken: Counter[str] = Counter()
    ways = Ways(wiring.topology)
    found: dict[str, Egress] = {}
    for node in wiring.topology.nodes:
        if node.exit is not None:
            at = wiring.stations[node.name]
            station = next(each for each in at if each.end.name == node.exit.uplink)
            host = FIRST_EXIT_HOST + taken[station.link.to]
            taken[station.link.to] += 1
            found[node.name] = _egress(wiring, ways, node.exit, at, station, host)
    return found


def _egress(
    wiring: Wiring,
    ways: Ways,
    offer: ExitOffer,
    at: Iterable[Station],
    station: Station,
    host: int,
) -> Egress:
    subnet = wiring.subnets[station.link.to]
    v4 = addresses.lan_ipv4(subnet.number_ipv4, host) if station.ipv4 else None
    v6 = addresses.lan_ipv6(subnet.number_ipv6, host) if station.ipv6 else None
    own = [
        *([f"{v4}/{addresses.LAN_LENGTH_IPV4}"] if v4 else []),
        *([f"{v6}/{addresses.LAN_LENGTH_IPV6}"] if v6 else []),
    ]
    gateway = station.gateway
    gateways = [
        str(address)
        for mine, address in (
            (v4, gateway.ipv4 if gateway else None),
            (v6, gateway.ipv6 if gateway else None),
        )
        if mine and address
    ]
    names = offer.beacons or (wiring.topology.regions[0].name,)
    beacons = (each for name in names for each in _addresses_of(wiring, name))
    seen_v4 = _translated(wiring, ways, v4, station.link.to) if v4 else None
    return Egress(
        uplink=f"macvlan:{station.end.name}",
        addresses=tuple(own),
        gateways=tuple(gateways),
        beacons=tuple(str(each) for each in beacons if (v4 if each.version == 4 else v6)),
        # Everybody in a lab's internet has one of these, which exits take for nobody's elsewhere.
        allow=(addresses.PUBLIC_IPV4,),
        refuse=tuple(f"{each.ipv4}/32" for each in at if each.ipv4 is not None),
        seen_as=frozenset(str(each) for each in (seen_v4, v6) if each),
    )


def _addresses_of(wiring: Wiring, name: str) -> Iterator[IpAddress]:
    """Of a node, those of its first link; of a region, its router's."""
    for core in wiring.cores:
        if core.netns == name:
            yield from (core.ipv4, core.ipv6)
    for station in wiring.stations.get(name, ())[:1]:
        yield from (each for each in (station.ipv4, station.ipv6) if each is not None)


def _translated(wiring: Wiring, ways: Ways, address: IPv4Address, place: str) -> IPv4Address:
    """What the last NAT on the way from a LAN to the internet makes of an address."""
    routers = {router.name: router for router in wiring.topology.routers}
    seen = address
    while owner := ways.gateway_of(place, 4):
        station = wiring.stations[owner][0]
        if owner in routers and routers[owner].nat is not None and station.ipv4 is not None:
            seen = station.ipv4
        up = ways.up_from(owner, 4)
        if up is None:
            break
        place = up[1].to
    return seen
