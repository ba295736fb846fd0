from __future__ import annotations

import math
from dataclasses import replace

import pytest

from netlab import faults
from netlab.impairment import Both, Drop, Impairment
from netlab.refusals import events, exits, expects, impairments, tenants, words
from netlab.topology import (
    Access,
    Draft,
    Event,
    Exit,
    ExitOffer,
    Expect,
    Lan,
    Latency,
    Link,
    Node,
    Region,
    Router,
    Tenant,
    TenantNetwork,
    Topology,
    Workload,
    find_faults,
)
from netlab.wiring.wirer import wire
from overlay.documents import exits as documents
from overlay.errors import Rejected

NETWORK = TenantNetwork(
    "web",
    nodes=("n1",),
    invited=("n2",),
    clients=(Access("laptop", "n1"),),
    workloads=(Workload("shop", "n1"), Workload("cache", "n2")),
)
NODES = (
    Node("registry", role="registry"),
    Node("n1", role="node"),
    Node("n2", role="node"),
    Node("laptop", role="client"),
    Node("plain"),
)


def fault_of(**parts) -> Rejected:
    """The only thing that is wrong."""
    found = list(find_faults(Draft(**{"nodes": NODES, "routers": (Router("home"),), **parts})))
    assert len(found) == 1, found
    return found[0]


def faults_of(network: TenantNetwork) -> list[str | None]:
    draft = Draft(NODES, tenants=(Tenant("acme", (network,)),))
    return [fault.field for fault in find_faults(draft)]


def lab_with(**parts) -> Topology:
    return Topology(**{"nodes": NODES, "routers": (Router("home"),), **parts})


def impaired(**said) -> dict:
    return {"nodes": (Node("a", (Link(impaired=Both(up=Impairment(**said))),)),)}


@pytest.mark.parametrize(
    ("key", "lowest", "highest"),
    [
        ("delay_s", 0, impairments.DELAY_S_MAX),
        ("jitter_s", 0, impairments.DELAY_S_MAX),
        ("loss", 0, 1),
        ("duplicate", 0, 1),
        ("rate_bit_s", impairments.RATE_BIT_S_MIN, impairments.RATE_BIT_S_MAX),
    ],
)
def test_impairment_is_bounded(key, lowest, highest):  # LAB-287
    for value in (lowest, highest):
        lab_with(**impaired(**{key: value}))
    for value in (lowest - 0.001, highest * 1.001, math.nan, math.inf):
        assert fault_of(**impaired(**{key: value})).field == f"node.a.links.eth0.impaired.up.{key}"


def test_reordering_needs_a_delay():  # LAB-287
    lab_with(**impaired(reorder=1, delay_s=0.001))
    assert fault_of(**impaired(reorder=0.1)).field == "node.a.links.eth0.impaired.up.reorder"


def test_scripted_losses_are_of_known_messages_and_bounded():  # LAB-287
    lab_with(**impaired(drops=(Drop("data", impairments.NTH_MAX),) * impairments.DROPS_MAX))
    path = "node.a.links.eth0.impaired.up.drops"
    error = fault_of(**impaired(drops=(Drop("responce"),)))
    assert (error.field, error.remedy) == (f"{path}[0]", "did you mean 'response'?")
    assert fault_of(**impaired(drops=(Drop("data", -1),))).field == f"{path}[0]"
    assert fault_of(**impaired(drops=(Drop("data", impairments.NTH_MAX + 1),))).field
    assert fault_of(**impaired(drops=(Drop("data"),) * (impairments.DROPS_MAX + 1))).field == path


def test_what_lies_between_regions_and_what_an_event_does_is_bounded_too():  # LAB-287
    wrong = Both(down=Impairment(loss=2))
    regions = (Region("internet"), Region("eu"))
    error = fault_of(regions=regions, latencies=(Latency(("eu", "internet"), wrong),))
    assert error.field == "core.latency[0].down.loss"
    error = fault_of(events=(Event(1, "impair", "n1:eth0", impaired=wrong),))
    assert error.field == "at[0].impair.down.loss"


def test_seed_is_what_a_file_can_say():
    for seed in (0, faults.SEED_MAX):
        lab_with(seed=seed)
    for seed in (-1, faults.SEED_MAX + 1):
        assert fault_of(seed=seed).field == "seed"


@pytest.mark.parametrize(
    "argv", [(), ("",), ("a\0",), ("a",) * (words.WORDS_MAX + 1), ("a" * 4097,)]
)
def test_program_is_one_that_can_be_started(argv):
    lab_with(nodes=(Node("a", run=(("a",) * words.WORDS_MAX,) * faults.PROGRAMS_MAX),))
    assert fault_of(nodes=(Node("a", run=(("b",), argv)),)).field == "node.a.run[1]"
    assert fault_of(events=(Event(1, "exec", "n1", argv=argv),)).field == "at[0].exec.argv"
    assert fault_of(nodes=(Node("a", run=(("b",),) * (faults.PROGRAMS_MAX + 1)),)).field


def test_tenants_network_is_taken():
    lab_with(tenants=(Tenant("acme", (NETWORK,)), Tenant("beta", (NETWORK,)), Tenant("idle")))


def test_zos_nodes_and_tenants_need_one_registry():  # LAB-288
    error = fault_of(nodes=NODES[1:])
    assert (error.field, 'role "registry"' in str(error)) == ("node.n1.role", True)
    assert fault_of(nodes=NODES[3:]).field == "node.laptop.role"
    assert fault_of(nodes=(), tenants=(Tenant("acme"),)).field == "tenant.acme"
    two = (*NODES, Node("second", role="registry"))
    assert fault_of(nodes=two).field == "node.second.role"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "a_b"}, ""),
        ({"nodes": ("n1", "n9")}, ".nodes.n9"),
        ({"nodes": ("n1", "plain")}, ".nodes.plain"),
        ({"nodes": ("n1", "registry")}, ".nodes.registry"),
        ({"nodes": ("n1", "n1")}, ".nodes.n1"),
        ({"invited": ("n2", "n1")}, ".invited.n1"),
        ({"clients": (Access("n1", "n1"),)}, ".clients.n1"),
        ({"clients": (Access("laptop", "n3"),)}, ".clients.laptop"),
        ({"clients": (Access("laptop", "n1"), Access("laptop", "n2"))}, ".clients.laptop"),
        ({"workloads": (Workload("a", "plain"),)}, ".workloads.a"),
        ({"workloads": (Workload("a/b", "n1"),)}, ".workloads.a/b"),
        ({"workloads": (Workload("a", "n1"), Workload("a", "n2"))}, ".workloads.a"),
        ({"range": "10.1.0.0/24"}, ".range"),
        ({"range": "10.1.0.1/16"}, ".range"),
        ({"range": "10.1.0.0"}, ".range"),
        ({"range": "fd00::/48"}, ".range"),
        ({"range": "192.168.0.0/16"}, ".range"),
        ({"range": "11.0.0.0/8"}, ".range"),
        ({"range": "10.1.0.0/23"}, ".range"),  # room for one beside the first
    ],
)
def test_tenants_network_is_refused_by_its_part(change, field):  # LAB-288
    network = replace(NETWORK, **change)
    assert faults_of(network) == [f"tenant.acme.network.{network.name}{field}"]


def test_tenants_networks_and_their_names_are_bounded():  # LAB-288
    def many(count: int) -> dict:
        networks = tuple(TenantNetwork(f"n{number}") for number in range(count))
        return {"tenants": (Tenant("acme", networks),)}

    lab_with(**many(tenants.NETWORKS_MAX))
    assert fault_of(**many(tenants.NETWORKS_MAX + 1)).field == "tenant"
    assert fault_of(tenants=(Tenant("acme"), Tenant("acme"))).field == "tenant.acme"
    assert fault_of(tenants=(Tenant("a b"),)).field == "tenant.a b"
    twice = (TenantNetwork("a"), TenantNetwork("a"))
    assert fault_of(tenants=(Tenant("acme", twice),)).field == "tenant.acme.network.a"


def test_node_has_as_many_workloads_as_its_subnet_addresses():  # LAB-288
    def network(count: int) -> TenantNetwork:
        workloads = tuple(Workload(f"w{number}", "n1") for number in range(count))
        return replace(NETWORK, workloads=workloads)

    assert faults_of(network(253)) == []
    assert faults_of(network(254)) == ["tenant.acme.network.web.workloads"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"source": "n9"}, "source"),
        ({"target": "n9"}, "target"),
        ({"target": "n1"}, "target"),
        ({"target": "acme/web"}, "target"),
        ({"target": "acme/web/shop/x"}, "target"),
        ({"target": "acmes/web/shop"}, "target"),
        ({"target": "acme/wep/shop"}, "target"),
        ({"target": "acme/web/shap"}, "target"),
        ({"target": "acme/idle/*"}, "target"),
        ({"family": "ipv5"}, "family"),
        ({"path": "direct"}, "path"),
        ({"source": "acme/web/*", "target": "acme/web/*", "path": "dierct"}, "path"),
        ({"reached": False, "at_least_bit_s": 1}, "reached"),
        ({"within_s": -1}, "within_s"),
        ({"within_s": math.nan}, "within_s"),
        ({"within_s": expects.TIME_S_MAX + 1}, "within_s"),
        ({"at_s": -0.1}, "at_s"),
        ({"at_least_bit_s": -1}, "at_least_bit_s"),
        ({"at_most_bit_s": impairments.RATE_BIT_S_MAX + 1}, "at_most_bit_s"),
        ({"at_least_bit_s": 2, "at_most_bit_s": 1}, "at_least_bit_s"),
    ],
)
def test_expectation_is_refused_by_its_part(change, field):  # LAB-289
    tenant = Tenant("acme", (NETWORK, TenantNetwork("idle")))
    good = Expect("n1", "n2", within_s=expects.TIME_S_MAX, at_s=0)
    lab_with(tenants=(tenant,), expects=(good, Expect("*", "*"), Expect("n1", "acme/web/shop")))
    error = fault_of(tenants=(tenant,), expects=(good, replace(good, **change)))
    assert error.field == f"expect[1].{field}"


@pytest.mark.parametrize(
    "event",
    [
        Event(0, "cut", "n1-internet"),
        Event(1, "plug", "internet-n1"),
        Event(1, "impair", "n1:eth0", impaired=Both()),
        Event(1, "kill", "n1"),
        Event(1, "restart", "plain"),
        Event(1, "pause", "n1"),
        Event(1, "resume", "n1"),
        Event(1, "partition", groups=(("n1", "home"), ("n2", "internet"))),
        Event(1, "heal"),
        Event(1, "reboot-nat", "home"),
        Event(expects.TIME_S_MAX, "exec", "n1", argv=("true",)),
    ],
)
def test_event_is_taken(event):  # LAB-290
    lab_with(events=(event,))


def test_event_names_a_link_as_the_wiring_does():  # LAB-290
    # Two regions, two nodes alone in a LAN, a second link to one place, three in a LAN.
    lab = Topology(
        (
            Node("a", (Link(), Link("pair", "eth1"), Link(name="eth2"))),
            Node("b", (Link("pair"), Link("many", "eth1"))),
            Node("c", (Link("many"),)),
            Node("d", (Link("many"), Link("home", "eth1"))),
        ),
        (Router("home", Link("eu")),),
        (Lan("pair"), Lan("many")),
        regions=(Region("internet"), Region("eu")),
    )
    names = {name for cable in wire(lab).cables for name in cable.names}

    assert set(events.count_links(lab)) == names
    assert {"a-b", "eu-internet", "a:eth2", "many-d"} <= names
    replace(lab, events=tuple(Event(1, "cut", name) for name in sorted(names)))


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (Event(-1, "heal"), "time"),
        (Event(math.inf, "heal"), "time"),
        (Event(expects.TIME_S_MAX + 1, "heal"), "time"),
        (Event(1, "heel"), "heel"),
        (Event(1, "heal", "n1"), "heal"),
        (Event(1, "cut", "n1"), "cut"),
        (Event(1, "cut", "n1-home"), "cut"),
        (Event(1, "cut", "a-b-internet"), "cut"),
        (Event(1, "cut", "eu-internet"), "cut"),
        (Event(1, "impair", "n1:eth0"), "impair"),
        (Event(1, "cut", "n1:eth0", impaired=Both(up=Impairment(loss=1))), "cut"),
        (Event(1, "kill", "home"), "kill"),
        (Event(1, "kill", "n1", argv=("true",)), "kill"),
        (Event(1, "reboot-nat", "n1"), "reboot-nat"),
        (Event(1, "partition", groups=(("n1",),)), "partition"),
        (Event(1, "partition", groups=(("n1",), ())), "partition[1]"),
        (Event(1, "partition", groups=(("n1",), ("n9",))), "partition[1].n9"),
        (Event(1, "partition", groups=(("n1",), ("n1",))), "partition"),
        (Event(1, "partition", groups=(("n1",),) * (events.PARTS_MAX + 1)), "partition"),
    ],
)
def test_event_is_refused_by_its_part(event, field):  # LAB-290
    nodes = (*NODES, Node("a-b"), Node("a", (Link("b-internet"),)))
    draft = Draft(nodes, (Router("home"), Router("b-internet")), events=(event,))
    found = [fault.field for fault in find_faults(draft)]
    assert found[0] == f"at[0].{field}"


def test_empty_topology_has_a_region():
    assert fault_of(nodes=(), routers=(), regions=()).field == "core.regions"


def with_exits(count: int, *, lans: int = 1, **parts) -> Draft:
    """Exits e0, e1 ... spread over routers, all of them members of one network."""
    found = tuple(
        Node(
            f"e{n}",
            (Link(), Link(f"isp{n % lans}", "eth1")),
            role="node",
            exit=ExitOffer("eth1", parts.get("beacons", ())),
        )
        for n in range(count)
    )
    named = tuple(Exit(f"e{n}", parts.get("order", 0)) for n in range(parts.get("named", 0)))
    network = TenantNetwork("web", nodes=tuple(node.name for node in found), exits=named)
    return Draft(
        (Node("registry", role="registry"), Node("site"), *found),
        tuple(Router(f"isp{n}") for n in range(lans)),
        regions=tuple(map(Region, ("internet", "eu", "us"))),
        tenants=(Tenant("acme", (network,)),),
    )


@pytest.mark.parametrize(
    ("fits", "too_many", "field"),
    [
        ({"count": 8}, {"count": 9}, "isp0"),
        ({"count": 64, "lans": 8}, {"count": 65, "lans": 9}, "node.e64.exit"),
        (
            {"count": 17, "lans": 3, "named": 16},
            {"count": 17, "lans": 3, "named": 17},
            "tenant.acme.network.web.exits",
        ),
        (
            {"count": 1, "named": 1, "order": 255},
            {"count": 1, "named": 1, "order": 256},
            "tenant.acme.network.web.exits.e0",
        ),
        (
            {"count": 1, "beacons": ("site", "internet", "eu", "us")},
            {"count": 1, "beacons": ("site", "internet", "eu", "us", "registry")},
            "node.e0.exit.beacons",
        ),
    ],
)
def test_exits_are_bounded(fits, too_many, field):  # LAB-352
    assert list(find_faults(with_exits(**fits))) == []
    (fault,) = find_faults(with_exits(**too_many))
    assert fault.field == field


def test_bounds_of_exits_are_those_of_documents():  # LAB-352
    assert exits.EXITS_OFFERED_MAX == documents.MAX_EXIT_OFFERS
    assert exits.EXITS_MAX == documents.MAX_EXITS
    assert exits.ORDER_MAX == documents.MAX_ORDER
    assert 2 * exits.BEACONS_MAX == documents.MAX_BEACONS
