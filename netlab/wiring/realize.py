"""From the wiring of a lab to what its keeper must do: facts per namespace, files, rules.

Pure. A Build consists of plain values only, because it travels to another process.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from netlab.keeper import rtnetlink as nl
from netlab.topology import Router
from netlab.wiring import addresses
from netlab.wiring.facts import Address, Bridge, Fact, Neighbour, Port, Route, Up, program
from netlab.wiring.routes import Routes
from netlab.wiring.ruleset import router_ruleset, router_sysctls
from netlab.wiring.wiring import LOOPBACK_IFINDEX, Cable, Core, End, Station, Subnet, Wiring

# Every node's /etc/hosts names all nodes: what that costs grows with the square.
NAMED_NODES_MAX = 256

FORWARDING = (
    ("/proc/sys/net/ipv4/ip_forward", "1"),
    ("/proc/sys/net/ipv6/conf/all/forwarding", "1"),
)
# As systemd has it: an exit that shares the node's interface asks from sockets of a group.
PINGING = (("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),)
# In a LAN of so many everybody knows everybody's MAC; in a larger one that would be too much.
ACQUAINTED_MAX = 16


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace and, for a node, the files that make a machine of it."""

    name: str
    facts: tuple[Fact, ...]
    sysctls: tuple[tuple[str, str], ...] = ()
    ruleset: str = ""
    files: tuple[tuple[str, str], ...] | None = None  # None: not a node


@dataclass(frozen=True, slots=True)
class Build:
    """Namespaces in the order in which their programs run, and the cables between them.

    Nodes come first and what joins them last: a switch whose ports rise one by one floods every
    newcomer's chatter to all that are there already. It is done when all `links` carry and all
    `addresses` receive; the kernel leaves both to its workers.
    """

    namespaces: tuple[Namespace, ...]
    cables: tuple[Cable, ...]
    links: tuple[tuple[str, int], ...]
    addresses: tuple[tuple[str, int, bytes], ...]


def realize(wiring: Wiring) -> Build:
    links = dict.fromkeys(
        link for cable in wiring.cables for link in links_carried_by(cable, wiring)
    )
    return Build(
        namespaces=tuple(_Realizer(wiring).namespaces()),
        cables=wiring.cables,
        links=tuple(links),
        addresses=tuple(_local_addresses(wiring)),
    )


class _Realizer:
    """What the steps share."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._routes = Routes(wiring).by_netns
        self._gateways = {subnet.gateway for subnet in wiring.subnets.values() if subnet.gateway}
        self._hubs: defaultdict[str, list[Cable]] = defaultdict(list)
        for cable in wiring.cables:
            self._hubs[cable.far.netns].append(cable)
            if cable.near_station is None:
                self._hubs[cable.near.netns].append(cable)

    def namespaces(self) -> Iterator[Namespace]:
        wiring = self._wiring
        known = _known_hosts(wiring)
        for node in wiring.topology.nodes:
            yield Namespace(
                name=node.name,
                facts=(*self._station_facts(node.name), *self._routes[node.name]),
                sysctls=(
                    *(FORWARDING if node.name in self._gateways else ()),
                    *(PINGING if node.exit is not None else ()),
                ),
                files=_files(node.name, known=known),
            )
        for router in wiring.topology.routers:
            facts = [*self._station_facts(router.name)]
            facts += self._hub_facts(wiring.subnets[router.name])
            yield Namespace(
                name=router.name,
                facts=(*facts, *self._routes[router.name]),
                sysctls=(*FORWARDING, *router_sysctls(router)),
                ruleset=routers_ruleset(wiring, router),
            )
        for subnet in wiring.subnets.values():
            if subnet.router is None and subnet.end is not None:
                facts = [Up(LOOPBACK_IFINDEX), *self._hub_facts(subnet)]
                yield Namespace(name=subnet.name, facts=tuple(facts))
        for core in wiring.cores:
            facts = [*self._core_facts(core), *self._routes[core.netns]]
            yield Namespace(name=core.netns, facts=tuple(facts), sysctls=FORWARDING)

    def _station_facts(self, owner: str) -> Iterator[Fact]:
        """Up, addresses, default routes and the MACs of gateways and of neighbours on LANs."""
        yield Up(LOOPBACK_IFINDEX)
        for station in self._wiring.stations[owner]:
            yield from _own_addresses(station)
            yield from _default_routes(station)
            if station.on_lan:
                yield from _acquaintances(station, self._wiring.subnets[station.link.to])

    def _hub_facts(self, subnet: Subnet) -> Iterator[Fact]:
        """The LAN's end of its cables: the bridge or, between two, the router's only link."""
        end = subnet.end
        if end is None:
            return
        if subnet.is_switched:
            yield Bridge(end.name, end.ifindex, end.mac)
        yield Up(end.ifindex)
        if subnet.router is not None:
            yield Address(end.ifindex, subnet.ipv4.packed, addresses.LAN_LENGTH_IPV4)
            yield Address(end.ifindex, subnet.ipv6.packed, addresses.LAN_LENGTH_IPV6)
            yield Address(end.ifindex, addresses.FAR_LINK_LOCAL.packed, addresses.LAN_LENGTH_IPV6)
            for station in subnet.stations:
                yield from _neighbours(station, end.ifindex)
        if subnet.is_switched:
            for cable in self._hubs[subnet.name]:
                if cable.subnet == subnet.name:
                    yield Port(cable.far.ifindex, end.ifindex)
                    yield Up(cable.far.ifindex)

    def _core_facts(self, core: Core) -> Iterator[Fact]:
        """One unnumbered link and one host route for each neighbour, blocks to other cores."""
        yield Up(LOOPBACK_IFINDEX)
        yield Address(LOOPBACK_IFINDEX, core.ipv4.packed, addresses.HOST_LENGTH_IPV4)
        yield Address(LOOPBACK_IFINDEX, core.ipv6.packed, addresses.HOST_LENGTH_IPV6)
        cores = {each.netns: each for each in self._wiring.cores}
        for cable in self._hubs[core.netns]:
            if cable.near_station is not None:
                yield from _port_facts(cable.near_station, cable.far.ifindex)
            elif cable.near.netns == core.netns:
                there = cores[cable.far.netns]
                yield from _between_cores(cable.near, cable.far, there, addresses.NEAR_LINK_LOCAL)
            else:
                there = cores[cable.near.netns]
                yield from _between_cores(cable.far, cable.near, there, addresses.FAR_LINK_LOCAL)


def _between_cores(own: End, theirs: End, there: Core, link_local: IPv6Address) -> Iterator[Fact]:
    is_near = link_local == addresses.NEAR_LINK_LOCAL
    their_link_local = addresses.FAR_LINK_LOCAL if is_near else addresses.NEAR_LINK_LOCAL
    yield Up(own.ifindex)
    yield Address(own.ifindex, link_local.packed, addresses.LAN_LENGTH_IPV6)
    yield Neighbour(own.ifindex, there.ipv4.packed, theirs.mac)
    yield Neighbour(own.ifindex, their_link_local.packed, theirs.mac)


def _own_addresses(station: Station) -> Iterator[Fact]:
    ifindex = station.end.ifindex
    yield Up(ifindex)
    lengths = (
        (addresses.LAN_LENGTH_IPV4, addresses.LAN_LENGTH_IPV6)
        if station.on_lan
        else (addresses.HOST_LENGTH_IPV4, addresses.HOST_LENGTH_IPV6)
    )
    if station.ipv4 is not None:
        yield Address(ifindex, station.ipv4.packed, lengths[0])
    if station.ipv6 is not None:
        yield Address(ifindex, station.ipv6.packed, lengths[1])
    if station.link_local is not None:
        yield Address(ifindex, station.link_local.packed, addresses.LAN_LENGTH_IPV6)


def _default_routes(station: Station) -> Iterator[Fact]:
    if station.gateway is None:
        return
    gateways = []
    if station.ipv4 is not None and station.gateway.ipv4 is not None:
        gateways.append(station.gateway.ipv4.packed)
    if station.ipv6 is not None and station.gateway.ipv6 is not None:
        gateways.append(station.gateway.ipv6.packed)
    for gateway in gateways:
        yield Neighbour(station.end.ifindex, gateway, station.gateway.mac)
        yield Route(station.end.ifindex, bytes(len(gateway)), 0, gateway, station.metric)


def _acquaintances(station: Station, subnet: Subnet) -> Iterator[Fact]:
    is_gateway = subnet.router is None and subnet.gateway == station.end.netns
    if not is_gateway and len(subnet.stations) > ACQUAINTED_MAX:
        return
    for other in subnet.stations:
        if other is not station:
            yield from _neighbours(other, station.end.ifindex)


def _port_facts(station: Station, ifindex: int) -> Iterator[Fact]:
    """A core router's end of a cable to this station."""
    yield Up(ifindex)
    yield Address(ifindex, addresses.FAR_LINK_LOCAL.packed, addresses.LAN_LENGTH_IPV6)
    yield from _neighbours(station, ifindex)
    for address in (station.ipv4, station.ipv6):
        if address is not None:
            yield Route(ifindex, address.packed, 8 * len(address.packed))


def _neighbours(station: Station, ifindex: int) -> Iterator[Fact]:
    """The station's MAC, as another end knows it."""
    for address in (station.ipv4, station.ipv6, station.link_local):
        if address is not None:
            yield Neighbour(ifindex, address.packed, station.end.mac)


def links_carried_by(cable: Cable, wiring: Wiring) -> tuple[tuple[str, int], ...]:
    """The links, as (namespace, interface index), whose carrier comes with this cable.

    A bridge is named last: it forwards for a port only when the port's own link carries.
    """
    ends = [cable.near, cable.far]
    if cable.subnet and wiring.subnets[cable.subnet].is_switched:
        ends += filter(None, (wiring.subnets[cable.subnet].end,))
    return tuple((end.netns, end.ifindex) for end in ends)


def unplug(cable: Cable, *, seen_from: End) -> tuple[str, bytes]:
    """That end keeps addresses and routes and sees its carrier go, as with a pulled cable."""
    down = cable.near if seen_from == cable.far else cable.far
    return down.netns, nl.link_down(down.ifindex)


def plug_in(cable: Cable, facts: Mapping[str, tuple[Fact, ...]]) -> Iterator[tuple[str, bytes]]:
    """What mends a cable, whichever end is down: a link that goes down loses most of its facts."""
    ends = [cable.far] if cable.far_station is None else [cable.near, cable.far]
    for end in ends:
        mended = (each for each in facts[end.netns] if each.ifindex == end.ifindex)
        yield end.netns, program(mended)


def _local_addresses(wiring: Wiring) -> Iterator[tuple[str, int, bytes]]:
    """All IPv6 addresses that somebody may send to."""
    for core in wiring.cores:
        yield core.netns, LOOPBACK_IFINDEX, core.ipv6.packed
    for stations in wiring.stations.values():
        for station in stations:
            for address in (station.ipv6, station.link_local):
                if address is not None:
                    yield station.end.netns, station.end.ifindex, address.packed
    for subnet in wiring.subnets.values():
        if subnet.router is not None and subnet.end is not None:
            yield subnet.end.netns, subnet.end.ifindex, subnet.ipv6.packed


def _known_hosts(wiring: Wiring) -> str:
    """The lines of /etc/hosts by which every node knows the others; none in a big lab."""
    if len(wiring.topology.nodes) > NAMED_NODES_MAX:
        return ""
    return "".join(
        f"{address} {node.name}\n"
        for node in wiring.topology.nodes
        for station in wiring.stations[node.name]
        for address in (station.ipv4, station.ipv6)
        if address is not None
    )


def _files(hostname: str, *, known: str) -> tuple[tuple[str, str], ...]:
    own = "" if known else f" {hostname}"
    return (
        ("/etc/hostname", f"{hostname}\n"),
        ("/etc/hosts", f"127.0.0.1 localhost{own}\n::1 localhost{own}\n{known}"),
        ("/etc/resolv.conf", "# no resolver in this lab\n"),
    )


def routers_ruleset(wiring: Wiring, router: Router, *, boot: int = 0) -> str:
    """`boot`: how often it has been started again, which changes the ports that it draws."""
    uplink = wiring.stations[router.name][0]
    # Routers of one lab draw different ports, two runs of a lab the same ones.
    drawn_from = f"{wiring.topology.seed}/{router.name}/{boot}"
    seed = zlib.crc32(drawn_from.encode())
    return router_ruleset(router, address=uplink.ipv4, seed=seed)
