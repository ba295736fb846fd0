"""`zos lab bench`: what labs take of this machine: time, memory, and a command in a node."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netlab.cli.complete import complete_files
from overlay.errors import Unavailable
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
# The kernel frees the namespaces of the lab before in the background, and counts once a second.
STILL_S, STILL_WITHIN_S, LOOK_S = 1.5, 20.0, 0.25
_HEADER = (
    *("LAB", "NODES", "UP", "A NODE", "DOWN", "CPU"),
    *("KERNEL A NODE", "PROCESSES", "MEMORY", "COMMAND"),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of all rounds. `up_s` is from the wish to ready, `down_s` until no process is left.

    cpu_s       of everything that ran in it, until it was up
    kernel_kib  that the kernel took for it in structures of its own; None: others gave back more
    processes   of the lab, when it was up
    memory_kib  of those, each with its part of what they share
    command_ms  of `true` in a node, as `zos lab exec` has it run; None: there is no node
    """

    up_s: float
    down_s: float
    cpu_s: float
    kernel_kib: float | None
    processes: float
    memory_kib: float
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
@click.option(
    "--rounds",
    metavar="N",
    type=click.IntRange(1, 100),
    default=ROUNDS,
    show_default=True,
    help="How often each lab is built.",
)
@click.option("--name", metavar="NAME", help="What the lab of FILE is called meanwhile.")
def bench(
    file: Path | None,
    shape: tuple[str, ...],
    nodes: tuple[int, ...],
    rounds: int,
    name: str | None,
) -> None:
    """Measure what labs take here: stars and chains of plain nodes, or the lab of FILE.

    Each is brought up and taken down again, some rounds; what is shown is the median. FILE may be
    the name of a shipped lab (zos lab labs); its timeline and expectations are left out, and what
    it says under `run` is run as you, once a round.

    UP is from the wish until the lab is ready, and A NODE a node's part of it; DOWN until no
    process of it is left. CPU is what everything that ran in it took of the processors until it was
    up. KERNEL A NODE is memory that the kernel takes for a node, MEMORY what the PROCESSES of the
    lab have. COMMAND is how long `true` takes in a node. What else runs here counts as well.

    \b
    Examples:
      zos lab bench
      zos lab bench --shape star --nodes 100 --nodes 2000 --rounds 5
      zos lab bench 13-relay --json
    """
    if file is not None and (shape or nodes):
        raise click.UsageError("--shape and --nodes are of labs without a FILE")
    if file is None and name is not None:
        raise click.UsageError("--name is of the lab of a FILE")
    labs = _of_shapes(shape or SHAPES, nodes or SIZES) if file is None else [_of_file(file, name)]
    found: list[tuple[str, Topology, Figures]] = []
    try:
        for label, topology in labs:
            found.append((label, topology, _measure(label, topology, rounds=rounds)))
    except BaseException:
        if found and not output.asked_for_json():
            _show(found, rounds=rounds)
        raise
    _show(found, rounds=rounds)


def _of_shapes(chosen: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, Topology]]:
    """By what they are; in no other's way. Raises Rejected for more nodes than a lab may have."""
    from netlab import shapes

    make = {"star": shapes.star, "chain": shapes.chain}
    return [
        (shape, make[shape](count, name=f"bench-{shape}-{count}-{os.getpid()}"))
        for shape in chosen
        for count in sizes
    ]


def _of_file(file: Path, name: str | None) -> tuple[str, Topology]:
    from netlab.files.reading import read_lab
    from netlab.labs.shelf import find_lab

    topology = read_lab(find_lab(file))
    return topology.name, topology if name is None else replace(topology, name=name)


def _show(found: Sequence[tuple[str, Topology, Figures]], *, rounds: int) -> None:
    output.show(
        {"rounds": rounds, "labs": [as_json(*each) for each in found]},
        *output.table(_HEADER, (row(*each) for each in found)),
    )


def _measure(label: str, topology: Topology, *, rounds: int) -> Figures:
    """Up and down so many times. Raises Conflict when a lab of this name is up."""
    taken = []
    for number in range(1, rounds + 1):
        output.say(f"{label}, {len(topology.nodes)} nodes: round {number} of {rounds}")
        taken.append(_round(topology))
    return medians(taken)


def medians(taken: Sequence[Figures]) -> Figures:
    """Of what was measured; None where nothing was."""
    chosen: dict[str, Any] = {}
    for name in (field.name for field in fields(Figures)):
        known = [value for each in taken if (value := getattr(each, name)) is not None]
        chosen[name] = statistics.median(known) if known else None
    return Figures(**chosen)


def _round(topology: Topology) -> Figures:
    from netlab import usage
    from netlab.cli.up import wait_ready
    from netlab.supervisor import asking
    from netlab.supervisor.start import started
    from netlab.supervisor.status import LabStatus

    before = _still_kib()
    began = time.monotonic()
    with started(topology, keep=False) as starting:
        wait_ready(starting)
        up_s = time.monotonic() - began
        status = asking.get(starting.place, "/v1/lab", LabStatus)
        kernel_kib = usage.kernel_kib() - before
        roots = [pid for pid in (status.pid, status.keeper_pid) if pid is not None]
        processes = usage.processes_below(*roots)
        named = topology.nodes[0].name if topology.nodes else None
        command_ms = None if named is None else _command_ms(starting.place, named)
        began = time.monotonic()
    return Figures(
        up_s=up_s,
        down_s=time.monotonic() - began,
        cpu_s=sum(each.cpu_s + each.reaped_s for each in processes),
        kernel_kib=kernel_kib if kernel_kib > 0 else None,
        processes=len(processes),
        memory_kib=sum(each.pss_bytes for each in processes) / 1024,
        command_ms=command_ms,
    )


def _still_kib() -> int:
    """What the kernel keeps, once it has not been less for a while."""
    from netlab import usage

    least, since = usage.kernel_kib(), time.monotonic()
    deadline = since + STILL_WITHIN_S
    while since + STILL_S > (now := time.monotonic()) < deadline:
        time.sleep(LOOK_S)
        if (found := usage.kernel_kib()) < least:
            least, since = found, now
    return least


def _command_ms(place: Place, node: str) -> float:
    """Of a command in the node. The first one, which switches the node on, does not count.

    Raises Unavailable when it fails.
    """
    from contextlib import closing

    from netlab.cli.exec import wish_to_start
    from netlab.supervisor.asking import Started

    wish, taken = wish_to_start(node, COMMAND), []
    with Path("/dev/null").open("r+b") as nothing:
        stdio = (nothing.fileno(),) * 3
        for _ in range(1 + COMMANDS):
            began = time.monotonic()
            with closing(Started(place, wish, stdio)) as program:
                code = program.wait()
            taken.append(1000 * (time.monotonic() - began))
            if code != 0:
                raise Unavailable(f"{node}: {COMMAND[0]} ends with {code}")
    return statistics.median(taken[1:])


def as_json(label: str, topology: Topology, figures: Figures) -> dict[str, Any]:
    """What --json says of one lab; null: not measured."""
    rounded = {
        key: None if value is None else round(float(value), 4)
        for key, value in asdict(figures).items()
    }
    return {"lab": label, "nodes": len(topology.nodes), **rounded}


def row(label: str, topology: Topology, figures: Figures) -> tuple[str, ...]:
    """What people are told of one lab, below the header."""
    nodes = len(topology.nodes)
    return (
        label,
        str(nodes),
        f"{figures.up_s:.2f} s",
        f"{1000 * figures.up_s / nodes:.1f} ms" if nodes else "-",
        f"{figures.down_s:.2f} s",
        f"{figures.cpu_s:.2f} s",
        f"{figures.kernel_kib / nodes:.0f} KiB" if nodes and figures.kernel_kib else "-",
        f"{figures.processes:.0f}",
        f"{figures.memory_kib / 1024:.0f} MiB",
        "-" if figures.command_ms is None else f"{figures.command_ms:.2f} ms",
    )
