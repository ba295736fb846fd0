"""Which address, MAC, interface index and peer every cable of a lab has.

Pure and free of choice: the same topology always gives the same wiring, so captures and logs of
two runs compare. Public addresses come from ranges that are nobody's (RFC 2544, RFC 3849).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from netlab.impairment import Both, chain
from netlab.topology import WAN, Link, Topology
from netlab.wiring import addresses
from netlab.wiring.places import (
    LINKS_PER_CORE,
    NODE_LINKS_MAX,
    LinkId,
    Places,
    Seat,
    core_netns_number,
    core_number,
    place,
)
from netlab.wiring.wiring import Cable, Core, End, Gateway, Station, Subnet, Wiring

LAN = "lan"
# The two ends of a cable must not have the same interface index: the kernel takes that for a
# device without a peer, and lets up to a second pass before it tells anybody of its carrier.
# So each kind of end counts from its own number.
_FIRST_LINK_IFINDEX = 2
_FIRST_NODE_IFINDEX, _FIRST_ROUTER_IFINDEX = 10, 300
_FIRST_SHARD_IFINDEX, _FIRST_REGION_IFINDEX = 600, 800
LAN_IFINDEX = 4000
_FIRST_LAN_PORT_IFINDEX = {"node": 4010, "router": 4300}
_CORE_UPLINK_IFINDEX = 2

FIRST_METRIC = 100
# Between core routers, which make nothing smaller than what they join.
CORE_MTU_BYTES = 65535


def wire(topology: Topology, *, before: Places | None = None) -> Wiring:
    """What was wired in `before` keeps its addresses, MACs and interface indexes."""
    return _Wirer(topology, place(topology, before=before)).wire()


class _Wirer:
    """What the steps of wiring share."""

    def __init__(self, topology: Topology, places: Places) -> None:
        self._topology = topology
        self._places = places
        self._routers = {router.name: router for router in topology.routers}
        self._gateways = {lan.name: lan.gateway for lan in topology.lans}
        self._links: dict[LinkId, Link] = {}
        self._metrics: dict[LinkId, int] = {}
        self._at: defaultdict[str, list[LinkId]] = defaultdict(list)
        for node in topology.nodes:
            for position, link in enumerate(node.links):
                self._declare((node.name, link.name), link, FIRST_METRIC + position)
        for router in topology.routers:
            self._declare((router.name, WAN), router.uplink, FIRST_METRIC)
        self._cores = {(core.region, core.shard): core for core in self._build_cores()}

    def _declare(self, link: LinkId, declared: Link, metric: int) -> None:
        self._links[link] = declared
        self._metrics[link] = metric
        self._at[declared.to].append(link)

    def wire(self) -> Wiring:
        stations: dict[str, list[Station]] = {node.name: [] for node in self._topology.nodes}
        stations |= {router.name: [] for router in self._topology.routers}
        by_link = {}
        for link in self._links:
            by_link[link] = station = self._station(link)
            stations[link[0]].append(station)
        subnets = {
            name: self._subnet(name, tuple(by_link[link] for link in self._at[name]))
            for name in self._places.subnets
        }
        cables = (*self._cables(by_link, subnets), *self._core_cables())
        named: defaultdict[str, tuple[Cable, ...]] = defaultdict(tuple)
        for cable in cables:
            for name in dict.fromkeys(cable.names):
                named[name] += (cable,)
        return Wiring(
            topology=self._topology,
            places=self._places,
            cores=tuple(self._cores.values()),
            subnets=subnets,
            stations={name: tuple(each) for name, each in stations.items()},
            cables=cables,
            named=dict(named),
        )

    def _build_cores(self) -> Iterator[Core]:
        places = self._places
        needed = {(name, 0) for name in places.regions}
        needed |= {(s.to, s.shard) for s in places.seats.values() if s.to in places.regions}
        for region, shard in sorted(needed, key=lambda each: (each[1], places.regions[each[0]])):
            index = places.regions[region]
            yield Core(
                # No name that a topology can give has a dot.
                netns=f"{region}.{shard}" if shard else region,
                region=region,
                shard=shard,
                number=core_number(index, shard),
                netns_number=core_netns_number(index, shard),
            )

    def _own_end(self, link: LinkId) -> End:
        owner, name = link
        ifindex = _FIRST_LINK_IFINDEX + self._places.positions[link]
        seat = self._places.seats[link]
        if seat.to in self._gateways:  # where the other end may be a node's, too
            ifindex += NODE_LINKS_MAX * (_host(seat) - addresses.FIRST_HOST)
        mac = addresses.mac(self._places.numbers[owner], ifindex)
        return End(netns=owner, name=name, ifindex=ifindex, mac=mac)

    def _station(self, link: LinkId) -> Station:
        declared, seat = self._links[link], self._places.seats[link]
        on_lan = seat.to in self._places.subnets
        ipv4, ipv6 = self._addresses(seat)
        link_local = addresses.link_local(_host(seat) if on_lan else addresses.FIRST_HOST)
        end = self._own_end(link)
        return Station(
            end=end,
            link=declared,
            shard=0 if on_lan else seat.shard,
            on_lan=on_lan,
            ipv4=ipv4 if declared.ipv4 else None,
            ipv6=ipv6 if declared.ipv6 else None,
            link_local=link_local if declared.ipv6 else None,
            gateway=self._gateway(link, seat),
            metric=self._metrics[link],
        )

    def _addresses(self, seat: Seat) -> tuple[IPv4Address, IPv6Address]:
        if seat.to in self._places.subnets:
            ipv4, ipv6 = self._subnet_numbers(seat.to)
            host = _host(seat)
            return addresses.lan_ipv4(ipv4, host), addresses.lan_ipv6(ipv6, host)
        block = self._places.blocks[seat.to, seat.kind, seat.shard]
        host = 1 + seat.slot % LINKS_PER_CORE[seat.kind]
        return (
            addresses.public_ipv4(seat.kind, block, host),
            addresses.public_ipv6(seat.kind, block, host),
        )

    def _subnet_numbers(self, name: str) -> tuple[int, int]:
        pool, number = self._places.subnets[name]
        return addresses.lan_number_ipv4(pool, number), addresses.lan_number_ipv6(pool, number)

    def _gateway(self, link: LinkId, seat: Seat) -> Gateway | None:
        if seat.to in self._places.regions:
            core = self._cores[seat.to, seat.shard]
            mac = addresses.mac(core.netns_number, _port_ifindex(seat, at_core=True))
            return Gateway(core.ipv4, addresses.FAR_LINK_LOCAL, mac)
        if seat.to in self._routers:
            ipv4, _ = self._subnet_numbers(seat.to)
            mac = addresses.mac(self._places.numbers[seat.to], LAN_IFINDEX)
            return Gateway(addresses.lan_ipv4(ipv4, 1), addresses.FAR_LINK_LOCAL, mac)
        leading = self._gateways[seat.to]
        if not leading or leading == link[0]:
            return None
        way = next(each for each in self._at[seat.to] if each[0] == leading)
        theirs = self._places.seats[way]
        ipv4_address, _ = self._addresses(theirs)
        return Gateway(
            ipv4_address if self._links[way].ipv4 else None,
            addresses.link_local(_host(theirs)) if self._links[way].ipv6 else None,
            self._own_end(way).mac,
        )

    def _subnet(self, name: str, stations: tuple[Station, ...]) -> Subnet:
        router = self._routers.get(name)
        ipv4, ipv6 = self._subnet_numbers(name)
        is_switched = len(stations) + (router is not None) != 2
        end = None
        if is_switched or router is not None:
            mac = addresses.mac(self._places.numbers[name], LAN_IFINDEX)
            end = End(netns=name, name=LAN, ifindex=LAN_IFINDEX, mac=mac)
        return Subnet(
            name=name,
            number_ipv4=ipv4,
            number_ipv6=ipv6,
            router=router,
            gateway=name if router is not None else self._gateways[name],
            is_switched=is_switched,
            end=end,
            stations=stations,
        )

    def _cables(
        self, stations: Mapping[LinkId, Station], subnets: Mapping[str, Subnet]
    ) -> Iterator[Cable]:
        to_same: Counter[tuple[str, str]] = Counter()
        names: dict[LinkId, tuple[str, ...]] = {}
        for link, declared in self._links.items():
            to_same[link[0], declared.to] += 1
            own = f"{link[0]}:{link[1]}"
            is_first = to_same[link[0], declared.to] == 1
            pair = (f"{link[0]}-{declared.to}", f"{declared.to}-{link[0]}")
            names[link] = (*pair, own) if is_first else (own,)
        for link, station in stations.items():
            subnet = subnets.get(station.link.to)
            if subnet is None or subnet.end is not None:
                yield self._to_hub(link, station, subnet, names[link])
                continue
            one, other = self._at[subnet.name]
            if link == one:
                yield _between(stations[one], stations[other], subnet, (*names[one], *names[other]))

    def _to_hub(
        self, link: LinkId, station: Station, subnet: Subnet | None, names: tuple[str, ...]
    ) -> Cable:
        seat = self._places.seats[link]
        ifindex = _port_ifindex(seat, at_core=subnet is None)
        if subnet is None:
            far = self._cores[seat.to, seat.shard].port(ifindex)
        elif not subnet.is_switched and subnet.end is not None:
            far = subnet.end
        else:
            mac = addresses.mac(self._places.numbers[subnet.name], ifindex)
            far = End(netns=subnet.name, name=f"p{ifindex}", ifindex=ifindex, mac=mac)
        return Cable(
            near=station.end,
            far=far,
            mtu_bytes=station.link.mtu_bytes,
            impaired=station.link.impaired,
            names=names,
            subnet=subnet.name if subnet is not None else "",
            near_station=station,
        )

    def _core_cables(self) -> Iterator[Cable]:
        """Every hidden core to its region, and every region to every other."""
        for (region, shard), core in self._cores.items():
            if shard:
                yield Cable(
                    near=core.port(_CORE_UPLINK_IFINDEX),
                    far=self._cores[region, 0].port(_FIRST_SHARD_IFINDEX + shard),
                    mtu_bytes=CORE_MTU_BYTES,
                    impaired=Both(),
                    names=(f"{core.netns}-{region}",),
                    subnet="",
                )
        distances = {}
        for latency in self._topology.latencies:
            one, other = latency.between
            distances[one, other] = latency.impaired
            distances[other, one] = Both(up=latency.impaired.down, down=latency.impaired.up)
        regions = sorted(self._places.regions, key=self._places.regions.__getitem__)
        for position, one in enumerate(regions):
            for other in regions[position + 1 :]:
                yield Cable(
                    near=self._cores[one, 0].port(self._region_ifindex(other)),
                    far=self._cores[other, 0].port(self._region_ifindex(one)),
                    mtu_bytes=CORE_MTU_BYTES,
                    impaired=distances.get((one, other), Both()),
                    names=(f"{one}-{other}", f"{other}-{one}"),
                    subnet="",
                )

    def _region_ifindex(self, region: str) -> int:
        return _FIRST_REGION_IFINDEX + self._places.regions[region]


def _between(one: Station, other: Station, subnet: Subnet, names: tuple[str, ...]) -> Cable:
    ends = (one.end.netns, other.end.netns)
    return Cable(
        near=one.end,
        far=other.end,
        mtu_bytes=min(one.link.mtu_bytes, other.link.mtu_bytes),
        impaired=Both(
            up=chain(one.link.impaired.up, other.link.impaired.down),
            down=chain(other.link.impaired.up, one.link.impaired.down),
        ),
        names=(*names, "-".join(ends), "-".join(reversed(ends))),
        subnet=subnet.name,
        near_station=one,
        far_station=other,
    )


def _port_ifindex(seat: Seat, *, at_core: bool) -> int:
    """Of the port of what the link leads to."""
    if not at_core:
        return _FIRST_LAN_PORT_IFINDEX[seat.kind] + seat.slot
    first = _FIRST_NODE_IFINDEX if seat.kind == "node" else _FIRST_ROUTER_IFINDEX
    return first + seat.slot % LINKS_PER_CORE[seat.kind]


def _host(seat: Seat) -> int:
    """On a LAN nodes count upwards and routers downwards, so that neither moves the other."""
    return (
        addresses.FIRST_HOST + seat.slot if seat.kind == "node" else addresses.LAST_HOST - seat.slot
    )
