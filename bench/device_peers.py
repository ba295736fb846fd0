"""One WireGuard device of many peers: a look that finds nothing to do, and one more peer.

Looking (read and compare with what should be) against `wg show dump` of the same device, taken in
turn; writing one peer to a large device against writing one to a small one. Runs in network and
mount namespaces of its own, on wireguard-go (ZOS_WIREGUARD_GO, else the newest found).
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from bench.report import Limit, emit, spread
from overlay.model import Address, Endpoint, Prefix, WgPeer, WgPublicKey
from overlay.netns.backend import BACKEND_SETTING, choose
from overlay.netns.plan import plan_peers
from overlay.ports import DeviceRef, WireGuard

SIZES = (100, 1_000, 10_000)
LOOKS = 15
WRITES = 100
DEVICE = DeviceRef("w-bench")

LOOK_LIMIT = 1.5
WRITE_CPU_LIMIT_MS = 1.0
WRITE_GROWTH_LIMIT = 1.5
MEMORY_LIMIT_BYTES = 2048

_CLONE_NEWNS_NEWNET = 0x40020000
_MS_REC_PRIVATE = 0x44000
_libc = ctypes.CDLL(None, use_errno=True)


async def main() -> None:
    go_private()
    choice = await choose({**os.environ, BACKEND_SETTING: "wireguard-go"})
    figures: dict[str, object] = {"wireguard": choice.reason}
    sizes = {size: await measure(choice.wireguard, size) for size in SIZES}
    figures |= {f"{size} peers": figure for size, figure in sizes.items()}
    large, small = sizes[max(SIZES)], sizes[min(SIZES)]
    emit(
        "device_peers",
        figures=figures,
        limits=[
            *(
                Limit(f"look at {size} peers / wg show dump", figure["look_ratio"], LOOK_LIMIT)
                for size, figure in sizes.items()
            ),
            Limit(
                "CPU ms of writing one peer of 10 000", large["write_cpu_ms"], WRITE_CPU_LIMIT_MS
            ),
            Limit(
                "writing one peer of 10 000 / of 100, CPU",
                large["write_cpu_ms"] / small["write_cpu_ms"],
                WRITE_GROWTH_LIMIT,
            ),
            Limit("bytes kept per peer", large["kept_bytes_per_peer"], MEMORY_LIMIT_BYTES),
        ],
    )


def go_private() -> None:
    if os.geteuid() != 0:
        raise SystemExit("this bench makes network namespaces: run it as root")
    if _libc.unshare(_CLONE_NEWNS_NEWNET) != 0:
        raise SystemExit(f"no namespaces: {os.strerror(ctypes.get_errno())}")
    _libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None)
    _libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, None)


async def measure(wireguard: WireGuard, size: int) -> dict[str, float]:
    desired = {peer.public_key: peer for peer in map(peer_of, range(size))}
    await wireguard.create(DEVICE.birth_name)
    try:
        began = time.perf_counter()
        await wireguard.write(DEVICE, put=list(desired.values()))
        fill_ms = (time.perf_counter() - began) * 1000
        gc.collect()
        before = resident_bytes()
        looks, dumps = await compare_looks(wireguard, desired)
        kept = resident_bytes() - before
        writes, write_cpus = await measure_writes(wireguard)
    finally:
        timed_command("ip", "link", "del", DEVICE.birth_name)
        await wireguard.retire(DEVICE.birth_name)
    look, dump = spread(looks)["p50"], spread(dumps)["p50"]
    return {
        "fill_ms": round(fill_ms, 1),
        "look_ms": look,
        "wg_show_dump_ms": dump,
        "look_ratio": round(look / dump, 3),
        "write_ms": spread(writes)["p50"],
        "write_cpu_ms": spread(write_cpus)["p50"],
        "kept_bytes_per_peer": round(kept / size),
    }


async def compare_looks(
    wireguard: WireGuard, desired: dict[WgPublicKey, WgPeer]
) -> tuple[list[float], list[float]]:
    async def look() -> None:
        device = await wireguard.read(DEVICE)
        if device is None or list(plan_peers(desired=desired, actual=device.peers, now=0)):
            raise SystemExit("the device does not hold what was written")

    looks, dumps = [], []
    await look()  # the first one parses every peer
    for _ in range(LOOKS):
        looks.append(await timed(look))
        dumps.append(timed_command("wg", "show", DEVICE.birth_name, "dump"))
    return looks, dumps


async def measure_writes(wireguard: WireGuard) -> tuple[list[float], list[float]]:
    walls, cpus = [], []
    for number in range(WRITES):
        added = peer_of(max(SIZES) + number)
        cpu = time.process_time()
        walls.append(await timed(partial(wireguard.write, DEVICE, put=(added,))))
        cpus.append((time.process_time() - cpu) * 1000)
    return walls, cpus


async def timed(act: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await act()
    return (time.perf_counter() - began) * 1000


def timed_command(*argv: str) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def peer_of(number: int) -> WgPeer:
    return WgPeer(
        WgPublicKey((number + 1).to_bytes(4, "big") * 8),  # zero is the key of a device without
        (
            Prefix(f"10.{number // 256}.{number % 256}.0/24"),
            Prefix(f"fd12:3456:789a:{number + 1:x}::/64"),
        ),
        Endpoint(Address(f"198.51.{number // 256 % 256}.{number % 256}"), 51820),
    )


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    asyncio.run(main())
