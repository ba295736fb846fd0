"""TCP through zos beside wireguard-go set up by hand, between the same two nodes, in turns.

By hand twice. On the same topology: a workload in its own netns, a veth pair, a bridge and the
device in the tenant's netns, as zos makes them, but no firewall and no policy; the limit is about
this one, for it shows what zos costs and not what a netns costs. And bare: the application beside
the device, a figure for those who ask what isolation costs. What is claimed is the median of the
ratios of neighbouring runs, so that the machine's mood concerns all alike.

    python -m bench.throughput [--seconds 2] [--rounds 15]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from bench.contenders import TOPOLOGY, ByHand, ByHandBehindBridge, Contender, Zos, wireguard_go
from bench.overlays import first_ping_ms, gigabits
from bench.report import Limit, emit, spread
from netlab.lab import Lab

LIMIT = 0.95


async def measure(*, seconds: int, rounds: int) -> dict[str, list[float]]:
    """Gbit/s, one value a round: zos, by hand on the same topology, bare."""
    series: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(TOPOLOGY, workdir=Path(scratch) / "lab") as lab:
            binary = await wireguard_go()
            contenders: list[Contender] = [
                Zos(lab),
                ByHandBehindBridge(lab, binary=binary),
                ByHand(lab, binary=binary),
            ]
            for contender in contenders:
                series[contender.name] = []
                await contender.prepare()
                await first_ping_ms(lab, contender)
            for number in range(rounds):
                # Who goes first alternates, because the first run warms the machine; zos and what
                # it is compared with are always neighbours.
                for contender in contenders if number % 2 else reversed(contenders):
                    rate = await gigabits(lab, contender, seconds=seconds)
                    series[contender.name].append(rate)
    return series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    series = asyncio.run(measure(seconds=options.seconds, rounds=options.rounds))
    zos, same, bare = series.values()
    figures: dict[str, object] = {f"{name}, Gbit/s": spread(s) for name, s in series.items()}
    to_same, to_bare = _ratios(zos, same), _ratios(zos, bare)
    emit(
        "throughput",
        figures={
            **figures,
            "zos / by hand on the same topology": to_same,
            "zos / by hand, application beside the device": to_bare,
        },
        limits=[
            Limit(
                "TCP, zos / by hand on the same topology, p50 of ratios",
                to_same["p50"],
                LIMIT,
                at_least=True,
            )
        ],
    )


def _ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])


if __name__ == "__main__":
    main()
