"""A scenario by chance: homes and data centres, small tenants, and two minutes of trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from netlab.nat import Behaviour, Nat
from netlab.sim import scenario as says
from netlab.sim.chance import Chance
from netlab.sim.draw_exits import add_exits
from netlab.sim.scenario import TROUBLE_S, Network, Node, Scenario, Site, Transitions
from overlay.model import Family

NODES_PER_SITE = 4
SITES_MOST = 500
# Of a network; with every join it grows. What it costs grows with the square: large worlds have
# many small ones, small worlds fewer large ones.
LARGE_WORLD = 500
MEMBERS_THERE = (2, 2, 2, 3, 3)
MEMBERS_ELSEWHERE = (2, 2, 3, 3, 4, 6, 9)
SECOND_NETWORK = 0.1  # of the nodes are in two
TROUBLES_PER_NODE = 0.35
DECLARED = {True: 0.7, False: 0.15}  # at an open site, and behind a router
OUTAGES_MOST = 2  # an outage is everybody's
SPLIT_SITES_MOST = 8
LASTING = 0.2  # of the worlds stay split

_FAMILIES: tuple[tuple[Family, ...], ...] = ((4,), (4, 6), (4, 6), (6,))
_BEHAVIOURS: tuple[Behaviour, ...] = (
    "endpoint-independent",
    "address-dependent",
    "address-and-port-dependent",
)


def draw_scenario(seed: int, *, nodes: int, chance: Chance) -> Scenario:
    """What `seed` stands for. `chance` is at its beginning, and is used up."""
    count = max(2, min(nodes // NODES_PER_SITE, SITES_MOST))
    sites = tuple(_site(number, chance) for number in range(count))
    at = [chance.randrange(len(sites)) for _ in range(nodes)]
    cast = tuple(
        Node(number, site, declared=chance.random() < DECLARED[sites[site].nat is None])
        for number, site in enumerate(at)
    )
    networks = tuple(_networks(nodes, chance))
    drawn = [
        _transition(nodes, len(sites), networks, chance)
        for _ in range(max(3, round(nodes * TROUBLES_PER_NODE)))
    ]
    drawn += [_outage(chance) for _ in range(chance.randrange(OUTAGES_MOST + 1))]
    scenario = Scenario(
        seed=seed,
        sites=sites,
        nodes=cast,
        networks=networks,
        transitions=tuple(sorted(drawn, key=lambda transition: transition.at)),
        heals=chance.random() >= LASTING,
    )
    return add_exits(scenario, chance=chance)


def _site(number: int, chance: Chance) -> Site:
    is_open = chance.random() < 0.5
    families = chance.choice(_FAMILIES if is_open else _FAMILIES[:3])
    nat = None
    if not is_open:
        nat = Nat(
            mapping=chance.choice(_BEHAVIOURS),
            filtering=chance.choice(_BEHAVIOURS),
            ports=chance.choice(("preserve", "random")),
            hairpin=chance.random() < 0.3,
            udp_timeout_s=chance.choice((30, 60, 120)),
        )
    return Site(
        number,
        families=families,
        nat=nat,
        firewall=not is_open and chance.random() < 0.8,
        delay_s=round(chance.choice((0.002, 0.01, 0.03, 0.12)) * (0.5 + chance.random()), 4),
        loss=chance.choice((0.0, 0.0, 0.01, 0.1)),
    )


def _networks(nodes: int, chance: Chance) -> Iterator[Network]:
    """Every node is in one, some are in two."""
    order = chance.sample(range(nodes), nodes)
    order += chance.sample(range(nodes), round(nodes * SECOND_NETWORK))
    number, sizes = 0, MEMBERS_THERE if nodes >= LARGE_WORLD else MEMBERS_ELSEWHERE
    while order:
        size = chance.choice(sizes)
        # dict: a node that comes twice is in once.
        yield Network(number, tuple(dict.fromkeys(order[:size])))
        order, number = order[size:], number + 1


def _transition(
    nodes: int, sites: int, networks: tuple[Network, ...], chance: Chance
) -> Transitions:
    at = _time(chance)
    network = chance.randrange(len(networks))
    node = chance.choice(networks[network].members)
    kind = chance.choice(_KINDS)
    return kind(_Place(at, network, node, nodes, sites, networks), chance)


def _outage(chance: Chance) -> Transitions:
    return says.Outage(_time(chance), round(1 + 40 * chance.random(), 1))


def _time(chance: Chance) -> float:
    begin, end = TROUBLE_S
    return round(begin + (end - begin) * chance.random(), 3)


class _Place:
    """What a transition may be about."""

    __slots__ = ("at", "network", "networks", "node", "nodes", "sites")

    def __init__(
        self,
        at: float,
        network: int,
        node: int,
        nodes: int,
        sites: int,
        networks: tuple[Network, ...],
    ) -> None:
        self.at, self.network, self.node = at, network, node
        self.nodes, self.sites, self.networks = nodes, sites, networks

    @property
    def members(self) -> tuple[int, ...]:
        return self.networks[self.network].members


Draw = Callable[[_Place, Chance], Transitions]


def _join(place: _Place, chance: Chance) -> Transitions:
    # Now and then somebody who has left comes again, or a stranger comes.
    node = place.node if chance.random() < 0.5 else chance.randrange(place.nodes)
    return says.Join(place.at, place.network, node)


def _leave(place: _Place, _: Chance) -> Transitions:
    return says.Leave(place.at, place.network, place.node)


def _access(place: _Place, chance: Chance) -> Transitions:
    kind = says.Grant if chance.random() < 0.7 else says.Withdraw
    return kind(place.at, place.network, place.node)


def _roam(place: _Place, chance: Chance) -> Transitions:
    return says.Roam(place.at, place.node, chance.randrange(place.sites))


def _split(place: _Place, chance: Chance) -> Transitions:
    count = 1 + chance.randrange(max(1, min(place.sites // 4, SPLIT_SITES_MOST)))
    sites = tuple(sorted(chance.sample(range(place.sites), count)))
    return says.Split(place.at, sites, chance.choice((0, 0, 1, 1, 2, 3)))


def _router(place: _Place, chance: Chance) -> Transitions:
    kind = says.Forget if chance.random() < 0.6 else says.Renumber
    return kind(place.at, chance.randrange(place.sites))


def _restart(place: _Place, chance: Chance) -> Transitions:
    seconds = round(0.1 + chance.choice((1, 30)) * chance.random(), 1)
    return says.Restart(place.at, place.node, chance.random() < 0.5, seconds)


def _sleep(place: _Place, chance: Chance) -> Transitions:
    return says.Sleep(place.at, place.node, round(1 + 120 * chance.random(), 1))


def _flow(place: _Place, chance: Chance) -> Transitions:
    source = chance.choice(place.members)
    return says.Flow(
        place.at, place.network, source, place.node, round(5 + 60 * chance.random(), 1)
    )


def _replay(place: _Place, _: Chance) -> Transitions:
    return says.Replay(place.at, place.network, place.node)


_KINDS: tuple[Draw, ...] = (
    *(_join, _join, _leave, _leave, _access, _access, _roam, _roam, _roam, _roam),
    *(_split, _router, _router, _restart, _restart, _sleep, _sleep),
    *(_flow, _flow, _flow, _flow, _flow, _flow, _replay, _replay),
)
