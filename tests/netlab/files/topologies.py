"""Any topology that can be, for Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from netlab.impairment import Both, Drop, Impairment
from netlab.nat import NATS, Nat
from netlab.refusals.events import LINK_VERBS, NODE_VERBS
from netlab.topology import (
    Access,
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
)

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
LINK_NAMES = st.from_regex(r"e[a-z0-9_.-]{0,14}", fullmatch=True)
TIMES_S = st.floats(0, 60)
SHARES = st.floats(0, 1)
RATES_BIT_S = st.just(0) | st.integers(1_000, 100_000_000_000)
ARGVS = st.tuples(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
) | st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    min_size=1,
    max_size=3,
).map(tuple)
DROPS = st.builds(
    Drop, st.sampled_from(["initiation", "response", "cookie", "data"]), st.integers(0, 1000)
)
NATS_OF_ALL_KINDS = (
    st.none()
    | st.sampled_from(list(NATS.values()))
    | st.builds(
        Nat,
        filtering=st.sampled_from(["endpoint-independent", "address-dependent"]),
        hairpin=st.booleans(),
        udp_timeout_s=st.integers(1, 86_400),
    )
)


@st.composite
def impairments(draw: st.DrawFn) -> Impairment:
    delay_s = draw(TIMES_S)
    return Impairment(
        delay_s,
        draw(TIMES_S),
        draw(SHARES),
        draw(SHARES),
        draw(SHARES) if delay_s else 0.0,
        draw(RATES_BIT_S),
        tuple(draw(st.lists(DROPS, max_size=2))),
    )


def both() -> st.SearchStrategy[Both]:
    """Often nothing, often the same both ways."""
    ways = st.just(Impairment()) | impairments()
    return st.just(Both()) | ways.map(lambda way: Both(way, way)) | st.builds(Both, ways, ways)


def links(to: list[str], names: st.SearchStrategy[str]) -> st.SearchStrategy[Link]:
    families = st.sampled_from([(True, True), (True, False), (False, True)])
    return st.builds(
        lambda to, name, mtu_bytes, families, impaired: Link(
            to, name, mtu_bytes, *families, impaired
        ),
        st.sampled_from(to),
        names,
        st.just(1500) | st.integers(1280, 65535),
        families,
        both(),
    )


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    names = draw(st.lists(LABELS.filter(lambda name: name != "internet"), unique=True, max_size=9))
    takes = [draw(st.sampled_from("regions routers lans nodes".split())) for _ in names]
    named = {
        take: [name for name, its in zip(names, takes, strict=True) if its == take]
        for take in "regions routers lans nodes".split()
    }
    regions = named["regions"] or ["internet"]
    routers: list[Router] = []
    for name in named["routers"]:
        above = [*regions, *(router.name for router in routers)]
        uplink = draw(links(above, LINK_NAMES))
        firewall = draw(st.sampled_from(["none", "stateful", "block-udp"]))
        routers.append(Router(name, uplink, draw(NATS_OF_ALL_KINDS), firewall))
    places = [*regions, *named["routers"], *named["lans"]]
    nodes = tuple(draw(_node(name, places)) for name in named["nodes"])
    roles = {node.name: draw(st.sampled_from(["host", "node", "client"])) for node in nodes}
    if nodes:
        roles[nodes[0].name] = "registry"
    able = [
        node.name
        for node in nodes
        if roles[node.name] == "node" and node.links and node.links[0].to in regions
    ]
    offered = draw(st.lists(st.sampled_from(able), unique=True, max_size=4)) if able else []
    nodes = tuple(
        Node(
            node.name,
            node.links,
            roles[node.name],
            node.run,
            node.name in offered,
            draw(_exit_offers(node, regions, named["routers"]))
            if roles[node.name] == "node"
            else None,
        )
        for node in nodes
    )
    exits = [node.name for node in nodes if node.exit]
    latencies = []
    if len(regions) > 1:
        latencies = [Latency((regions[0], regions[-1]), draw(both()))]
    tenants = draw(_tenants(roles, offered, exits)) if nodes else ()
    networks = {f"{t.name}/{n.name}": n for t in tenants for n in t.networks}
    ends = {
        f"{name}/{workload.name}": [each.node for each in network.exits]
        for name, network in networks.items()
        for workload in network.workloads
    }
    return Topology(
        nodes,
        tuple(routers),
        tuple(
            Lan(
                name,
                draw(
                    st.sampled_from(
                        ["", *(n.name for n in nodes if n.links and n.links[-1].to == name)]
                    )
                )
                if not routers and not _leads_on(nodes, named["lans"])
                else "",
            )
            for name in named["lans"]
        ),
        name=draw(st.just("lab") | LABELS),
        seed=draw(st.just(0) | st.integers(0, 2**63 - 1)),
        regions=tuple(map(Region, regions)),
        latencies=tuple(latencies),
        tenants=tenants,
        expects=tuple(draw(st.lists(_expects(ends, nodes[0].name), max_size=2)))
        if len(ends) > 1
        else (),
        events=tuple(draw(st.lists(_events(nodes, routers), max_size=3))) if nodes else (),
    )


def _exit_offers(
    node: Node, regions: list[str], routers: list[str]
) -> st.SearchStrategy[ExitOffer | None]:
    """By a link to a router; beacons in the first region have both families."""
    uplinks = [link.name for link in node.links if link.to in routers]
    if not uplinks:
        return st.none()
    return st.none() | st.builds(
        ExitOffer, st.sampled_from(uplinks), st.sampled_from([(), (regions[0],)])
    )


def _leads_on(nodes: tuple[Node, ...], lans: list[str]) -> bool:
    """Whether a gateway could be behind a gateway."""
    return any(link.to in lans for node in nodes for link in node.links[:1])


@st.composite
def _node(draw: st.DrawFn, name: str, places: list[str]) -> Node:
    names = draw(st.just(["eth0"]) | st.lists(LINK_NAMES, unique=True, max_size=3))
    return Node(
        name,
        tuple(draw(links(places, st.just(each))) for each in names),
        run=tuple(draw(st.lists(ARGVS, max_size=2))),
    )


@st.composite
def _tenants(
    draw: st.DrawFn, roles: dict[str, str], offered: list[str], exits: list[str]
) -> tuple[Tenant, ...]:
    running = [name for name, role in roles.items() if role == "node"]
    clients = [name for name, role in roles.items() if role == "client"]
    tenants = []
    for tenant in draw(st.lists(LABELS, unique=True, max_size=2)):
        networks = []
        for network in draw(st.lists(LABELS, unique=True, max_size=2)):
            members = draw(st.permutations(running))
            cut = draw(st.integers(0, len(members)))
            workloads = draw(st.lists(LABELS, unique=True, max_size=3)) if members else []
            networks.append(
                TenantNetwork(
                    network,
                    draw(st.sampled_from(["10.1.0.0/16", "10.0.0.0/8", "10.16.0.0/20"])),
                    tuple(members[:cut]),
                    tuple(members[cut:]),
                    tuple(Access(each, draw(st.sampled_from(members))) for each in clients)
                    if members
                    else (),
                    tuple(Workload(each, draw(st.sampled_from(members))) for each in workloads),
                    tuple(draw(st.permutations(offered))[: draw(st.integers(0, 4))]),
                    draw(_exits([name for name in exits if name in members[:cut]])),
                )
            )
        tenants.append(Tenant(tenant, tuple(networks)))
    return tuple(tenants)


@st.composite
def _exits(draw: st.DrawFn, names: list[str]) -> tuple[Exit, ...]:
    """In the order of a list, or with orders of their own."""
    names = draw(st.permutations(names))[: draw(st.integers(0, len(names)))]
    if draw(st.booleans()):
        return tuple(Exit(name, order) for order, name in enumerate(names))
    return tuple(Exit(name, draw(st.integers(0, 255))) for name in names)


@st.composite
def _expects(draw: st.DrawFn, ends: dict[str, list[str]], outside: str) -> Expect:
    """Between two inside, or to somebody outside by an exit."""
    source, target = draw(st.permutations(list(ends)))[:2]
    via = ""
    if ends[source] and draw(st.booleans()):
        target, via = outside, draw(st.sampled_from(ends[source]))
    if not via and draw(st.booleans()):
        return Expect(source, target, draw(st.sampled_from(["ipv4", "ipv6"])), reached=False)
    least, most = sorted(draw(st.tuples(RATES_BIT_S, RATES_BIT_S)))
    return Expect(
        source,
        target,
        path=draw(st.sampled_from(["", "lan", "direct", "punched", "relay"])),
        via=via,
        at_least_bit_s=least,
        at_most_bit_s=most,
        within_s=draw(TIMES_S),
        at_s=draw(st.none() | TIMES_S),
    )


@st.composite
def _events(draw: st.DrawFn, nodes: tuple[Node, ...], routers: list[Router]) -> Event:
    at_s = draw(st.floats(0, 86_400))
    ends = [f"{node.name}:{link.name}" for node in nodes for link in node.links]
    verbs = [*NODE_VERBS, *(LINK_VERBS if ends else ()), "heal"]
    verbs += ["reboot-nat"] * bool(routers) + ["partition"] * (len(nodes) > 1)
    verb = draw(st.sampled_from(sorted(verbs)))
    if verb in LINK_VERBS:
        impaired = draw(both()) if verb == "impair" else None
        return Event(at_s, verb, draw(st.sampled_from(ends)), impaired)
    if verb in NODE_VERBS:
        name = draw(st.sampled_from([node.name for node in nodes]))
        return Event(at_s, verb, name, argv=draw(ARGVS) if verb == "exec" else ())
    if verb == "reboot-nat":
        return Event(at_s, verb, routers[0].name)
    if verb == "partition":
        return Event(at_s, verb, groups=tuple((node.name,) for node in nodes))
    return Event(at_s, verb)
