"""Labs side by side with mininet and munet: the same star, from the start of the program to ready.

Each runs in namespaces of its own, in turns within one run. mininet has one family and so does
less. A try that fails is counted and made again. What is claimed is how many times as long the
others take, up and down again.

    python -m bench.lab_rivals [--sizes 10 100] [--rounds 3]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.report import Limit, emit, spread

TIMES_FASTER = 10.0
CLAIMED_FROM = 100
TRIES = 5
_SCRIPTS = Path(__file__).resolve().parent / "rivals"
_PYTHONS = {
    "netlab": sys.executable,
    "mininet": "/usr/bin/python3",
    "munet": str(Path("build/rivals/bin/python").absolute()),
}
# A shell as PID 1, which munet wants to have above itself.
_ALONE = ("unshare", "-m", "-n", "-p", "-f", "--mount-proc", "sh", "-c", '"$@"; exit $?', "sh")


def measure(name: str, count: int) -> tuple[float, float] | None:
    """Milliseconds until it is up, and from then until it has ended; None when it gave up."""
    argv = (*_ALONE, _PYTHONS[name], str(_SCRIPTS / f"{name}_star.py"), str(count))
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(Path.cwd())}
    began = time.perf_counter()
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env if name == "netlab" else {"PATH": env["PATH"]},
    ) as process:
        if process.stdout is None or process.stdout.readline() != b"up\n":
            return None
        up = time.perf_counter()
        process.communicate(b"\n")
    return (up - began) * 1000, (time.perf_counter() - up) * 1000


def series_of(names: Iterable[str], count: int, *, rounds: int) -> dict[str, Any]:
    """By name: the pairs that were measured, and how many tries failed."""
    series: dict[str, Any] = {name: ([], []) for name in names}
    for _ in range(rounds):
        for name, (pairs, failed) in series.items():
            for _ in range(TRIES):
                if (pair := measure(name, count)) is not None:
                    pairs.append(pair)
                    break
                failed.append(name)
            else:
                raise RuntimeError(f"{name} with {count} hosts: {TRIES} tries failed")
    return series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures: dict[str, object] = {}
    limits = []
    for count in options.sizes:
        series = series_of(_PYTHONS, count, rounds=options.rounds)
        medians = {}
        for name, (pairs, failed) in series.items():
            ups, downs = zip(*pairs, strict=True)
            figures[f"{name}, {count} hosts"] = {
                "up_ms": spread(ups),
                "down_ms": spread(downs),
                "failed": len(failed),
            }
            medians[name] = spread([up + down for up, down in pairs])["p50"]
        for name in ("mininet", "munet"):
            ratio = medians[name] / medians["netlab"]
            figures[f"{name} / netlab, {count} hosts, up and down"] = round(ratio, 1)
            if count >= CLAIMED_FROM:
                claim = f"{name} takes so many times as long, {count} hosts, up and down"
                limits.append(Limit(claim, ratio, TIMES_FASTER, at_least=True))
    emit("lab_rivals", figures=figures, limits=limits)


if __name__ == "__main__":
    main()
