"""Where tenants leave a lab's exits: the addresses of uplinks, and as whom they are seen. Pure.

On a LAN an exit has a link of its own beside one of the node's, with one address of each family
that the node's has there: hosts .2 to .9, in order of declaration. A region gives a node one
address, so what leaves there has the node's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import chain

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
            offer = _Offer(wiring, node.exit, at, station)
            if not station.on_lan:
                found[node.name] = offer.by_the_node()
                continue
            host = FIRST_EXIT_HOST + taken[station.link.to]
            taken[station.link.to] += 1
            found[node.name] = offer.beside_the_node(ways, host)
    return found


class _Offer:
    """What one operator says; `at` are all links of the node, `station` is the uplink's."""

    def __init__(
        self, wiring: Wiring, offer: ExitOffer, at: tuple[Station, ...], station: Station
    ) -> None:
        self._wiring = wiring
        self._offer = offer
        self._at = at
        self._station = station

    def _guarded(self) -> Iterator[IPv4Address]:
        """What an exit guards where nothing is allowed: itself, the registry and relays."""
        wiring = self._wiring
        stations = [self._at]
        stations += [
            wiring.stations[node.name]
            for node in wiring.topology.nodes
            if node.role == "registry" or node.relay
        ]
        found = (each.ipv4 for each in chain.from_iterable(stations))
        yield from dict.fromkeys(address for address in found if address is not None)

    def by_the_node(self) -> Egress:
        own = (self._station.ipv4, self._station.ipv6)
        return self._egress("interface", seen_as=own)

    def beside_the_node(self, ways: Ways, host: int) -> Egress:
        station = self._station
        subnet = self._wiring.subnets[station.link.to]
        v4 = addresses.lan_ipv4(subnet.number_ipv4, host) if station.ipv4 else None
        v6 = addresses.lan_ipv6(subnet.number_ipv6, host) if station.ipv6 else None
        own = [
            *([f"{v4}/{addresses.LAN_LENGTH_IPV4}"] if v4 else []),
            *([f"{v6}/{addresses.LAN_LENGTH_IPV6}"] if v6 else []),
        ]
        gateway = station.gateway
        found = ((v4, gateway.ipv4), (v6, gateway.ipv6)) if gateway is not None else ()
        seen_v4 = _translated(self._wiring, ways, v4, station.link.to) if v4 else None
        return self._egress(
            "macvlan",
            own=tuple(own),
            gateways=tuple(str(address) for mine, address in found if mine and address),
            seen_as=(seen_v4, v6),
        )

    def _egress(
        self,
        kind: str,
        *,
        seen_as: tuple[IpAddress | None, ...],
        own: tuple[str, ...] = (),
        gateways: tuple[str, ...] = (),
    ) -> Egress:
        names = self._offer.beacons or (self._wiring.topology.regions[0].name,)
        families = {each.version for each in seen_as if each is not None}
        beacons = (each for name in names for each in _addresses_of(self._wiring, name))
        return Egress(
            uplink=f"{kind}:{self._station.end.name}",
            addresses=own,
            gateways=gateways,
            beacons=tuple(str(each) for each in beacons if each.version in families),
            # Everybody in a lab's internet has one of these, which exits take for nobody's.
            allow=(addresses.PUBLIC_IPV4,),
            refuse=tuple(f"{each}/32" for each in self._guarded()),
            seen_as=frozenset(str(each) for each in seen_as if each is not None),
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
