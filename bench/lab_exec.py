"""What it costs to run a command in a node of a lab, beside starting it outside.

Both by turns in one run, from the same event loop: `true` by `LabNode.run`, and by asyncio's own
subprocess. The first command in a node is told apart: it switches the machine on.

    python -m bench.lab_exec [--rounds 300]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.report import Limit, emit, spread
from netlab.lab import Lab
from netlab.topology import Node, Topology

RATIO_LIMIT = 1.5
NODES = 20
COMMAND = "true"


async def measure(rounds: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {
        "first": [],
        "inside": [],
        "outside": [],
        "outside, blocking": [],
    }
    topology = Topology(nodes=tuple(Node(f"n{number}") for number in range(NODES)))
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(topology, workdir=Path(scratch) / "lab") as lab:
            for node in lab.nodes.values():
                took["first"].append(await _timed(lambda node=node: node.run(COMMAND)))
            node = lab.node("n0")
            for _ in range(rounds):
                took["inside"].append(await _timed(lambda: node.run(COMMAND)))
                took["outside"].append(await _timed(_outside))
                began = time.perf_counter()
                _block()
                took["outside, blocking"].append(time.perf_counter() - began)
    return took


async def _timed(action: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await action()
    return time.perf_counter() - began


def _block() -> None:
    subprocess.run([COMMAND], check=True, capture_output=True)


async def _outside() -> None:
    """With its output, as `run` has it."""
    process = await asyncio.create_subprocess_exec(
        COMMAND, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    await process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    took = asyncio.run(measure(parser.parse_args().rounds))
    figures: dict[str, object] = {
        f"{name}, ms": spread([s * 1e3 for s in each]) for name, each in took.items()
    }
    medians = {name: sorted(each)[len(each) // 2] for name, each in took.items()}
    figures["inside / outside, blocking"] = round(
        medians["inside"] / medians["outside, blocking"], 2
    )
    limit = Limit(
        "a command in a node / outside", medians["inside"] / medians["outside"], RATIO_LIMIT
    )
    emit("lab_exec", figures=figures, limits=[limit])


if __name__ == "__main__":
    main()
