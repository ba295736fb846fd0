"""Two hidden nodes: how long until the next way when one breaks, and what leaving a relay costs.

A workload asks another one a hundred times a second. "Without an answer" is from the moment when a
cable or a machine is taken away to the next answer; lost questions are counted from the relay to
the way that both have opened. Nothing is compared: WireGuard alone has neither way.

    python -m bench.reach [--rounds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.report import Limit, emit, spread
from netlab.fleet.fleet import Fleet
from netlab.lab import Lab
from netlab.nat import NATS, Nat
from tests.lab.meeting import Questions, asking, behind, meeting, until_way

RELAY_DIES_S = 3.0
DIRECT_BREAKS_S = 5.0
LOST_QUESTIONS = 100  # one second of them
RELAYED = ("via relay r1", "via relay r2")
SETTLE_S = 1.5
REGISTER_S = 8.0  # in which both have registered with a relay that was started anew
UPGRADE_S = 60.0  # a way that broke is tried again on a grid of 16 s


async def relay_dies(rounds: int) -> list[float]:
    """Seconds without an answer, for each relay that was killed while it was used."""
    found: list[float] = []
    async with _talking(NATS["symmetric"]) as (fleet, questions):
        for _ in range(rounds):
            used = (await until_way(fleet, *RELAYED)).split()[-1]
            await asyncio.sleep(REGISTER_S)
            at = fleet.lab.node(used)
            await at.kill()
            found.append(await _gap(questions))
            await at.restart()
            await fleet.start(used)
    return found


async def direct_breaks(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds without an answer when the opened way breaks, and questions lost in opening it."""
    gaps: list[float] = []
    lost: list[float] = []
    async with _talking(NATS["port-restricted"]) as (fleet, questions):
        begun = time.monotonic()
        for _ in range(rounds):
            await until_way(fleet, "punched", within_s=UPGRADE_S)
            await asyncio.sleep(SETTLE_S)
            lost.append(float(questions.lost_since(begun)))
            await fleet.lab.partition(["a"], ["b"])
            gaps.append(await _gap(questions))
            await until_way(fleet, *RELAYED)
            await fleet.lab.heal()
            begun = time.monotonic()
    return gaps, lost


async def _gap(questions: Questions) -> float:
    broken = time.monotonic()
    await questions.until_answered()
    return questions.gap_since(broken)


@asynccontextmanager
async def _talking(nat: Nat) -> AsyncIterator[tuple[Fleet, Questions]]:
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with (
            Lab.create(behind(nat, nat), workdir=Path(scratch) / "lab") as lab,
            meeting(lab) as fleet,
            asking(fleet) as questions,
        ):
            await questions.until_answered()
            yield fleet, questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    dies = asyncio.run(relay_dies(rounds))
    breaks, lost = asyncio.run(direct_breaks(rounds))
    emit(
        "reach",
        figures={
            "relay dies, s without an answer": spread(dies),
            "opened way breaks, s without an answer": spread(breaks),
            "questions of 100/s lost from relay to opened way": spread(lost),
        },
        limits=[
            Limit("relay dies, s without an answer, p95", spread(dies)["p95"], RELAY_DIES_S),
            Limit("opened way breaks, s without an answer, max", max(breaks), DIRECT_BREAKS_S),
            Limit("questions lost in leaving the relay, max", max(lost), LOST_QUESTIONS),
        ],
    )


if __name__ == "__main__":
    main()
