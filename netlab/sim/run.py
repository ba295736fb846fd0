"""Many seeds on all cores. The one module of the simulation that makes generators and processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from random import Random

import msgspec

from netlab.keeper.linux import die_with_parent
from netlab.sim.draw import draw_scenario
from netlab.sim.promises import Verdict, judge
from netlab.sim.scenario import Scenario, check
from netlab.sim.shrink import MAX_RUNS, shrink
from netlab.sim.world import World
from overlay.errors import Rejected

DEFAULT_NODES = 100
MIN_NODES, MAX_NODES = 2, 4_000
MAX_SEEDS = 1_000_000
CHUNKS_A_JOB = 160  # few enough to cost nothing; while the last one is lived, others wait
CHUNK_MOST = 50


class Summary(msgspec.Struct):
    """What all seeds came to. Times are CPU seconds of all processes, and of the wall clock."""

    seeds: int = 0
    nodes: int = 0
    pairs: int = 0
    packets: int = 0
    steps: int = 0
    slowest_s: float = 0.0  # virtual: until the last pair heard of each other
    cpu_s: float = 0.0
    wall_s: float = 0.0
    failures: list[Verdict] = []


def scenario_of(seed: int, *, nodes: int) -> Scenario:
    return draw_scenario(seed, nodes=nodes, chance=_generator(f"{seed}"))


def live(scenario: Scenario) -> Verdict:
    """The scenario from its beginning to its verdict: the same, however often."""
    world = World(scenario, chance_of=lambda name: _generator(f"{scenario.seed} {name}"))
    verdict = judge(world)
    world.dissolve()
    return verdict


def _generator(name: str) -> Random:
    return Random(name)  # noqa: S311 - chance that must come again is no secret


def smallest(scenario: Scenario, *, most_runs: int = MAX_RUNS) -> Scenario:
    """A smaller scenario that breaks a promise as well."""
    found = shrink(scenario, lambda smaller: bool(live(smaller).faults), most_runs=most_runs)
    check(found)
    return found


def run(
    seeds: Sequence[int],
    *,
    nodes: int = DEFAULT_NODES,
    jobs: int | None = None,
    on_verdict: Callable[[Verdict], None] = lambda _: None,
) -> Summary:
    """Live all seeds, on `jobs` processes (as many as cores), and hear of each as it is done.

    With one job nothing is started. Raises Rejected for sizes out of bounds.
    """
    if not MIN_NODES <= nodes <= MAX_NODES:
        raise Rejected(f"{nodes} is not between {MIN_NODES} and {MAX_NODES}", field="nodes")
    if not 1 <= len(seeds) <= MAX_SEEDS:
        raise Rejected(f"{len(seeds)} is not between 1 and {MAX_SEEDS}", field="seeds")
    jobs = min(jobs or os.cpu_count() or 1, len(seeds))
    summary, began = Summary(), time.monotonic()
    for verdicts, cpu_s in _verdicts(seeds, nodes=nodes, jobs=jobs):
        summary.cpu_s += cpu_s
        for verdict in verdicts:
            _add(summary, verdict)
            on_verdict(verdict)
    summary.wall_s = time.monotonic() - began
    summary.failures.sort(key=lambda verdict: verdict.seed)
    return summary


def _verdicts(
    seeds: Sequence[int], *, nodes: int, jobs: int
) -> Iterator[tuple[list[Verdict], float]]:
    if jobs == 1:
        yield from (live_all([seed], nodes=nodes) for seed in seeds)
        return
    size = max(1, min(CHUNK_MOST, len(seeds) // (jobs * CHUNKS_A_JOB)))
    # Spawned, not forked: whoever calls may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare) as pool:
        waiting = [
            pool.submit(live_all, seeds[start : start + size], nodes=nodes)
            for start in range(0, len(seeds), size)
        ]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    """Whoever started the processes hears of an interruption, and ends them; they end with it.

    A world is hundreds of thousands of objects that all live until its end, and is then taken
    apart: the garbage collector would find nothing, in a sixth of the time.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(signal.SIGKILL)
    gc.disable()


def live_all(seeds: Sequence[int], *, nodes: int) -> tuple[list[Verdict], float]:
    """The verdicts on some seeds, and what they cost."""
    began = time.process_time()
    verdicts = [live(scenario_of(seed, nodes=nodes)) for seed in seeds]
    return verdicts, time.process_time() - began


def _add(summary: Summary, verdict: Verdict) -> None:
    summary.seeds += 1
    summary.nodes += verdict.nodes
    summary.pairs += verdict.pairs
    summary.packets += verdict.packets
    summary.steps += verdict.steps
    summary.slowest_s = max(summary.slowest_s, verdict.slowest_s)
    if verdict.faults:
        summary.failures.append(verdict)
