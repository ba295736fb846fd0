"""A model of what the kernel does with a lab's facts: follows a packet from netns to netns."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from netlab.wiring.facts import Address, Bridge, Neighbour, Port, Route, Unreachable
from netlab.wiring.realize import realize
from netlab.wiring.wiring import Wiring

HOPS_MAX = 64


class Lost(Exception):
    """Where the packet went no further, and why."""


class Network:
    def __init__(self, wiring: Wiring) -> None:
        build = realize(wiring)
        self._facts = {each.name: each.facts for each in build.namespaces}
        self.forwards = {each.name for each in build.namespaces if each.sysctls}
        self._macs = {}
        self._segments: defaultdict[tuple[str, int], set[tuple[str, int]]] = defaultdict(set)
        bridges = {}
        for netns, facts in self._facts.items():
            for fact in facts:
                if isinstance(fact, Port):
                    bridges[netns, fact.ifindex] = (netns, fact.bridge)
                if isinstance(fact, Bridge):
                    self._macs[netns, fact.ifindex] = fact.mac
        on_bridge = defaultdict(set)
        for cable in wiring.cables:
            ends = [(end.netns, end.ifindex) for end in (cable.near, cable.far)]
            self._macs |= {(end.netns, end.ifindex): end.mac for end in (cable.near, cable.far)}
            if ends[1] in bridges:
                on_bridge[bridges[ends[1]]].add(ends[0])
            else:
                self._segments[ends[0]].add(ends[1])
                self._segments[ends[1]].add(ends[0])
        for bridge, members in on_bridge.items():
            everybody = {bridge, *members}
            for each in everybody:
                self._segments[each] |= everybody - {each}

    def path(self, source: str, target: str) -> list[str]:
        """The namespaces that a packet to this address passes. Raises Lost."""
        address = ip_address(target)
        passed = [source]
        while not self._has(passed[-1], address):
            if len(passed) > 1 and passed[-1] not in self.forwards:
                raise Lost(f"{passed[-1]} does not forward")
            if len(passed) > HOPS_MAX:
                raise Lost(f"going round: {passed[-4:]}")
            passed.append(self._next(passed[-1], address))
        return passed

    def _has(self, netns: str, address: IPv4Address | IPv6Address) -> bool:
        return any(
            isinstance(fact, Address) and fact.packed == address.packed
            for fact in self._facts[netns]
        )

    def _next(self, netns: str, address: IPv4Address | IPv6Address) -> str:
        routes = []
        for fact in self._facts[netns]:
            if isinstance(fact, Address):
                net = ip_network((fact.packed, fact.prefix_length), strict=False)
                route = Route(fact.ifindex, net.network_address.packed, fact.prefix_length)
            elif isinstance(fact, Route | Unreachable):
                route, net = fact, ip_network((fact.destination, fact.prefix_length))
            else:
                continue
            if net.version == address.version and address in net:
                routes.append(route)
        if not routes:
            raise Lost(f"{netns} has no route")
        best = min(routes, key=lambda each: (-each.prefix_length, getattr(each, "metric", 0)))
        if isinstance(best, Unreachable):
            raise Lost(f"{netns}: unreachable")
        hop = best.gateway or address.packed
        return self._neighbour(netns, best.ifindex, hop)

    def _neighbour(self, netns: str, ifindex: int, hop: bytes) -> str:
        for other, index in self._segments[netns, ifindex]:
            for fact in self._facts.get(other, ()):
                loopback = fact.ifindex == 1 and not self._is_numbered(other, index)
                if (
                    isinstance(fact, Address)
                    and fact.packed == hop
                    and (fact.ifindex == index or loopback)
                ):
                    self._check_mac(netns, ifindex, hop, self._macs[other, index])
                    return other
        raise Lost(f"{netns}: nobody at interface {ifindex} is {ip_address(hop)}")

    def _is_numbered(self, netns: str, ifindex: int) -> bool:
        return any(
            isinstance(fact, Address) and fact.ifindex == ifindex and len(fact.packed) == 4
            for fact in self._facts[netns]
        )

    def _check_mac(self, netns: str, ifindex: int, hop: bytes, mac: bytes) -> None:
        for fact in self._facts[netns]:
            if isinstance(fact, Neighbour) and (fact.ifindex, fact.packed) == (ifindex, hop):
                assert fact.mac == mac, f"{netns} has a wrong MAC for {ip_address(hop)}"
