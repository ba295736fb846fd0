"""A star of so many hosts in a lab of ours, both families."""

import asyncio
import sys
import tempfile
from pathlib import Path

from netlab.lab import Lab
from netlab.topology import Node, Topology


async def main(count: int) -> None:
    star = Topology(nodes=tuple(Node(f"h{number}") for number in range(count)))
    with tempfile.TemporaryDirectory() as scratch:
        async with Lab.create(star, workdir=Path(scratch) / "lab"):
            print("up", flush=True)
            sys.stdin.readline()


asyncio.run(main(int(sys.argv[1])))
