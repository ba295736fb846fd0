"""Sixty zos nodes of two tenants, NATs among them: until everybody reaches everybody.

`zos lab up big/sixty` and `zos lab check`, as a person would type them: seconds until it is up and
until all that its file expects holds, memory of zos and wireguard-go, and what all of it does while
nothing happens.

    python -m bench.lab_sixty [--lab FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.report import Limit, emit
from netlab.files.reading import read_lab
from netlab.labs.shelf import find_lab
from netlab.supervisor import places
from netlab.usage import Process, processes_below

ZOS = str(Path(sys.executable).parent / "zos")
LAB = "big/sixty"
HELD_LIMIT_S = 60.0
SETTLE_S = 20.0
REST_S = 20.0
GIVE_UP_S = 600.0


def measure(lab: str) -> dict[str, Any]:
    topology = read_lab(find_lab(Path(lab)))
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        environment = {**os.environ, places.ROOT_VARIABLE: str(Path(scratch) / "labs")}
        began = time.monotonic()
        up = zos(environment, "up", lab)
        ready_s = time.monotonic() - began
        try:
            checked = zos(environment, "check")
            held_s = time.monotonic() - began
            status = zos(environment, "status")
            roots = (status["pid"], status["keeper_pid"])
            busy = _by_program(roots)
            time.sleep(SETTLE_S)
            first, at = _by_program(roots), time.monotonic()
            time.sleep(REST_S)
            rest = _by_program(roots)
            lasted_s = time.monotonic() - at
        finally:
            zos(environment, "down")
    figures = {
        "nodes": sum(node.role == "node" for node in topology.nodes),
        "networks": sum(len(tenant.networks) for tenant in topology.tenants),
        "pairs": sum(verdict["pairs"] for verdict in checked["verdicts"]),
        "up, seconds": round(up["ready_after_s"], 2),
        "command until up, seconds": round(ready_s, 2),
        "command until all hold, seconds": round(held_s, 2),
        "expectations": {v["expect"]: v["after_s"] for v in checked["verdicts"]},
        "expectations that failed": checked["failed"],
        "misses": [miss for verdict in checked["verdicts"] for miss in verdict["misses"]],
    }
    for name, processes in rest.items():
        idle = _cpu_s(processes) - _cpu_s(first.get(name, []))
        figures[name] = {
            "processes": len(processes),
            "processor seconds until all hold": round(_cpu_s(busy.get(name, [])), 1),
            "resident bytes": sum(p.rss_bytes for p in processes),
            "proportional bytes": sum(p.pss_bytes for p in processes),
            "at rest, share of one core": round(idle / lasted_s, 4),
        }
    return figures


def zos(environment: dict[str, str], *argv: str) -> dict[str, Any]:
    """What `zos lab ARGV --json` says."""
    done = subprocess.run(
        (ZOS, "lab", *argv, "--json"),
        env=environment,
        capture_output=True,
        timeout=GIVE_UP_S,
        check=False,
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"zos lab {argv[0]}: {done.stderr.decode()}") from None
    if "error" in found:
        raise SystemExit(f"zos lab {argv[0]}: {found['error']}")
    return found


def _by_program(roots: tuple[int, ...]) -> dict[str, list[Process]]:
    """Everything that these processes have started, and they themselves."""
    found: dict[str, list[Process]] = defaultdict(list)
    for process in processes_below(*roots):
        found["the lab itself" if process.pid in roots else process.name].append(process)
    return dict(found)


def _cpu_s(processes: list[Process]) -> float:
    return sum(process.cpu_s for process in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lab", default=LAB)
    figures = measure(parser.parse_args().lab)
    limits = [
        Limit("expectations that failed", figures["expectations that failed"], 0),
        Limit(
            "seconds from the command until all hold",
            figures["command until all hold, seconds"],
            HELD_LIMIT_S,
        ),
    ]
    emit("lab_sixty", figures=figures, limits=limits)


if __name__ == "__main__":
    main()
