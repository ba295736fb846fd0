"""Who routes what to whom beyond its own links: neighbouring networks share a route.

A chain of LANs declared in order costs each of its members a handful of routes, however long it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from netlab.topology import Link
from netlab.wiring import addresses
from netlab.wiring.facts import Route, Unreachable
from netlab.wiring.places import LinkId
from netlab.wiring.spans import Span, merge, prefixes
from netlab.wiring.ways import Version, Ways
from netlab.wiring.wiring import LOOPBACK_IFINDEX, Core, End, Station, Wiring

# How many bits of an address number a LAN, and how many a core router's block.
_LAN_BITS: dict[Version, int] = {4: 24, 6: 64}
_BLOCK_BITS: dict[Version, int] = {4: 24, 6: 120}
_BYTES: dict[Version, int] = {4: 4, 6: 16}
_VERSIONS: tuple[Version, ...] = (4, 6)


class Behind:
    """For one family: the LANs that are reached through each gateway's way up."""

    def __init__(self, wiring: Wiring, version: Version) -> None:
        self._wiring = wiring
        self._version = version
        self._ways = Ways(wiring.topology)
        self._owned: defaultdict[str, list[str]] = defaultdict(list)
        for name in wiring.subnets:
            if owner := self._ways.gateway_of(name, version):
                self._owned[owner].append(name)
        self._up = {owner: self._ways.up_from(owner, version) for owner in self._owned}
        self._below: defaultdict[str, list[str]] = defaultdict(list)
        for owner, up in self._up.items():
            if up is not None:
                self._below[up[1].to].append(owner)
        self.spans = self._all_spans()

    def gateways_at(self, place: str) -> Iterator[tuple[LinkId, tuple[Span, ...]]]:
        """Links that lead up to this region or LAN, and the networks behind each."""
        for owner in self._below.get(place, ()):
            up = self._up[owner]
            if up is not None and self.spans[owner]:
                yield up[0], self.spans[owner]

    def _all_spans(self) -> dict[str, tuple[Span, ...]]:
        """From the furthest inwards, without recursion: chains are long."""
        order: list[str] = []
        pending = [owner for owner, up in self._up.items() if self._is_outermost(up)]
        while pending:
            owner = pending.pop()
            order.append(owner)
            pending += (each for lan in self._owned[owner] for each in self._below.get(lan, ()))
        spans: dict[str, tuple[Span, ...]] = {}
        for owner in reversed(order):
            spans[owner] = self._spans_of(owner, spans)
        return spans

    def _is_outermost(self, up: tuple[LinkId, Link] | None) -> bool:
        return up is None or not self._ways.gateway_of(up[1].to, self._version)

    def _spans_of(self, owner: str, further: dict[str, tuple[Span, ...]]) -> tuple[Span, ...]:
        found: list[Span] = []
        for name in self._owned[owner]:
            subnet = self._wiring.subnets[name]
            if self._version == 4 and subnet.router is not None and subnet.router.nat is not None:
                return ()  # nobody outside may know
            number = subnet.number_ipv4 if self._version == 4 else subnet.number_ipv6
            found.append((number, number + 1))
            for below in self._below.get(name, ()):
                found += further[below]
        return merge(found)


class Routes:
    """By network namespace; `Behind` for both families told to those who must know."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._stations = {
            (station.end.netns, station.end.name): station
            for stations in wiring.stations.values()
            for station in stations
        }
        self._cores = {core.netns: core for core in wiring.cores}
        self._cable_at = {cable.near: cable for cable in wiring.cables}
        self.by_netns: defaultdict[str, list[Route | Unreachable]] = defaultdict(list)
        for version in _VERSIONS:
            behind = Behind(wiring, version)
            for name in wiring.subnets:
                self._at_lan(name, behind, version)
            self._at_regions(behind, version)

    def _at_lan(self, name: str, behind: Behind, version: Version) -> None:
        subnet = self._wiring.subnets[name]
        for link, spans in behind.gateways_at(name):
            port = subnet.gateway_end
            if port is not None:
                gateway = _address(self._stations[link], version)
                self._add(port, spans, version, _LAN_BITS, gateway)

    def _at_regions(self, behind: Behind, version: Version) -> None:
        """LANs at the core that their gateway is at; those and whole blocks at the other cores."""
        lans: defaultdict[str, list[Span]] = defaultdict(list)
        for region in self._wiring.places.regions:
            for link, spans in behind.gateways_at(region):
                station = self._stations[link]
                port = self._cable_at[station.end].far
                self._add(port, spans, version, _LAN_BITS, _address(station, version))
                lans[port.netns] += spans
        blocks = self._blocks(version)
        for cable in self._wiring.cables:
            if cable.near_station is None:
                near, far = self._cores[cable.near.netns], self._cores[cable.far.netns]
                for port, here, there, link_local in (
                    (cable.near, near, far, addresses.FAR_LINK_LOCAL),
                    (cable.far, far, near, addresses.NEAR_LINK_LOCAL),
                ):
                    gateway = (there.ipv4 if version == 4 else link_local).packed
                    if here.shard:
                        self._to_the_rest(port, blocks[here.netns], version, gateway)
                        continue
                    beyond = [core for core in self._wiring.cores if _is_beyond(core, there)]
                    for bits, known in ((_LAN_BITS, lans), (_BLOCK_BITS, blocks)):
                        found = merge(span for core in beyond for span in known[core.netns])
                        self._add(port, found, version, bits, gateway)
                    for core in beyond:
                        self._to_core(port, core, version, gateway)

    def _blocks(self, version: Version) -> defaultdict[str, list[Span]]:
        found: defaultdict[str, list[Span]] = defaultdict(list)
        netns = {(core.region, core.shard): core.netns for core in self._wiring.cores}
        for (region, kind, shard), block in self._wiring.places.blocks.items():
            number = addresses.block_number(kind, block, version)
            found[netns[region, shard]].append((number, number + 1))
        return found

    def _to_core(self, port: End, core: Core, version: Version, gateway: bytes) -> None:
        address = (core.ipv4 if version == 4 else core.ipv6).packed
        via = b"" if address == gateway else gateway
        self.by_netns[port.netns].append(Route(port.ifindex, address, 8 * len(address), via))

    def _to_the_rest(self, port: End, own: list[Span], version: Version, gateway: bytes) -> None:
        """By default. What is nobody's in its own blocks would go back and forth."""
        facts = self.by_netns[port.netns]
        size = _BYTES[version]
        facts.append(Route(port.ifindex, bytes(size), 0, gateway))
        bits = _BLOCK_BITS[version]
        for first, width in prefixes(merge(own)):
            destination = (first << (8 * size - bits)).to_bytes(size, "big")
            facts.append(Unreachable(LOOPBACK_IFINDEX, destination, bits - width))

    def _add(
        self,
        port: End,
        spans: tuple[Span, ...],
        version: Version,
        bits: Mapping[Version, int],
        gateway: bytes,
    ) -> None:
        size = _BYTES[version]
        facts = self.by_netns[port.netns]
        for first, width in prefixes(spans):
            destination = (first << (8 * size - bits[version])).to_bytes(size, "big")
            facts.append(Route(port.ifindex, destination, bits[version] - width, gateway))


def _is_beyond(core: Core, there: Core) -> bool:
    """A hidden core leads to itself, a region's first core to the whole region."""
    return core == there if there.shard else core.region == there.region


def _address(station: Station, version: Version) -> bytes:
    address = station.ipv4 if version == 4 else station.link_local
    return address.packed if address is not None else b""  # never: Ways asked for the family
