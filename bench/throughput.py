"""TCP through zos beside wireguard-go set up by hand, between the same two nodes, in turns.

By hand: one wireguard-go a node, applications beside it. zos: a workload in its own netns, the
tenant's bridge and firewall, and the same wireguard-go. What is claimed is the median of the
ratios of neighbouring runs, so that the machine's mood concerns both alike.

    python -m bench.throughput [--seconds 3] [--rounds 7]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from bench.contenders import TOPOLOGY, ByHand, Zos, wireguard_go
from bench.overlays import first_ping_ms, gigabits
from bench.report import Limit, emit, spread
from netlab.lab import Lab

LIMIT = 0.95


async def measure(*, seconds: int, rounds: int) -> dict[str, list[float]]:
    """Gbit/s by contender, one value a round."""
    series: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(TOPOLOGY, workdir=Path(scratch) / "lab") as lab:
            contenders = (Zos(lab), ByHand(lab, binary=await wireguard_go()))
            for contender in contenders:
                await contender.prepare()
                await first_ping_ms(lab, contender)
            for number in range(rounds):
                # Who goes first alternates, because the first run warms the machine.
                for contender in contenders if number % 2 else reversed(contenders):
                    rate = await gigabits(lab, contender, seconds=seconds)
                    series.setdefault(contender.name, []).append(rate)
    return series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    series = asyncio.run(measure(seconds=options.seconds, rounds=options.rounds))
    pairs = zip(series["zos"], series["wireguard-go by hand"], strict=True)
    ratios = spread([ours / bare for ours, bare in pairs])
    figures: dict[str, object] = {f"{name}, Gbit/s": spread(s) for name, s in series.items()}
    emit(
        "throughput",
        figures={**figures, "ratio": ratios},
        limits=[Limit("TCP, zos to by hand, p50 of ratios", ratios["p50"], LIMIT, at_least=True)],
    )


if __name__ == "__main__":
    main()
