"""A whole world: sites, nodes, tenants and a registry, and what happens to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial, singledispatchmethod

from netlab.sim import scenario as says
from netlab.sim.agent import FIRST_PORT, Agent
from netlab.sim.chance import Chance
from netlab.sim.clock import Timeline
from netlab.sim.directory import Delivery, Directory, Record, seal
from netlab.sim.internet import Host, Internet
from netlab.sim.resource import Resource, Surroundings
from netlab.sim.scenario import Scenario, Transition
from netlab.sim.surfer import Surfer
from netlab.sim.tenant import Tenant
from netlab.sim.uplink import Uplink
from netlab.sim.wireguard import Device
from overlay.model import Endpoint, WgPublicKey

START_S = 5.0  # in which the tenants publish their first documents
REGISTRY_S = 0.005
STRAGGLE = 0.05  # of the deliveries take up to STRAGGLE_S
STRAGGLE_S = 3.0
AT_ONCE_S = 0.5  # after a start nothing is waited for
RECONNECT_S = 30.0  # the longest wait of a node's backoff
FORWARDED = 8  # ports that the operator of a declared node forwards
PORTS_APART = 50  # 250 hosts at a site, below 65 536


class World:
    """What a scenario makes of the real decisions. `chance_of` gives a generator for each name."""

    def __init__(self, scenario: Scenario, *, chance_of: Callable[[str], Chance]) -> None:
        self.scenario = scenario
        self.timeline = Timeline()
        self.internet = Internet(scenario.sites)
        self.shared = Surroundings(self.timeline, self.internet)
        self.directory = Directory()
        self._offered = _offered(scenario)
        self.surfers: dict[tuple[int, int], Surfer] = {}  # network, node
        self.agents = {
            node.number: self._new_agent(node, chance_of(f"node {node.number}"))
            for node in scenario.nodes
        }
        self._by_id: dict[str, Agent] = {agent.id: agent for agent in self.agents.values()}
        self.tenants = {network.number: _tenant(network) for network in scenario.networks}
        self._unpublished: set[int] = set()  # tenants with something to say
        self._away: dict[int, Callable[[], None]] = {}  # who comes back, and how
        for agent in self.agents.values():
            self._reconnect(agent, 0.0)
        for number, tenant in self.tenants.items():
            after_s = START_S * chance_of(f"network {number}").random()
            self.timeline.after(after_s, self._publish_network, tenant)
        for transition in scenario.transitions:
            self.timeline.after(transition.at, self.happen, transition)

    def _new_agent(self, node: says.Node, chance: Chance) -> Agent:
        host = self.internet.add(node, chance=chance)
        return Agent(
            host,
            declared=tuple(_declared(host)) if node.declared else (),
            uplink=Uplink(host.site.spec.families) if node.number in self._offered else None,
            world=self.shared,
            on_publish=self._send_out,
        )

    def resource(self, network: int, node: int) -> Resource | None:
        return self.agents[node].resources.get(self.tenants[network].id)

    def ends(self, network: int, source: int, target: int) -> tuple[Device, WgPublicKey] | None:
        """By which device one member sends to which key of another; None when one is no member."""
        here, there = self.resource(network, source), self.resource(network, target)
        return None if here is None or there is None else (here.device, there.device.key)

    # The registry.

    def reaches_registry(self, agent: Agent) -> bool:
        return self.directory.is_up and agent.is_awake and agent.host.site.side % 2 == 0

    def _reconsider(self, agents: Iterable[Agent]) -> None:
        """Connections end with what they went over, and are tried again when it is back."""
        for agent in agents:
            if not self.reaches_registry(agent):
                agent.is_connected = False
                agent.inbox.clear()
            elif not agent.is_connected:
                self._reconnect(agent, RECONNECT_S)

    def _reconnect(self, agent: Agent, most_s: float) -> None:
        self.timeline.after(most_s * agent.host.chance.random(), self._connect, agent)

    def _connect(self, agent: Agent) -> None:
        if agent.is_connected or not self.reaches_registry(agent):
            return
        agent.is_connected = True
        for record in self.directory.news(agent.id, after=agent.revision):
            self._deliver(agent, record)
        self._send_out(agent)

    def _tell(self, deliveries: Iterable[Delivery]) -> None:
        for audience, record in deliveries:
            for node in audience:
                agent = self._by_id[node]
                if agent.is_connected:
                    self._deliver(agent, record)

    def _deliver(self, agent: Agent, record: Record) -> None:
        if not agent.inbox:
            delay_s = REGISTRY_S + agent.host.site.delay_s
            if agent.host.chance.random() < STRAGGLE:
                delay_s += STRAGGLE_S * agent.host.chance.random()
            self.timeline.after(delay_s, self._hand_over, agent)
        agent.inbox.append(record)

    def _hand_over(self, agent: Agent) -> None:
        batch, agent.inbox = agent.inbox, []
        if batch:
            agent.take([record.verified for record in batch])
            agent.revision = max(agent.revision, *[record.revision for record in batch])

    def _send_out(self, agent: Agent) -> None:
        for key in agent.outbox if agent.is_connected else ():
            delay_s = REGISTRY_S + agent.host.site.delay_s
            self.timeline.after(delay_s, self._arrive, agent, key)

    def _arrive(self, agent: Agent, key: str) -> None:
        if agent.is_connected and (verified := agent.outbox.pop(key, None)) is not None:
            self._tell(self.directory.put(verified))

    def _publish_network(self, tenant: Tenant) -> None:
        if self.directory.is_up:
            self._tell(self.directory.put(seal(tenant.document())))
        else:
            self._unpublished.add(tenant.number)

    # What happens.

    @singledispatchmethod
    def happen(self, transition: Transition) -> None:
        raise AssertionError(f"{transition} happens to nobody")

    @happen.register
    def _(self, join: says.Join) -> None:
        self._change(join.network, changed=self.tenants[join.network].join(join.node))

    @happen.register
    def _(self, leave: says.Leave) -> None:
        self._change(leave.network, changed=self.tenants[leave.network].leave(leave.node))

    @happen.register
    def _(self, grant: says.Grant) -> None:
        self._change(grant.network, changed=self.tenants[grant.network].grant(grant.node))

    @happen.register
    def _(self, withdraw: says.Withdraw) -> None:
        tenant = self.tenants[withdraw.network]
        self._change(withdraw.network, changed=tenant.withdraw(withdraw.node))

    def _change(self, network: int, *, changed: bool) -> None:
        if changed:
            self._publish_network(self.tenants[network])

    @happen.register
    def _(self, roam: says.Roam) -> None:
        agent = self.agents[roam.node]
        if self.internet.sites[roam.site] is agent.host.site:
            return
        self.internet.move(agent.host, roam.site)
        if agent.is_awake:
            agent.note_move()
        self._reconsider((agent,))

    @happen.register
    def _(self, split: says.Split) -> None:
        for site in split.sites:
            self.internet.sites[site].side = split.side
        touched = {self.internet.sites[site] for site in split.sites}
        self._reconsider(a for a in self.agents.values() if a.host.site in touched)

    @happen.register
    def _(self, outage: says.Outage) -> None:
        self.directory.is_up = False
        self._reconsider(self.agents.values())
        self.timeline.after(outage.seconds, self._restore)

    def _restore(self) -> None:
        if self.directory.is_up:
            return
        self.directory.is_up = True
        waiting, self._unpublished = sorted(self._unpublished), set()
        for network in waiting:
            self._publish_network(self.tenants[network])
        self._reconsider(self.agents.values())

    @happen.register
    def _(self, forget: says.Forget) -> None:
        self.internet.sites[forget.site].reboot()

    @happen.register
    def _(self, renumber: says.Renumber) -> None:
        self.internet.renumber(renumber.site)

    @happen.register
    def _(self, restart: says.Restart) -> None:
        agent = self.agents[restart.node]
        if agent.is_awake:
            agent.stop(with_devices=restart.reboot)
            self._send_away(agent, partial(agent.start, reboot=restart.reboot), restart.seconds)

    @happen.register
    def _(self, sleep: says.Sleep) -> None:
        agent = self.agents[sleep.node]
        if agent.is_awake:
            agent.stop(with_devices=True)
            self._send_away(agent, agent.wake, sleep.seconds)

    def _send_away(self, agent: Agent, come_back: Callable[[], None], seconds: float) -> None:
        self._away[agent.number] = come_back
        self._reconsider((agent,))
        self.timeline.after(seconds, self._bring_back, agent.number)

    def _bring_back(self, number: int) -> None:
        if (come_back := self._away.pop(number, None)) is not None:
            come_back()
            agent = self.agents[number]
            self._reconnect(agent, AT_ONCE_S)

    @happen.register
    def _(self, flow: says.Flow) -> None:
        self.ask(flow.network, flow.source, flow.target, seconds=flow.seconds)

    def ask(self, network: int, source: int, target: int, *, seconds: float) -> None:
        """Requests from one member to another, until one is answered."""
        if (ends := self.ends(network, source, target)) is not None:
            device, peer = ends
            device.ask(peer, until=self.timeline.now + seconds)

    @happen.register
    def _(self, surf: says.Surf) -> None:
        self.surf(surf.network, surf.node, seconds=surf.seconds)

    def surf(self, network: int, node: int, *, seconds: float) -> Surfer | None:
        """Somebody behind the member sends to the internet; None when it is no member."""
        resource, found = self.resource(network, node), self.surfers.get((network, node))
        if resource is None:
            return None
        if found is None or found.resource is not resource:
            found = self.surfers[network, node] = Surfer(resource, self.shared)
        found.surf(self.timeline.now + seconds)
        return found

    @happen.register
    def _(self, name: says.Name) -> None:
        self._change(name.network, changed=self.tenants[name.network].name(name.node, name.order))

    @happen.register
    def _(self, unname: says.Unname) -> None:
        self.unname(unname.network, unname.node)

    def unname(self, network: int, node: int) -> None:
        """The tenant takes an exit back."""
        self._change(network, changed=self.tenants[network].unname(node))

    @happen.register
    def _(self, drain: says.Drain) -> None:
        until = int(self.timeline.wall + drain.seconds)
        self._set_drain(drain.node, until)
        self.timeline.after(drain.seconds, self._set_drain, drain.node, None)

    def _set_drain(self, node: int, until: int | None) -> None:
        agent = self.agents[node]
        if agent.uplink is not None and agent.uplink.draining_until != until:
            agent.uplink.draining_until = until
            agent.note_offer()

    @happen.register
    def _(self, cut: says.Cut) -> None:
        self.set_cut(cut.node, is_cut=True)
        self.timeline.after(cut.seconds, partial(self.set_cut, is_cut=False), cut.node)

    def set_cut(self, node: int, *, is_cut: bool) -> None:
        if (uplink := self.agents[node].uplink) is not None:
            uplink.is_cut = is_cut

    @happen.register
    def _(self, replay: says.Replay) -> None:
        agent = self.agents[replay.node]
        if agent.is_connected:
            agent.take(self.directory.oldest(self.tenants[replay.network].id))

    def quiet(self) -> None:
        """From now on nothing happens, nothing is lost, everybody is awake."""
        self.internet.is_quiet = True
        self._restore()
        for number in list(self._away):
            self._bring_back(number)
        for node in self._offered:
            self._set_drain(node, None)
            self.set_cut(node, is_cut=False)
        for surfer in self.surfers.values():
            surfer.until = self.timeline.now
        if self.scenario.heals:
            for site in self.internet.sites.values():
                site.side = 0
            self._reconsider(self.agents.values())

    def dissolve(self) -> None:
        """Take everything apart, so that nothing waits for the garbage collector."""
        self.timeline.clear()
        for agent in self.agents.values():
            for resource in agent.resources.values():
                resource.close()
            agent.resources.clear()
        self.agents.clear()
        self._by_id.clear()
        self._away.clear()
        self.surfers.clear()
        for site in self.internet.sites.values():
            site.hosts.clear()


def _tenant(network: says.Network) -> Tenant:
    exits = ((each.node, each.order) for each in network.exits)
    return Tenant(network.number, network.members, exits)


def _offered(scenario: Scenario) -> dict[int, None]:
    """The nodes that tenants name as exits sooner or later: their operators offer all of them."""
    named = [each.node for network in scenario.networks for each in network.exits]
    named += [t.node for t in scenario.transitions if isinstance(t, says.Name)]
    return dict.fromkeys(named)


def _declared(host: Host) -> Iterator[Endpoint]:
    """What the node's operator has seen to: that it can be reached where it is now."""
    nat = host.site.nat
    if host.v4 is not None and nat is None:
        yield Endpoint(host.v4, FIRST_PORT)
    elif host.v4 is not None and nat is not None:
        # Each has a range of ports of its own at the router.
        first = FIRST_PORT + PORTS_APART * int(host.v4.rpartition(".")[2])
        for shift in range(FORWARDED):
            nat.forward(first + shift, (host.v4, FIRST_PORT + shift))
        yield Endpoint(host.site.wan, first)
    if host.v6 is not None and host.site.flows is None:
        yield Endpoint(host.v6, FIRST_PORT)
