"""How exact an impaired link of a lab is: added delay, losses, rate, and what a change costs.

One direction of one link between two nodes; the sender says when it sent, the kernel says when it
arrived. Times are figures, counts are claims.

    python -m bench.lab_impairments [--seconds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from bench.report import Limit, emit
from netlab.impairment import Both, Impairment
from netlab.lab import Lab
from netlab.topology import Node, Topology

# -I and -S: it starts at once.
TRAFFIC = (sys.executable, "-I", "-S", str(Path(__file__).resolve().parent / "packets.py"))
TOPOLOGY = Topology(nodes=(Node("n1"), Node("n2")), seed=7)
LINK = "n1:eth0"
DELAY_S = 0.01
SPEEDS = (1_000, 10_000, 30_000)
RATE_BIT_S = 10_000_000
LOSS = 0.1
SLEW_US = 10  # what a wall clock that is being adjusted makes of the delay
CHANGES = 20
PREPARE_S = 0.5


async def measure(seconds: float) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(TOPOLOGY, workdir=Path(scratch) / "lab") as lab:
            plain = {each: await _one_way(lab, Impairment(), each, seconds) for each in SPEEDS}
            delay = Impairment(delay_s=DELAY_S)
            delayed = {each: await _one_way(lab, delay, each, seconds) for each in SPEEDS}
            both = Impairment(delay_s=0.001, loss=LOSS)
            lossy = await _one_way(lab, both, 10_000, seconds)
            lossy_rules = await _one_way(lab, Impairment(loss=LOSS), 10_000, seconds)
            rates = {
                name: await _one_way(lab, impairment, 10_000, seconds)
                for name, impairment in (
                    ("tbf", Impairment(rate_bit_s=RATE_BIT_S)),
                    ("pump", Impairment(rate_bit_s=RATE_BIT_S, delay_s=0.001)),
                )
            }
            streams = {
                name: await _stream(lab, impairment, seconds)
                for name, impairment in (
                    ("not impaired", Impairment()),
                    ("1 ms, segments together", Impairment(delay_s=0.001)),
                    ("1 ms, cut in segments", Impairment(delay_s=0.001, duplicate=1e-12)),
                )
            }
            changed = await _while_changing(lab)
            status = await lab.impaired(LINK)
    return {
        "one way without impairment, us": {f"{key}/s": each["us"] for key, each in plain.items()},
        f"one way with {DELAY_S * 1e3:g} ms, us": {
            f"{key}/s": each["us"] for key, each in delayed.items()
        },
        "arrived of those sent with delay": {
            f"{key}/s": each["arrived"] / each["sent"] for key, each in delayed.items()
        },
        "least above the delay, us": min(each["us"]["min"] for each in delayed.values())
        - DELAY_S * 1e6,
        "loss asked": LOSS,
        "loss, pump": 1 - lossy["arrived"] / lossy["sent"],
        "loss, nftables": 1 - lossy_rules["arrived"] / lossy_rules["sent"],
        "rate asked, bit/s": RATE_BIT_S,
        **{f"rate, {name}, bit/s": round(each["bit_s"]) for name, each in rates.items()},
        "TCP, Gbit/s": streams,
        "lost in changes": changed,
        "missed by the pump": status.missed,
    }


async def _one_way(lab: Lab, impairment: Impairment, speed: int, seconds: float) -> dict:
    await lab.impair(LINK, Both(up=impairment))
    return await _run_pair(lab, speed, seconds)


async def _stream(lab: Lab, impairment: Impairment, seconds: float) -> float:
    await lab.impair(LINK, Both(up=impairment, down=impairment))
    target, patience_s = lab.node("n2"), seconds + 60
    async with asyncio.TaskGroup() as tasks:
        drained = tasks.create_task(
            target.run(*TRAFFIC, "drain", timeout_s=patience_s), name="drain"
        )
        await asyncio.sleep(PREPARE_S)
        stream = ("stream", str(target.ipv4), str(seconds))
        await lab.node("n1").run(*TRAFFIC, *stream, timeout_s=patience_s)
    return round(float(drained.result().text) / 1e9, 2)


async def _run_pair(lab: Lab, speed: int, seconds: float) -> dict:
    target = lab.node("n2")
    patience_s = seconds + 60
    async with asyncio.TaskGroup() as tasks:
        heard = tasks.create_task(
            target.run(*TRAFFIC, "receive", str(seconds + 2 * PREPARE_S), timeout_s=patience_s),
            name="receive",
        )
        await asyncio.sleep(PREPARE_S)
        sent = await lab.node("n1").run(
            *TRAFFIC, "send", str(target.ipv4), str(speed), str(seconds), timeout_s=patience_s
        )
    return {**json.loads(heard.result().text), "sent": int(sent.text)}


async def _while_changing(lab: Lab) -> int:
    """Packets lost while the link gets an impairment and loses it again, many times over."""
    await lab.impair(LINK, Both())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_run_pair(lab, 5_000, CHANGES * 0.2), name="flood")
        await asyncio.sleep(PREPARE_S)
        for _ in range(CHANGES):
            for impairment in (Impairment(delay_s=0.005), Impairment()):
                await lab.impair(LINK, Both(up=impairment))
                await asyncio.sleep(0.05)
    result = running.result()
    return int(result["sent"] - result["arrived"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    figures = asyncio.run(measure(options.seconds))
    rates = [figures[f"rate, {name}, bit/s"] for name in ("tbf", "pump")]
    limits = [
        Limit(
            "least above the delay, us",
            figures["least above the delay, us"],
            -SLEW_US,
            at_least=True,
        ),
        Limit("loss off by, pump", abs(figures["loss, pump"] - LOSS), 0.01),
        Limit("loss off by, nftables", abs(figures["loss, nftables"] - LOSS), 0.001),
        Limit("highest rate over what was asked", max(rates) / RATE_BIT_S, 1.01),
        Limit("packets lost in changes", figures["lost in changes"], 0),
    ]
    emit("lab_impairments", figures=figures, limits=limits)


if __name__ == "__main__":
    main()
