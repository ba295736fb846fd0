"""How a bench says what it measured: one JSON object on stdout and in build/bench/NAME.json.

Absolute times depend on the machine; what is claimed is a ratio or a count within one run. A limit
that does not hold makes the exit code 1, so that a figure cannot rot unseen.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

OUT_DIR = Path("build/bench")


@dataclass(frozen=True, slots=True)
class Limit:
    """A claim: `value` is at most (or at least) `bound`."""

    claim: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Minimum, median, 95th percentile and count of a series."""
    ordered = sorted(samples)
    return {
        "min": round(ordered[0], 4),
        "p50": round(statistics.median(ordered), 4),
        "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 4),
        "n": len(ordered),
    }


def emit(name: str, *, figures: dict[str, object], limits: Sequence[Limit] = ()) -> None:
    """Print and keep the result, then end the process: 0 when every limit holds, else 1."""
    result = {
        "schema": 1,
        "bench": name,
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "figures": figures,
        "limits": [
            {**asdict(limit), "value": round(limit.value, 4), "holds": limit.holds}
            for limit in limits
        ],
    }
    text = json.dumps(result, indent=2)
    OUT_DIR.mkdir(parents=True, exist_ok=True)
    (OUT_DIR / f"{name}.json").write_text(text + "\n")
    print(text)
    sys.exit(0 if all(limit.holds for limit in limits) else 1)
