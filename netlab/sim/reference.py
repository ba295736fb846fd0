"""What has to come out, said simply: who is a member, who can reach whom, who keeps a way open.

Knows the scenario and where everybody is now; of documents, peers and paths it knows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from netlab.sim.agent import Agent
from netlab.sim.internet import Site
from netlab.sim.world import World

Pair = tuple[int, int, int]  # network, source, target


class Reference:
    """Answers about a world that has become quiet."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._agents = world.agents

    def is_informed(self, node: int) -> bool:
        """The registry can tell the node everything, and hears everything from it."""
        return self._world.reaches_registry(self._agents[node])

    def members(self, network: int) -> dict[int, int]:
        """The members' indexes."""
        return self._world.tenants[network].indexes

    def informed(self, network: int) -> list[int]:
        return [node for node in self.members(network) if self.is_informed(node)]

    def prefixes(self, network: int, node: int) -> set[str]:
        """IPv4 of what is behind a member: its own subnet, and those of its access devices."""
        tenant = self._world.tenants[network]
        behind = [tenant.indexes[node], *(i for i, via in tenant.access.items() if via == node)]
        return {f"10.{index >> 8}.{index & 255}.0/24" for index in behind}

    def pairs(self, network: int) -> Iterator[Pair]:
        """Members of whom each has to reach the other: one of them can be called by the other."""
        nodes = self.informed(network)
        for n, left in enumerate(nodes):
            for right in nodes[n + 1 :]:
                if self.calls(left, right) or self.calls(right, left):
                    yield network, left, right

    def calls(self, source: int, target: int) -> bool:
        """Whether a first packet of the source can come to the target at what it offers."""
        here, there = self._agents[source].host, self._agents[target].host
        v4, v6 = bool(here.v4 and there.v4), bool(here.v6 and there.v6)
        if here.site is there.site:
            return v4 or v6
        if here.site.side != there.site.side:
            return False
        return (v4 and self._is_open_v4(self._agents[target])) or (v6 and there.site.flows is None)

    def _is_open_v4(self, agent: Agent) -> bool:
        return agent.host.site.nat is None or self._is_forwarded(agent)

    def _is_forwarded(self, agent: Agent) -> bool:
        """Its operator's port forwarding is where the node is, and where it is said to be."""
        nat, own = agent.host.site.nat, agent.host.v4
        if nat is None or own is None:
            return False
        told = {e.port for e in agent.declared if e.address == agent.host.site.wan}
        return any(nat.forwards.get(port, ("", 0))[0] == own for port in told)

    def keeps_open(self, source: int, target: int) -> bool:
        """Whether the source sends keepalives to the target: hidden to declared, and no others."""
        return bool(self._agents[target].declared) and not self._agents[source].declared

    def exits(self, network: int) -> dict[int, int]:
        """The orders of the exits that know that they are one."""
        exits = self._world.tenants[network].exits
        return {node: order for node, order in exits.items() if self.is_informed(node)}

    def surely_calls(self, source: int, target: int) -> bool:
        """Whether the target is where its operator says, and the source gets there by itself."""
        return self.calls(source, target) and self._is_declared_right(target, source)

    def called_back(self, network: int) -> Iterator[Pair]:
        """Declared members that are where they are said to be, and who is hidden from them."""
        nodes = self.informed(network)
        for target in nodes:
            if self._agents[target].declared:
                continue
            for source in nodes:
                if self._agents[source].declared and self._is_declared_right(source, target):
                    yield network, source, target

    def _is_declared_right(self, node: int, caller: int) -> bool:
        agent = self._agents[node]
        mine = {*agent.host.addresses}
        for endpoint in agent.declared:
            reached = self._families(caller, node) & {endpoint.family}
            is_here = endpoint.address in mine or (
                endpoint.family == 4 and self._is_forwarded(agent)
            )
            if reached and is_here:
                return self._sides(caller) == self._sides(node)
        return False

    def _families(self, left: int, right: int) -> set[int]:
        here, there = self._agents[left].host, self._agents[right].host
        return {family for family in (4, 6) if _has(here.site, family) and _has(there.site, family)}

    def _sides(self, node: int) -> int:
        return self._agents[node].host.site.side


def _has(site: Site, family: int) -> bool:
    return site.has_v4 if family == 4 else site.has_v6
