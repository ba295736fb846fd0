"""Whether a world that has become quiet is as it was promised to be (LAB-103 on)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from netlab.sim.audit import misinformed
from netlab.sim.drill import choose, drill
from netlab.sim.drill import pairs as pairs_of
from netlab.sim.reference import Pair, Reference
from netlab.sim.tunnel import INITIATION, KEEPALIVE
from netlab.sim.world import World
from overlay.peers.paths import KEEPALIVE_S

QUIET_AT_S = 125.0
INFORMED_S = 45.0  # quiet for so long: everybody knows everything
# A path that failed for long is tried rarely: trouble of d seconds is over 2 d later (NODE-043).
CONNECTED_S = 300.0
IDLE_S = 80.0  # above any NAT's patience here that is not kept
# Two that call each other at once may both wait for the next keepalive, and try elsewhere first.
CALLED_BACK_S = 90.0
STEP_S = 5.0
MAX_FAULTS = 20


class Verdict(msgspec.Struct):
    """What was found, and how much it was."""

    seed: int
    faults: list[str] = []
    nodes: int = 0
    pairs: int = 0
    slowest_s: float = 0.0
    packets: int = 0
    steps: int = 0


def judge(world: World) -> Verdict:
    """Let the world live, become quiet, and keep its promises or not."""
    timeline, reference = world.timeline, Reference(world)
    verdict = Verdict(world.scenario.seed, nodes=len(world.agents))
    for fault in _stages(world, reference, verdict):
        verdict.faults.append(fault)
        if len(verdict.faults) >= MAX_FAULTS:
            break
    verdict.packets, verdict.steps = world.shared.traffic.total, timeline.steps
    return verdict


def _stages(world: World, reference: Reference, verdict: Verdict) -> Iterator[str]:
    timeline = world.timeline
    timeline.run(QUIET_AT_S)
    world.quiet()
    timeline.run(QUIET_AT_S + INFORMED_S)
    networks = world.tenants
    yield from misinformed(world, reference)
    pairs = [pair for network in networks for pair in reference.pairs(network)]
    both = [*pairs, *((network, right, left) for network, left, right in pairs)]
    verdict.pairs = len(pairs)
    yield from _silent(world, both, within_s=CONNECTED_S, verdict=verdict)
    yield from _noisy(world)
    back = [pair for network in networks for pair in reference.called_back(network)]
    leavers = choose(world, reference)
    back += pairs_of(leavers)
    yield from _silent(world, back, within_s=CALLED_BACK_S, verdict=None)
    yield from drill(world, leavers)
    yield from world.shared.faults


# Who is heard, and how much is sent.


def _silent(
    world: World, pairs: list[Pair], *, within_s: float, verdict: Verdict | None
) -> Iterator[str]:
    """Everybody asks whom it should reach; those who are never answered.

    Two ask each other until both are answered: one of them may be the only one who can call, and
    what it was answered by may have been the last moment of a session.
    """
    timeline = world.timeline
    began, waiting, silent = timeline.now, pairs, dict.fromkeys(pairs)
    while waiting and timeline.now < began + within_s:
        for network, source, target in waiting:
            world.ask(network, source, target, seconds=within_s)
        timeline.run(min(timeline.now + STEP_S, began + within_s))
        for pair in list(silent):
            answered = _answered_at(world, pair)
            if answered >= began:
                del silent[pair]
                if verdict is not None:
                    verdict.slowest_s = max(verdict.slowest_s, answered - began)
        waiting = [
            pair for pair in waiting if pair in silent or (pair[0], pair[2], pair[1]) in silent
        ]
    for network, source, target in sorted(silent):
        yield (
            f"node {source} does not reach node {target} in network {network} within {within_s:g} s"
        )


def _answered_at(world: World, pair: Pair) -> float:
    if (ends := world.ends(*pair)) is None:
        return -1.0
    device, peer = ends
    tunnel = device.tunnels.get(peer)
    return -1.0 if tunnel is None else tunnel.answered_at


def _noisy(world: World) -> Iterator[str]:
    """Nobody has anything to say: how much is sent all the same?"""
    sent = world.shared.traffic.sent
    before = list(sent)
    world.timeline.run(world.timeline.now + IDLE_S)
    streams = tunnels = 0
    for agent in world.agents.values():
        for resource in agent.resources.values():
            tunnels += len(resource.device.tunnels)
            streams += sum(t.keepalive_s > 0 for t in resource.device.tunnels.values())
    keepalives = sent[KEEPALIVE] - before[KEEPALIVE]
    if keepalives > (most := streams * int(IDLE_S / KEEPALIVE_S + 1)):
        yield f"{keepalives} keepalives in {IDLE_S:g} s, not {most} at most"
    initiations = sent[INITIATION] - before[INITIATION]
    if initiations > (most := tunnels * int(IDLE_S / 5.0 + 1)):
        yield f"{initiations} initiations in {IDLE_S:g} s, not {most} at most"
