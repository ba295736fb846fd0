"""`zos lab bench`: what labs take of this machine: time, memory, and a command in a node."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netlab.cli.complete import complete_files
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.places import Place
    from netlab.topology import Topology

SHAPES = ("star", "chain")
SIZES = (10, 100, 1000)
ROUNDS = 3
COMMAND = ("true",)
COMMANDS = 50
# The kernel frees the namespaces of the lab before in the background.
FREED_S, FREED_WITHIN_S = 0.3, 20.0
_HEADER = ("LAB", "NODES", "UP", "A NODE", "DOWN", "CPU", "KERNEL A NODE", "PROCESSES", "COMMAND")


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of all rounds. `up_s` is from the wish to ready, `down_s` until no process is left.

    cpu_s         of the lab's processes, until it was up
    kernel_kib    that the kernel took for it in structures of its own
    resident_kib  of the lab's processes, each with its part of what they share
    command_ms    of `true` in a node, as `zos lab exec` has it run; None: there is no node
    """

    up_s: float
    down_s: float
    cpu_s: float
    kernel_kib: float
    processes: float
    resident_kib: float
    command_ms: float | None


@command("bench")
@click.argument(
    "file",
    metavar="[FILE]",
    required=False,
    type=click.Path(path_type=Path),
    shell_complete=complete_files,
)
@click.option("--shape", type=click.Choice(SHAPES), multiple=True, help="Both if left out.")
@click.option(
    "--nodes",
    metavar="N",
    type=click.IntRange(min=1),
    multiple=True,
    help=f"How many; may come again. [default: {', '.join(map(str, SIZES))}]",
)
@click.option("--rounds", type=click.IntRange(1, 100), default=ROUNDS, show_default=True)
def bench(file: Path | None, shape: tuple[str, ...], nodes: tuple[int, ...], rounds: int) -> None:
    """Measure what labs take here: stars and chains of plain nodes, or the lab of FILE.

    Each is brought up and taken down again, some rounds; what is shown is the median. FILE may be
    the name of a shipped lab (zos lab labs). What else runs on this machine counts as well: times
    grow with it, and so does the kernel's memory.

    \b
    Examples:
      zos lab bench
      zos lab bench --shape star --nodes 100 --nodes 2000 --rounds 5
      zos lab bench 13-relay --json
    """
    from netlab import shapes
    from netlab.files.reading import read_lab
    from netlab.labs.shelf import find_lab

    if file is not None and (shape or nodes):
        raise click.UsageError("--shape and --nodes are of labs without a FILE")
    if file is not None:
        labs = [read_lab(find_lab(file))]
    else:
        make = {"star": shapes.star, "chain": shapes.chain}
        labs = [
            make[each](count, name=f"bench-{each}-{count}")
            for each in shape or SHAPES
            for count in nodes or SIZES
        ]
    found = [(topology, measure(topology, rounds=rounds)) for topology in labs]
    output.show(
        {"rounds": rounds, "labs": [as_json(topology, figures) for topology, figures in found]},
        *output.table(_HEADER, (row(topology, figures) for topology, figures in found)),
    )


def measure(topology: Topology, *, rounds: int) -> Figures:
    """Up and down so many times. Raises Conflict when a lab of this name is up."""
    taken = []
    for number in range(1, rounds + 1):
        output.say(f"{topology.name}: round {number} of {rounds} ...")
        taken.append(_round(topology))
    return medians(taken)


def medians(taken: Sequence[Figures]) -> Figures:
    """None is None in all of them: a lab has nodes in every round or in none."""
    chosen: dict[str, Any] = {}
    for name in (field.name for field in fields(Figures)):
        values = [getattr(each, name) for each in taken]
        chosen[name] = None if None in values else statistics.median(values)
    return Figures(**chosen)


def _round(topology: Topology) -> Figures:
    from netlab import footprint
    from netlab.cli.up import wait_ready
    from netlab.supervisor import asking
    from netlab.supervisor.start import started
    from netlab.supervisor.status import LabStatus

    before = _freed_kib()
    began = time.monotonic()
    with started(topology, keep=False) as starting:
        wait_ready(starting)
        up_s = time.monotonic() - began
        status = asking.get(starting.place, "/v1/lab", LabStatus)
        kernel_kib = footprint.kernel_kib() - before
        roots = [pid for pid in (status.pid, status.keeper_pid) if pid is not None]
        processes = footprint.processes_below(*roots)
        named = topology.nodes[0].name if topology.nodes else None
        command_ms = None if named is None else _command_ms(starting.place, named)
        began = time.monotonic()
    return Figures(
        up_s=up_s,
        down_s=time.monotonic() - began,
        cpu_s=sum(each.cpu_s for each in processes),
        kernel_kib=kernel_kib,
        processes=len(processes),
        resident_kib=sum(each.pss_bytes for each in processes) / 1024,
        command_ms=command_ms,
    )


def _freed_kib() -> int:
    """What the kernel keeps once it has stopped to free what was before."""
    from netlab import footprint

    deadline, least = time.monotonic() + FREED_WITHIN_S, footprint.kernel_kib()
    while time.monotonic() < deadline:
        time.sleep(FREED_S)
        now = footprint.kernel_kib()
        if now >= least:
            break
        least = now
    return least


def _command_ms(place: Place, node: str) -> float:
    """Of a command in the node. The first one, which switches the node on, does not count."""
    from contextlib import closing

    from netlab.cli.exec import wish_to_start
    from netlab.supervisor.asking import Started

    wish, taken = wish_to_start(node, COMMAND), []
    with Path("/dev/null").open("r+b") as nothing:
        stdio = (nothing.fileno(),) * 3
        for _ in range(1 + COMMANDS):
            began = time.monotonic()
            with closing(Started(place, wish, stdio)) as program:
                program.wait()
            taken.append(1000 * (time.monotonic() - began))
    return statistics.median(taken[1:])


def as_json(topology: Topology, figures: Figures) -> dict[str, Any]:
    """What --json says of one lab; null: not measured."""
    rounded = {
        key: None if value is None else round(value, 4) for key, value in asdict(figures).items()
    }
    return {"lab": topology.name, "nodes": len(topology.nodes), **rounded}


def row(topology: Topology, figures: Figures) -> tuple[str, ...]:
    """What people are told of one lab, below the header."""
    each = max(1, len(topology.nodes))
    return (
        topology.name,
        str(len(topology.nodes)),
        f"{figures.up_s:.2f} s",
        f"{1000 * figures.up_s / each:.1f} ms",
        f"{figures.down_s:.2f} s",
        f"{figures.cpu_s:.2f} s",
        f"{figures.kernel_kib / each:.0f} KiB",
        f"{figures.processes:.0f}, {figures.resident_kib / 1024:.0f} MiB",
        "-" if figures.command_ms is None else f"{figures.command_ms:.2f} ms",
    )
