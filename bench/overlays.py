"""zos beside wireguard-go by hand, nebula and tinc: join latency, throughput, memory.

One topology, one run, in turns: start of the last machine to its first answered ping, TCP between
two applications, resident memory before and after load.

    python -m bench.overlays [--seconds 4] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.contenders import (
    FIRST,
    LAST,
    TOPOLOGY,
    ByHand,
    Contender,
    Nebula,
    Tinc,
    Zos,
    wireguard_go,
)
from bench.report import emit, spread
from netlab.lab import Lab
from overlay.model import Address
from zos_core import icmp

PING_EVERY_S = 0.004
JOIN_TIMEOUT_S = 30.0

Make = Callable[[Lab, Path], Contender]


async def first_ping_ms(lab: Lab, contender: Contender) -> float:
    """From the start of LAST to the first answer from FIRST."""
    began = time.perf_counter()
    await contender.start_last()
    target = Address(contender.address(FIRST))
    while time.perf_counter() - began < JOIN_TIMEOUT_S:
        with lab.node(LAST).in_netns(contender.netns()):
            pong = icmp.ping(socket.socket, target, source=None, sequence=1, timeout_s=PING_EVERY_S)
        if pong.rtt_ms is not None:
            return (time.perf_counter() - began) * 1000
        await asyncio.sleep(PING_EVERY_S)
    raise TimeoutError(f"{contender.name}: no ping in {JOIN_TIMEOUT_S} s")


async def gigabits(lab: Lab, contender: Contender, *, seconds: int) -> float:
    """TCP from LAST to FIRST."""
    netns, target = contender.netns(), contender.address(FIRST)
    server = await lab.node(FIRST).spawn(
        "iperf3", "--server", "--one-off", "--bind", target, log="iperf3", netns=netns
    )
    await asyncio.sleep(0.3)
    done = await lab.node(LAST).run(
        "iperf3", "--client", target, "--time", str(seconds), "--json", netns=netns,
        timeout_s=seconds + 20,
    )  # fmt: skip
    await server.wait()
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


async def measure(make: Make, *, seconds: int) -> dict[str, Any]:
    """One contender in a lab of its own."""
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(TOPOLOGY, workdir=Path(scratch) / "lab") as lab:
            contender = make(lab, Path(scratch))
            await contender.prepare()
            join_ms = await first_ping_ms(lab, contender)
            idle = await contender.resident_bytes(LAST)
            rate = await gigabits(lab, contender, seconds=seconds)
            loaded = await contender.resident_bytes(LAST)
    mib = 1 << 20
    return {
        "name": contender.name,
        "join_ms": join_ms,
        "tcp_gbit_s": rate,
        "resident_idle_mib": idle / mib,
        "resident_loaded_mib": loaded / mib,
    }


async def run(*, seconds: int, rounds: int) -> None:
    binary = await wireguard_go()
    makes: tuple[Make, ...] = (
        lambda lab, _: ByHand(lab, binary=binary),
        lambda lab, _: Zos(lab),
        lambda lab, scratch: Nebula(lab, scratch=scratch),
        lambda lab, scratch: Tinc(lab, scratch=scratch),
    )
    series: dict[str, list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for make in makes:
            result = await measure(make, seconds=seconds)
            series.setdefault(result.pop("name"), []).append(result)
    figures: dict[str, Any] = {
        name: {key: spread([each[key] for each in results]) for key in results[0]}
        for name, results in series.items()
    }
    emit("overlays", figures=figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    asyncio.run(run(seconds=options.seconds, rounds=options.rounds))


if __name__ == "__main__":
    main()
