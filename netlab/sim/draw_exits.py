"""Which networks of a drawn scenario have exits, who surfs by them, and what happens meanwhile.

In large worlds they are few: who surfs asks every 0.4 s, and costs more than all else of a node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from netlab.sim import scenario as says
from netlab.sim.chance import Chance
from netlab.sim.scenario import TROUBLE_S, Network, Scenario, Transitions

NODES_PER_NETWORK = 12  # of the scenario, for each network with exits
NETWORKS_MOST = 3
EXITS = (1, 2, 2, 3, 3)
ORDERS = 4
SURFS = 2  # in each of these networks
SURF_S = (10.0, 25.0)
TROUBLES = 2  # while somebody surfs


def add_exits(drawn: Scenario, *, chance: Chance) -> Scenario:
    """Some networks name exits; the rest of the scenario stays what it is."""
    declared = {node.number for node in drawn.nodes if node.declared}
    count = max(1, min(len(drawn.nodes) // NODES_PER_NETWORK, NETWORKS_MOST))
    chosen = {
        network.number: _with_exits(network, declared, chance)
        for network in _chosen(drawn.networks, declared, count, chance)
    }
    happens = [
        transition
        for number, network in chosen.items()
        for _ in range(SURFS)
        for transition in _surf(number, network, chance)
    ]
    return msgspec.structs.replace(
        drawn,
        networks=tuple(chosen.get(network.number, network) for network in drawn.networks),
        transitions=tuple(
            sorted([*drawn.transitions, *happens], key=lambda transition: transition.at)
        ),
    )


def _chosen(
    networks: tuple[Network, ...], declared: set[int], count: int, chance: Chance
) -> list[Network]:
    """Those with the most members that may be exits, beside one that surfs."""
    room = {
        n.number: min(len(declared.intersection(n.members)), len(n.members) - 1) for n in networks
    }
    usable = [network for network in networks if room[network.number]]
    usable = chance.sample(usable, len(usable))
    return sorted(usable, key=lambda n: -min(room[n.number], max(EXITS)))[:count]


def _with_exits(network: Network, declared: set[int], chance: Chance) -> Network:
    able = [node for node in network.members if node in declared]
    most = min(len(able), len(network.members) - 1, chance.choice(EXITS))
    exits = tuple(says.Exit(node, chance.randrange(ORDERS)) for node in chance.sample(able, most))
    return msgspec.structs.replace(network, exits=exits)


def _surf(number: int, network: Network, chance: Chance) -> Iterator[Transitions]:
    exits = [each.node for each in network.exits]
    others = [node for node in network.members if node not in exits]
    least, most = SURF_S
    seconds = round(least + (most - least) * chance.random(), 1)
    begin, end = TROUBLE_S
    at = begin + (end - seconds - begin) * chance.random()
    yield says.Surf(round(at, 3), number, chance.choice(others), seconds)
    for _ in range(TROUBLES):
        meanwhile = round(at + seconds * chance.random(), 3)
        yield chance.choice(_KINDS)(meanwhile, number, chance.choice(exits), chance)


Draw = Callable[[float, int, int, Chance], Transitions]


def _seconds(chance: Chance) -> float:
    return round(1 + 20 * chance.random(), 1)


def _cut(at: float, _: int, exit_: int, chance: Chance) -> Transitions:
    return says.Cut(at, exit_, _seconds(chance))


def _drain(at: float, _: int, exit_: int, chance: Chance) -> Transitions:
    return says.Drain(at, exit_, _seconds(chance))


def _name(at: float, network: int, exit_: int, chance: Chance) -> Transitions:
    return says.Name(at, network, exit_, chance.randrange(ORDERS))


def _unname(at: float, network: int, exit_: int, _: Chance) -> Transitions:
    return says.Unname(at, network, exit_)


def _sleep(at: float, _: int, exit_: int, chance: Chance) -> Transitions:
    return says.Sleep(at, exit_, _seconds(chance))


def _restart(at: float, _: int, exit_: int, chance: Chance) -> Transitions:
    return says.Restart(at, exit_, chance.random() < 0.5, _seconds(chance))


_KINDS: tuple[Draw, ...] = (_cut, _cut, _cut, _drain, _drain, _name, _unname, _sleep, _restart)
