"""Which address, MAC, interface index and peer every cable of a lab has.

Pure and free of choice: the same topology always gives the same wiring, so captures and logs of
two runs compare. Public addresses come from ranges that are nobody's (RFC 2544, RFC 3849).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from netlab.topology import INTERNET, Link, Router, Topology

INTERNET_IPV4 = IPv4Address("198.18.0.1")
INTERNET_IPV6 = IPv6Address("2001:db8::1")
_NODES_IPV4 = IPv4Address("198.18.1.0")
_NODES_IPV6 = IPv6Address("2001:db8::1:0")
_ROUTERS_IPV4 = IPv4Address("198.19.1.0")
_ROUTERS_IPV6 = IPv6Address("2001:db8::2:0")
_LANS_IPV4 = IPv4Address("192.168.0.0")
_LANS_IPV6 = IPv6Address("2001:db8:1::")
_LINK_LOCAL = IPv6Address("fe80::")

GATEWAY_LINK_LOCAL = _LINK_LOCAL + 1
_FIRST_HOST = 10

WAN = "wan"
LAN = "lan"
WAN_IFINDEX = 2
BRIDGE_IFINDEX = 3
_FIRST_LINK_IFINDEX = 2
_FIRST_PORT_IFINDEX = 10

FIRST_METRIC = 100


@dataclass(frozen=True, slots=True)
class End:
    """One end of a cable."""

    netns: str
    name: str
    ifindex: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Subnet:
    """The LAN of a router, or one without: a bridge, and the addresses behind it."""

    netns: str
    bridge: End
    ipv4: IPv4Interface  # the gateway's, where there is one
    ipv6: IPv6Interface
    router: Router | None

    @property
    def has_gateway(self) -> bool:
        return self.router is not None


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair: `near` in a node (or a router's uplink), `far` at what it leads to."""

    near: End
    far: End
    mtu_bytes: int
    ipv4: IPv4Interface | None
    ipv6: IPv6Interface | None
    link_local: IPv6Interface | None
    subnet: Subnet | None  # None: straight to the internet
    metric: int

    @property
    def gateway_mac(self) -> bytes:
        return self.subnet.bridge.mac if self.subnet else self.far.mac

    @property
    def gateway_ipv4(self) -> IPv4Address:
        return self.subnet.ipv4.ip if self.subnet else INTERNET_IPV4


@dataclass(frozen=True, slots=True)
class Wiring:
    """All cables of a lab in order of declaration: nodes first, then the routers' uplinks."""

    topology: Topology
    subnets: tuple[Subnet, ...]
    cables: tuple[Cable, ...]

    def cables_of(self, name: str) -> tuple[Cable, ...]:
        return tuple(cable for cable in self.cables if cable.near.netns == name)

    def cables_at(self, name: str) -> tuple[Cable, ...]:
        return tuple(cable for cable in self.cables if cable.far.netns == name)


def wire(topology: Topology) -> Wiring:
    numbers = _number_namespaces(topology)
    subnets = tuple(_subnets(topology, numbers=numbers))
    cables = tuple(_cables(topology, subnets=subnets, numbers=numbers))
    return Wiring(topology=topology, subnets=subnets, cables=cables)


def _number_namespaces(topology: Topology) -> dict[str, int]:
    names = [INTERNET, *(node.name for node in topology.nodes)]
    names += (router.name for router in topology.routers)
    names += (lan.name for lan in topology.lans)
    return {name: number for number, name in enumerate(names)}


def _mac(netns_number: int, ifindex: int) -> bytes:
    """Locally administered; readable: namespace and interface are in it."""
    return b"\x02\x6c" + netns_number.to_bytes(2, "big") + ifindex.to_bytes(2, "big")


def _end(numbers: dict[str, int], *, netns: str, name: str, ifindex: int) -> End:
    return End(netns=netns, name=name, ifindex=ifindex, mac=_mac(numbers[netns], ifindex))


def _subnets(topology: Topology, *, numbers: dict[str, int]) -> Iterator[Subnet]:
    routers: list[tuple[str, Router | None]] = [(each.name, each) for each in topology.routers]
    lans: list[tuple[str, Router | None]] = [(each.name, None) for each in topology.lans]
    for number, (name, router) in enumerate((*routers, *lans), start=1):
        yield Subnet(
            netns=name,
            bridge=_end(numbers, netns=name, name=LAN, ifindex=BRIDGE_IFINDEX),
            ipv4=IPv4Interface((_LANS_IPV4 + (number << 8) + 1, 24)),
            ipv6=IPv6Interface((_LANS_IPV6 + (number << 64) + 1, 64)),
            router=router,
        )


def _cables(
    topology: Topology, *, subnets: tuple[Subnet, ...], numbers: dict[str, int]
) -> Iterator[Cable]:
    by_name = {subnet.netns: subnet for subnet in subnets}
    ports: Counter[str] = Counter()

    def port(hub: str) -> End:
        ports[hub] += 1
        ifindex = _FIRST_PORT_IFINDEX + ports[hub] - 1
        return _end(numbers, netns=hub, name=f"p{ports[hub]}", ifindex=ifindex)

    for node in topology.nodes:
        for position, link in enumerate(node.links):
            ifindex = _FIRST_LINK_IFINDEX + position
            yield _node_cable(
                link,
                near=_end(numbers, netns=node.name, name=link.name, ifindex=ifindex),
                far=port(link.to),
                subnet=by_name.get(link.to),
                number=ports[link.to],
                metric=FIRST_METRIC + position,
            )
    for number, router in enumerate(topology.routers, start=1):
        near = _end(numbers, netns=router.name, name=WAN, ifindex=WAN_IFINDEX)
        yield _uplink(router, near=near, far=port(INTERNET), number=number)


def _node_cable(
    link: Link, *, near: End, far: End, subnet: Subnet | None, number: int, metric: int
) -> Cable:
    host = _FIRST_HOST + number - 1
    if subnet is None:
        ipv4 = IPv4Interface((_NODES_IPV4 + number, 32))
        ipv6 = IPv6Interface((_NODES_IPV6 + number, 128))
    else:
        ipv4 = IPv4Interface((subnet.ipv4.network.network_address + host, 24))
        ipv6 = IPv6Interface((subnet.ipv6.network.network_address + host, 64))
    return Cable(
        near=near,
        far=far,
        mtu_bytes=link.mtu_bytes,
        ipv4=ipv4 if link.ipv4 else None,
        ipv6=ipv6 if link.ipv6 else None,
        link_local=IPv6Interface((_LINK_LOCAL + host, 64)) if link.ipv6 else None,
        subnet=subnet,
        metric=metric,
    )


def _uplink(router: Router, *, near: End, far: End, number: int) -> Cable:
    return Cable(
        near=near,
        far=far,
        mtu_bytes=router.uplink.mtu_bytes,
        ipv4=IPv4Interface((_ROUTERS_IPV4 + number, 32)),
        ipv6=IPv6Interface((_ROUTERS_IPV6 + number, 128)),
        link_local=IPv6Interface((_LINK_LOCAL + _FIRST_HOST, 64)),
        subnet=None,
        metric=FIRST_METRIC,
    )


def routed_through(router: Router, *, subnet: Subnet) -> tuple[IPv4Network | IPv6Network, ...]:
    """The prefixes that the internet reaches through a router."""
    if router.nat is None:
        return (subnet.ipv4.network, subnet.ipv6.network)
    return (subnet.ipv6.network,)
