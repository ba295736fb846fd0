"""Run every bench in turn, one process each: `python -m bench [NAME ...]`; 1 when a limit fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from bench.report import OUT_DIR

_NOT_BENCHES = {"__init__", "__main__", "contenders", "packets", "report"}


def names() -> list[str]:
    here = Path(__file__).resolve().parent
    return sorted(path.stem for path in here.glob("*.py") if path.stem not in _NOT_BENCHES)


def run(name: str) -> bool:
    """One bench, its limits a line each; True when all hold."""
    print(f"{name} ...", flush=True)
    began = time.monotonic()
    done = subprocess.run(
        (sys.executable, "-m", f"bench.{name}"), stdout=subprocess.DEVNULL, check=False
    )
    print(f"{name}: {time.monotonic() - began:.0f} s, details in {OUT_DIR / name}.json")
    if (OUT_DIR / f"{name}.json").exists():
        for limit in json.loads((OUT_DIR / f"{name}.json").read_text())["limits"]:
            sign = ">=" if limit["at_least"] else "<="
            verdict = "holds" if limit["holds"] else "DOES NOT HOLD"
            print(f"  {limit['claim']}: {limit['value']} {sign} {limit['bound']}: {verdict}")
    return done.returncode == 0


def main() -> int:
    wanted = sys.argv[1:] or names()
    if unknown := set(wanted) - set(names()):
        print(f"no bench {', '.join(sorted(unknown))}; there are: {', '.join(names())}")
        return 2
    failed = [name for name in wanted if not run(name)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
