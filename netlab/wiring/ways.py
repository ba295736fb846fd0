"""Which way out of a LAN leads where: gateways, and the links by which those reach further up.

Over names only, because a topology is asked before it is known to be valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from netlab.topology import WAN, Draft, Link
from netlab.wiring.places import LinkId

Version = Literal[4, 6]


class Ways:
    """Looked up once for all questions about one topology."""

    def __init__(self, topology: Draft) -> None:
        self._regions = {region.name for region in topology.regions}
        self._uplinks = {router.name: router.uplink for router in topology.routers}
        self._gateways = {lan.name: lan.gateway for lan in topology.lans if lan.gateway}
        wanted = set(self._gateways.values())
        self._links = {node.name: node.links for node in topology.nodes if node.name in wanted}

    def gateway_of(self, place: str, version: Version) -> str:
        """The router or node that leads out of this LAN; empty when nothing does."""
        if place in self._uplinks:
            return place
        owner = self._gateways.get(place, "")
        for link in self._links.get(owner, ()):
            if link.to == place:
                return owner if _carries(link, version) else ""
        return ""

    def up_from(self, owner: str, version: Version) -> tuple[LinkId, Link] | None:
        """The link over which a gateway sends what it has no route for."""
        if owner in self._uplinks:
            uplink = self._uplinks[owner]
            return ((owner, WAN), uplink) if _carries(uplink, version) else None
        for link in self._links.get(owner, ()):
            if _carries(link, version) and self._leads_on(link.to, owner, version):
                return (owner, link.name), link
        return None

    def cycles(self) -> Iterator[tuple[str, ...]]:
        """LANs of which each leads out by way of the next and the last by way of the first."""
        seen: set[tuple[str, Version]] = set()
        for version in (4, 6):
            for start in (*self._uplinks, *self._gateways):
                path: dict[str, None] = {}
                place = start
                while place and place not in path and (place, version) not in seen:
                    path[place] = None
                    place = self._next(place, version)
                if place in path:
                    names = tuple(path)
                    yield names[names.index(place) :]
                seen.update((each, version) for each in path)

    def _next(self, place: str, version: Version) -> str:
        up = self.up_from(self.gateway_of(place, version), version)
        return up[1].to if up is not None else ""

    def _leads_on(self, place: str, owner: str, version: Version) -> bool:
        return place in self._regions or self.gateway_of(place, version) not in ("", owner)


def _carries(link: Link, version: Version) -> bool:
    return link.ipv4 if version == 4 else link.ipv6
