"""From the wiring of a lab to what its keeper must do: messages per namespace, files, rules.

Pure. A Build consists of plain values only, because it travels to another process.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from netlab.keeper import rtnetlink as nl
from netlab.topology import INTERNET, Router
from netlab.wiring.ruleset import router_ruleset, router_sysctls
from netlab.wiring.wiring import (
    BRIDGE_IFINDEX,
    GATEWAY_LINK_LOCAL,
    INTERNET_IPV4,
    INTERNET_IPV6,
    Cable,
    Subnet,
    Wiring,
    routed_through,
)

LOOPBACK_IFINDEX = 1
FORWARDING = (
    ("/proc/sys/net/ipv4/ip_forward", "1"),
    ("/proc/sys/net/ipv6/conf/all/forwarding", "1"),
)


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace and, for a node, the files that make a machine of it."""

    name: str
    program: bytes
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
    topology = wiring.topology
    nodes = (
        Namespace(
            name=node.name,
            program=b"".join(_node_program(wiring.cables_of(node.name))),
            files=_files(node.name),
        )
        for node in topology.nodes
    )
    lans = (_lan(wiring, subnet) for subnet in wiring.subnets)
    internet = Namespace(
        name=INTERNET, program=b"".join(_internet_program(wiring)), sysctls=FORWARDING
    )
    links = dict.fromkeys(link for cable in wiring.cables for link in links_carried_by(cable))
    return Build(
        namespaces=(*nodes, *lans, internet),
        cables=wiring.cables,
        links=tuple(links),
        addresses=tuple(_local_addresses(wiring)),
    )


def _files(hostname: str) -> tuple[tuple[str, str], ...]:
    hosts = f"127.0.0.1 localhost {hostname}\n::1 localhost {hostname}\n"
    return (
        ("/etc/hostname", f"{hostname}\n"),
        ("/etc/hosts", hosts),
        ("/etc/resolv.conf", "# no resolver in this lab\n"),
    )


def _node_program(cables: tuple[Cable, ...]) -> Iterator[bytes]:
    yield nl.link_up(LOOPBACK_IFINDEX)
    for cable in cables:
        yield from _near_program(cable)


def _near_program(cable: Cable) -> Iterator[bytes]:
    """Up, addresses, default routes and the gateway's MAC, at a node or a router's uplink."""
    ifindex = cable.near.ifindex
    yield nl.no_generated_addresses(ifindex)
    yield nl.link_up(ifindex)
    for interface in (cable.ipv4, cable.ipv6, cable.link_local):
        if interface is not None:
            yield nl.address(
                ifindex, packed=interface.packed, prefix_length=interface.network.prefixlen
            )
    if cable.subnet is None or cable.subnet.has_gateway:
        yield from _default_routes(cable)


def _default_routes(cable: Cable) -> Iterator[bytes]:
    gateways = []
    if cable.ipv4 is not None:
        gateways.append(cable.gateway_ipv4.packed)
    if cable.ipv6 is not None:
        gateways.append(GATEWAY_LINK_LOCAL.packed)
    for gateway in gateways:
        yield nl.neighbour(cable.near.ifindex, packed=gateway, mac=cable.gateway_mac)
        yield nl.route(
            cable.near.ifindex,
            destination=bytes(len(gateway)),
            prefix_length=0,
            gateway=gateway,
            metric=cable.metric,
        )


def _lan(wiring: Wiring, subnet: Subnet) -> Namespace:
    router = subnet.router
    program = b"".join(_lan_program(wiring, subnet))
    if router is None:
        return Namespace(name=subnet.netns, program=program)
    return Namespace(
        name=subnet.netns,
        program=program,
        sysctls=(*FORWARDING, *router_sysctls(router)),
        ruleset=routers_ruleset(wiring, router),
    )


def routers_ruleset(wiring: Wiring, router: Router, *, boot: int = 0) -> str:
    """`boot`: how often it has been started again, which changes the ports that it draws."""
    uplink = wiring.cables_of(router.name)[0]
    # Routers of one lab draw different ports, two runs of a lab the same ones.
    drawn_from = f"{wiring.topology.seed}/{router.name}/{boot}"
    return router_ruleset(
        router,
        address=uplink.ipv4.ip if uplink.ipv4 else None,
        seed=zlib.crc32(drawn_from.encode()),
    )


def _lan_program(wiring: Wiring, subnet: Subnet) -> Iterator[bytes]:
    bridge = subnet.bridge
    yield nl.link_up(LOOPBACK_IFINDEX)
    for cable in wiring.cables_of(subnet.netns):
        yield from _near_program(cable)
    yield nl.bridge(name=bridge.name, ifindex=bridge.ifindex, mac=bridge.mac)
    yield nl.no_generated_addresses(bridge.ifindex)
    yield nl.link_up(bridge.ifindex)
    if subnet.has_gateway:
        yield from _gateway_addresses(subnet)
    for cable in wiring.cables_at(subnet.netns):
        yield from plug_in(cable)


def _gateway_addresses(subnet: Subnet) -> Iterator[bytes]:
    for address, length in (
        (subnet.ipv4.packed, subnet.ipv4.network.prefixlen),
        (subnet.ipv6.packed, subnet.ipv6.network.prefixlen),
        (GATEWAY_LINK_LOCAL.packed, 64),
    ):
        yield nl.address(BRIDGE_IFINDEX, packed=address, prefix_length=length)


def _internet_program(wiring: Wiring) -> Iterator[bytes]:
    """A router without a LAN: one unnumbered link and one host route for each neighbour."""
    yield nl.link_up(LOOPBACK_IFINDEX)
    yield nl.address(LOOPBACK_IFINDEX, packed=INTERNET_IPV4.packed, prefix_length=32)
    yield nl.address(LOOPBACK_IFINDEX, packed=INTERNET_IPV6.packed, prefix_length=128)
    subnets = {subnet.netns: subnet for subnet in wiring.subnets}
    for cable in wiring.cables_at(INTERNET):
        yield from plug_in(cable, behind=subnets.get(cable.near.netns))


def plug_in(cable: Cable, *, behind: Subnet | None = None) -> Iterator[bytes]:
    """The far end's part of a cable. Safe to repeat: it mends a link that was down."""
    if cable.subnet is not None:
        yield from _plug_into_lan(cable, cable.subnet)
        return
    ifindex = cable.far.ifindex
    yield nl.no_generated_addresses(ifindex)
    yield nl.link_up(ifindex)
    yield nl.address(ifindex, packed=GATEWAY_LINK_LOCAL.packed, prefix_length=64)
    yield from _neighbours(cable, ifindex)
    for interface in (cable.ipv4, cable.ipv6):
        if interface is not None:
            length = interface.network.prefixlen
            yield nl.route(ifindex, destination=interface.ip.packed, prefix_length=length)
    if behind is not None:
        yield from _routes_behind(cable, behind)


def _plug_into_lan(cable: Cable, subnet: Subnet) -> Iterator[bytes]:
    yield nl.no_generated_addresses(cable.far.ifindex)
    yield nl.link_master(cable.far.ifindex, master=subnet.bridge.ifindex)
    yield nl.link_up(cable.far.ifindex)
    if subnet.has_gateway:
        yield from _neighbours(cable, subnet.bridge.ifindex)


def _neighbours(cable: Cable, ifindex: int) -> Iterator[bytes]:
    for interface in (cable.ipv4, cable.ipv6, cable.link_local):
        if interface is not None:
            yield nl.neighbour(ifindex, packed=interface.ip.packed, mac=cable.near.mac)


def _routes_behind(cable: Cable, subnet: Subnet) -> Iterator[bytes]:
    if subnet.router is None or cable.ipv4 is None or cable.link_local is None:
        return
    for network in routed_through(subnet.router, subnet=subnet):
        gateway = cable.ipv4.ip if network.version == 4 else cable.link_local.ip
        yield nl.route(
            cable.far.ifindex,
            destination=network.network_address.packed,
            prefix_length=network.prefixlen,
            gateway=gateway.packed,
        )


def links_carried_by(cable: Cable) -> tuple[tuple[str, int], ...]:
    """The links, as (namespace, interface index), whose carrier comes with this cable.

    A bridge is named last: it forwards for a port only when the port's own link carries.
    """
    ends = [cable.near, cable.far]
    if cable.subnet is not None:
        ends.append(cable.subnet.bridge)
    return tuple((end.netns, end.ifindex) for end in ends)


def _local_addresses(wiring: Wiring) -> Iterator[tuple[str, int, bytes]]:
    """All IPv6 addresses that somebody may send to."""
    yield INTERNET, LOOPBACK_IFINDEX, INTERNET_IPV6.packed
    for cable in wiring.cables:
        for interface in (cable.ipv6, cable.link_local):
            if interface is not None:
                yield cable.near.netns, cable.near.ifindex, interface.packed
    for subnet in wiring.subnets:
        if subnet.has_gateway:
            yield subnet.netns, subnet.bridge.ifindex, subnet.ipv6.packed


def unplug(cable: Cable) -> bytes:
    """The near end keeps addresses and routes and sees its carrier go, as with a pulled cable."""
    return nl.link_down(cable.far.ifindex)
