"""`zos lab sim`: lives many seeds in virtual time, and says which promise broke."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from netlab.sim import corpus
from netlab.sim.promises import Verdict
from netlab.sim.run import DEFAULT_NODES, Summary, live, run, scenario_of, smallest
from netlab.sim.scenario import Scenario
from zos_core.cli import output
from zos_core.cli.command import command
from zos_core.cli.exits import Exit

TELL_S = 2.0
SHOWN_FAULTS = 3
SHRUNK_MOST = 3  # failures of one run that are made small: they tend to have one cause


@command("sim")
@click.option("--seeds", default=1_000, show_default=True, help="How many seeds.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--seed", type=int, help="This seed alone.")
@click.option("--nodes", default=DEFAULT_NODES, show_default=True, help="Nodes in each world.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; as many as cores if left out.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Make what failed small, and write it below this directory.",
)
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Live the scenario in this file instead.",
)
@click.pass_context
def sim(
    ctx: click.Context,
    seeds: int,
    first: int,
    seed: int | None,
    nodes: int,
    jobs: int | None,
    keep: Path | None,
    replay: Path | None,
) -> None:
    """Let whole worlds of nodes live in virtual time, and check what was promised.

    Nodes join, leave, roam, sleep and restart behind NATs of every kind, while links lose packets,
    sites split and the registry is away. Peers and paths are chosen by the shipped code. The same
    seed is the same world every time.

    Exit codes: 0 all promises kept, 1 one was broken, 2 usage, 130 interrupted. Nothing is built:
    it takes no root, and the machine's network is not touched.

    \b
    Examples:
      zos lab sim --seeds 1000 --nodes 100
      zos lab sim --seed 61 --nodes 40 --keep netlab/sim/seeds
      zos lab sim --replay netlab/sim/seeds/proven-endpoint.json
    """
    if replay is not None:
        summary = _summary_of(live(corpus.read(replay)))
    else:
        chosen = range(first, first + seeds) if seed is None else [seed]
        summary = run(chosen, nodes=nodes, jobs=jobs, on_verdict=_tell_progress(len(chosen)))
    files: dict[int, Path] = {}
    for verdict in summary.failures[:SHRUNK_MOST] if keep is not None else ():
        scenario = scenario_of(verdict.seed, nodes=nodes) if replay is None else corpus.read(replay)
        files[verdict.seed] = _keep(scenario, directory=keep or Path())
    _show(summary, files, nodes=nodes)
    if summary.failures:
        ctx.exit(Exit.NOT_HEALTHY)


def _summary_of(verdict: Verdict) -> Summary:
    return Summary(
        seeds=1,
        nodes=verdict.nodes,
        pairs=verdict.pairs,
        packets=verdict.packets,
        steps=verdict.steps,
        slowest_s=verdict.slowest_s,
        failures=[verdict] if verdict.faults else [],
    )


def _tell_progress(total: int) -> Callable[[Verdict], None]:
    """A line now and then, on standard error."""
    done = broken = 0
    told = time.monotonic()

    def tell(verdict: Verdict) -> None:
        nonlocal done, broken, told
        done += 1
        broken += bool(verdict.faults)
        if verdict.faults:
            output.say(f"seed {verdict.seed} broke a promise: {verdict.faults[0]}")
        if time.monotonic() - told >= TELL_S:
            told = time.monotonic()
            output.say(f"{done} of {total} seeds, {broken} broke a promise ...")

    return tell


def _keep(scenario: Scenario, *, directory: Path) -> Path:
    output.say(f"making seed {scenario.seed} small ...")
    return corpus.write(smallest(scenario), name=f"seed-{scenario.seed}", directory=directory)


def _show(summary: Summary, files: dict[int, Path], *, nodes: int) -> None:
    lines = []
    for verdict in summary.failures:
        lines.append(f"seed {verdict.seed} with {nodes} nodes broke {len(verdict.faults)} promises")
        lines += [f"  {fault}" for fault in verdict.faults[:SHOWN_FAULTS]]
        if (file := files.get(verdict.seed)) is not None:
            lines.append(f"  made small: {file}")
    value: dict[str, Any] = msgspec.to_builtins(summary)
    for failure in value["failures"]:
        file = files.get(failure["seed"])
        failure["file"] = None if file is None else str(file)
    lines.append(
        f"{summary.seeds} seeds, {summary.nodes} nodes, {summary.pairs} pairs,"
        f" {summary.packets} packets; the slowest pair met after {summary.slowest_s:.0f} virtual"
        f" seconds; {summary.cpu_s:.0f} s of CPU, {summary.wall_s:.0f} s;"
        f" {len(summary.failures)} broke a promise"
    )
    output.show(value, *lines)
