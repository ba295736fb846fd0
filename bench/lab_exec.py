"""What it costs to run a command in a node of a lab, beside starting it outside.

By turns in one run, from the same event loop: `true` by `LabNode.run`, by asyncio's own
subprocess, and by a `subprocess.run` for which the loop waits. The first command in a node is told
apart: it switches the machine on.

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
    limits = [
        Limit(
            f"a command in a node / {baseline}", medians["inside"] / medians[baseline], RATIO_LIMIT
        )
        for baseline in ("outside", "outside, blocking")
    ]
    emit("lab_exec", figures=figures, limits=limits)


if __name__ == "__main__":
    main()
