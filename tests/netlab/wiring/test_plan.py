"""Plans carried out on a model of the kernel lead from any lab to any other, and touch no more."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from netlab.impairment import Both, Impairment
from netlab.nat import NATS
from netlab.topology import (
    ExitOffer,
    Expect,
    Lan,
    Link,
    Node,
    Router,
    Tenant,
    TenantNetwork,
    Topology,
)
from netlab.wiring import changes as step
from netlab.wiring.facts import Bridge, Port
from netlab.wiring.plan import plan
from netlab.wiring.realize import FORWARDING, realize
from netlab.wiring.wirer import wire
from netlab.wiring.wiring import Wiring
from overlay.errors import Rejected
from tests.netlab.wiring.topologies import topologies

LOOPBACK = 1


class Kernel:
    """Namespaces with links and facts. A link's end takes its facts and its other end along."""

    def __init__(self) -> None:
        self.links: dict[str, dict[int, tuple]] = {}
        self.facts: dict[str, dict[tuple, object]] = {}
        self.settings: dict[str, dict[str, str]] = {}
        self.touched: set[tuple[str, int]] = set()

    def add_namespace(self, namespace) -> None:
        name = namespace.name
        assert name not in self.links
        self.links[name], self.facts[name] = {LOOPBACK: ()}, {}
        self.settings[name] = dict(namespace.sysctls)

    def remove_namespace(self, name: str) -> None:
        for ifindex in list(self.links[name]):
            if ifindex in self.links.get(name, {}):
                self.remove_link(name, ifindex)
        del self.links[name], self.facts[name], self.settings[name]

    def add_cable(self, cable) -> None:
        for end, other in ((cable.near, cable.far), (cable.far, cable.near)):
            links = self.links[end.netns]
            assert end.ifindex not in links
            assert end.name not in {link[0] for link in links.values() if link}
            there = (other.netns, other.ifindex)
            links[end.ifindex] = (end.name, end.mac, cable.mtu_bytes, there)
            self.touched.add((end.netns, end.ifindex))

    def remove_link(self, netns: str, ifindex: int) -> None:
        link = self.links[netns].pop(ifindex)
        self.touched.add((netns, ifindex))
        facts = self.facts[netns]
        for key in [key for key, fact in facts.items() if fact.ifindex == ifindex]:
            del facts[key]
        if link and link[-1] and link[-1][1] in self.links.get(link[-1][0], {}):
            self.remove_link(*link[-1])

    def state(self, netns: str, facts) -> None:
        for fact in facts:
            if isinstance(fact, Bridge):
                assert fact.ifindex not in self.links[netns]
                self.links[netns][fact.ifindex] = (fact.name, fact.mac, 0, None)
            if isinstance(fact, Port):
                assert fact.bridge in self.links[netns]
            assert fact.ifindex in self.links[netns], fact
            self.facts[netns][_place(fact)] = fact

    def withdraw(self, netns: str, facts) -> None:
        for fact in facts:
            assert self.facts[netns].pop(_place(fact)) == fact

    def carry_out(self, change) -> None:
        carry_out = {
            step.Withdraw: lambda: self.withdraw(change.netns, change.facts),
            step.RemoveCable: lambda: self.remove_link(*change.at),
            step.RemoveBridge: lambda: self.remove_link(change.netns, change.ifindex),
            step.RemoveNamespace: lambda: self.remove_namespace(change.name),
            step.AddNamespace: lambda: self.add_namespace(change.namespace),
            step.AddCable: lambda: self.add_cable(change.cable),
            step.SetMtu: lambda: self.set_mtu(change.cable),
            step.SetSysctls: lambda: self.settings[change.netns].update(change.sysctls),
            step.State: lambda: self.state(change.netns, change.facts),
        }
        carry_out.get(type(change), lambda: None)()

    def set_mtu(self, cable) -> None:
        for end in (cable.near, cable.far):
            name, mac, _, there = self.links[end.netns][end.ifindex]
            self.links[end.netns][end.ifindex] = (name, mac, cable.mtu_bytes, there)

    def picture(self):
        # What a NAT has set besides means nothing without one.
        settings = {
            name: [each[path] for path, _ in FORWARDING if each.get(path) == "1"]
            for name, each in self.settings.items()
        }
        facts = {name: set(each.values()) for name, each in self.facts.items()}
        return self.links, facts, settings


def _place(fact) -> tuple:
    """As the kernel sees it, found out apart from plan.py."""
    match type(fact).__name__:
        case "Route":
            return ("route", fact.destination, fact.prefix_length, fact.metric)
        case "Unreachable":
            return ("route", fact.destination, fact.prefix_length, 0)
        case "Neighbour":
            return ("neighbour", fact.ifindex, fact.packed)
        case name:
            return (name, *fact)


def built(wiring: Wiring) -> Kernel:
    kernel = Kernel()
    build = realize(wiring)
    for namespace in build.namespaces:
        kernel.add_namespace(namespace)
    for cable in build.cables:
        kernel.add_cable(cable)
    for namespace in build.namespaces:
        kernel.state(namespace.name, namespace.facts)
    return kernel


@settings(max_examples=100, deadline=None)
@given(topologies(), topologies())
def test_plan_leads_from_any_lab_to_any_other(one, other):  # LAB-210
    before = wire(one)
    found = plan(before, other)
    kernel = built(before)
    for change in found.changes:
        kernel.carry_out(change)
    assert kernel.picture() == built(found.wiring).picture()
    again = plan(found.wiring, other)
    assert again.changes == ()


@settings(max_examples=30, deadline=None)
@given(topologies(), topologies(), topologies())
def test_plan_follows_a_plan(one, other, third):  # LAB-210
    kernel = built(wire(one))
    wiring = wire(one)
    for topology in (other, third, one):
        found = plan(wiring, topology)
        for change in found.changes:
            kernel.carry_out(change)
        wiring = found.wiring
    assert kernel.picture() == built(wiring).picture()


HOME = Topology(
    nodes=(Node("a", (Link(to="home"),)), Node("b", (Link(to="home"),)), Node("c")),
    routers=(Router("home", nat=NATS["port-restricted"]),),
)


def changes_to(topology: Topology) -> list[str]:
    return [change.text for change in plan(wire(HOME), topology).changes]


def test_plan_of_the_same_lab_is_empty():  # LAB-211
    assert changes_to(HOME) == []
    expecting = dataclasses.replace(HOME, expects=(Expect("a", "b"),))
    assert changes_to(expecting) == []


def test_plan_says_what_it_does():  # LAB-211
    more = dataclasses.replace(HOME, nodes=(*HOME.nodes, Node("d", (Link(to="home"),))))
    assert changes_to(more) == [
        "add node d",
        "add link d-home",
        "a: set 3 neighbour",
        "b: set 3 neighbour",
        "d: set 2 up, 3 address, 8 neighbour, 2 route",
        "home: set 3 neighbour, 1 port, 1 up",
    ]
    fewer = dataclasses.replace(HOME, nodes=(HOME.nodes[0], HOME.nodes[1]))
    assert changes_to(fewer) == ["remove link c-internet", "remove node c"]


def test_plan_changes_a_link_or_a_nat_and_nothing_else():  # LAB-211
    slow = Both(up=Impairment(delay_s=0.02))
    c = Node("c", (Link(impaired=slow, mtu_bytes=1400),))
    assert changes_to(dataclasses.replace(HOME, nodes=(*HOME.nodes[:2], c))) == [
        "set the MTU of c-internet to 1400",
        "set the impairment of c-internet",
    ]
    router = Router("home", nat=NATS["full-cone"])
    assert changes_to(dataclasses.replace(HOME, routers=(router,))) == [
        "set NAT and firewall of home; it forgets its connections"
    ]


def test_plan_takes_a_switch_away_when_two_are_left():  # LAB-211
    fewer = dataclasses.replace(HOME, nodes=(HOME.nodes[0], HOME.nodes[2]))
    found = changes_to(fewer)
    assert "remove the switch of home" in found
    assert "add link a-home" in found


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("seed", {"seed": 7}),
        ("name", {"name": "other"}),
        ("node.c", {"nodes": (*HOME.nodes[:2], Node("c", run=(("true",),)))}),
        ("node.d", {"nodes": (*HOME.nodes, Node("d", run=(("true",),)))}),
    ],
)
def test_plan_refuses_what_cannot_change_live(field, change):  # LAB-212
    with pytest.raises(Rejected) as caught:
        plan(wire(HOME), dataclasses.replace(HOME, **change))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "change",
    [{"relay": True}, {"exit": None}, {"links": (Link(), Link("home", "eth1"))}],
)
def test_plan_refuses_other_offers_live(change):  # LAB-212
    e = Node("e", (Link(), Link("isp", "eth1")), role="node", exit=ExitOffer("eth1"))
    before = Topology((Node("r", role="registry"), e), (Router("isp"), Router("home")))
    with pytest.raises(Rejected) as caught:
        plan(
            wire(before),
            dataclasses.replace(before, nodes=(before.nodes[0], dataclasses.replace(e, **change))),
        )
    assert caught.value.field == "node.e"


def test_plan_ends_the_forwarding_of_an_exit_that_is_no_gateway_any_more():  # LAB-214
    links = (Link(), Link("office", "eth1"))
    e = Node("e", links, role="node", exit=ExitOffer("eth0"))
    nodes = (Node("r", role="registry"), e, Node("a", (Link("office"),)))
    before = Topology(nodes, lans=(Lan("office", gateway="e"),))
    after = dataclasses.replace(before, lans=(Lan("office"),))
    for one, other, value in ((before, after, "0"), (after, before, "1")):
        (found,) = (
            each for each in plan(wire(one), other).changes if isinstance(each, step.SetSysctls)
        )
        assert found.netns == "e"
        assert found.sysctls == tuple((path, value) for path, _ in FORWARDING)


def test_plan_refuses_other_tenants_live():  # LAB-212
    nodes = (Node("r", role="registry"), Node("z", role="node"))
    empty = Topology(nodes=nodes)
    rented = Topology(nodes=nodes, tenants=(Tenant("t", (TenantNetwork("n", nodes=("z",)),)),))
    with pytest.raises(Rejected, match="tenants cannot change"):
        plan(wire(empty), rented)
