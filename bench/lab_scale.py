"""How labs grow: from a file to ready, gone again, and the memory of a node, star and chain.

Each lab is built by a process of its own, from its start on. A lab is gone when the kernel has
freed its namespaces: it frees them in order, so two that are made and dropped afterwards tell.

    python -m bench.lab_scale [--sizes 10 100 1000 5000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from bench.report import Limit, emit, spread
from netlab.files.reading import read_lab
from netlab.keeper import linux
from netlab.keeper import rtnetlink as nl
from netlab.lab import Lab
from netlab.topology import Node, Topology
from netlab.usage import kernel_kib

SIZES = (10, 100, 1000, 5000)
LARGE, LARGEST = 1000, 5000
UP_S = 4.0
FREED_S = 2.0
KIB_A_NODE = 400.0
SMALL_NODES, SMALL_TIMES, SMALL_S = 5, 30, 0.025
# Of the time a node takes, in the largest lab against the one of LARGE.
LINEAR = 2.0
GIVE_UP_S = 120.0

FILES = {
    "star": "[node.n]\ncount = {count}\n",
    "chain": '[node.n]\ncount = {count}\nchain = true\nlink = "internet"\n',
}


def measure(shape: str, count: int, *, scratch: Path) -> dict[str, float]:
    file = scratch / f"{shape}-{count}.lab.toml"
    file.write_text(FILES[shape].format(count=count))
    wait_freed()
    before = kernel_kib()
    began = time.monotonic()
    argv = (sys.executable, "-m", "bench.lab_scale", "--build", str(file))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as lab:
        keeper = int(lab.stdout.readline() if lab.stdout else 0)
        up_s = time.monotonic() - began
        memory = kernel_kib() - before + resident_kib(keeper)
        pidfd = os.pidfd_open(keeper)
        began = time.monotonic()
        lab.kill()
        select.select([pidfd], [], [], GIVE_UP_S)
        os.close(pidfd)
        down_s = time.monotonic() - began
        wait_freed()
        freed_s = time.monotonic() - began
    return {
        "up, s": round(up_s, 3),
        "ms a node": round(1000 * up_s / count, 3),
        "processes gone, s": round(down_s, 3),
        "freed, s": round(freed_s, 3),
        "KiB a node": round(memory / count, 1),
    }


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def wait_freed() -> None:
    """Returns when all namespaces are freed that were dropped before: the kernel does it in turn.

    The first one's end says that the last batch has begun, the second one's that it is over.
    """
    for _ in range(2):
        name = drop_namespace()
        deadline = time.monotonic() + GIVE_UP_S
        while name in (found for _, found in socket.if_nameindex()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"a namespace is not freed in {GIVE_UP_S} s")
            time.sleep(0.001)


def drop_namespace() -> str:
    """A namespace that is dropped at once; the end of a cable here goes when it is freed."""
    name = "marker"
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.unshare(linux.CLONE_NEWNET)
    there = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.setns(home, linux.CLONE_NEWNET)
    with closing(nl.open_socket()) as channel:
        cable = nl.veth(
            name=name, ifindex=100, mac=b"\2\0\0\0\0\1", peer_name=name, peer_ifindex=101,
            peer_mac=b"\2\0\0\0\0\2", peer_netns_fd=there, mtu_bytes=1500,
        )  # fmt: skip
        nl.send(channel, cable)
    os.close(there)
    os.close(home)
    return name


async def build(file: Path) -> None:
    """From the file to ready; told by the number of the keeper, and kept until killed."""
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(read_lab(file), workdir=Path(scratch) / "lab") as lab:
            print(lab.keeper_pid, flush=True)
            await asyncio.Event().wait()


async def up_and_down() -> list[float]:
    """A small lab, as a test has one, many times in one process."""
    topology = Topology(nodes=tuple(Node(f"n{n}") for n in range(SMALL_NODES)))
    taken = []
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        for turn in range(SMALL_TIMES):
            began = time.monotonic()
            async with Lab.create(topology, workdir=Path(scratch) / str(turn)):
                pass
            taken.append(time.monotonic() - began)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        asyncio.run(build(options.build))
        return
    linux.unshare(linux.CLONE_NEWNET)  # the markers' cables are nobody else's business
    small = spread(asyncio.run(up_and_down()))
    figures: dict[str, object] = {f"{SMALL_NODES} nodes up and down, s": small}
    limits = [Limit(f"{SMALL_NODES} nodes up and down, s", small["p50"], SMALL_S)]
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        for shape in FILES:
            found = {n: measure(shape, n, scratch=Path(scratch)) for n in options.sizes}
            figures |= {f"{shape}, {n} nodes": each for n, each in found.items()}
            limits += limits_of(shape, found)
    emit("lab_scale", figures=figures, limits=limits)


def limits_of(shape: str, found: dict[int, dict[str, float]]) -> list[Limit]:
    limits = []
    if LARGE in found:
        large = found[LARGE]
        limits += [
            Limit(f"{shape} of {LARGE} up, s", large["up, s"], UP_S),
            Limit(f"{shape} of {LARGE} freed, s", large["freed, s"], FREED_S),
            Limit(f"{shape} of {LARGE}, KiB a node", large["KiB a node"], KIB_A_NODE),
        ]
    if LARGE in found and LARGEST in found:
        growth = found[LARGEST]["ms a node"] / found[LARGE]["ms a node"]
        limits.append(Limit(f"{shape} of {LARGEST}, time a node / of {LARGE}", growth, LINEAR))
    return limits


if __name__ == "__main__":
    main()
