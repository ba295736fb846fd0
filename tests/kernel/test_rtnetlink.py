"""Many tasks share one `Rtnetlink`: every network of a node looks at the underlay."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from overlay.errors import Unavailable
from overlay.netns import namespaces
from overlay.netns.kernel import Rtnetlink

NETNS = "n-rtnetlink"


async def test_reads_of_one_netns_at_the_same_time_all_succeed(private_underlay):  # NODE-008
    namespaces.create(NETNS)
    path = namespaces.pin_path(NETNS)
    try:
        async with Rtnetlink() as kernel:
            for netns in (None, path):
                seen = await asyncio.gather(*(kernel.read(netns) for _ in range(20)))
                assert all(snapshot == seen[0] for snapshot in seen)
    finally:
        namespaces.remove(NETNS)


async def test_who_writes_to_a_netns_that_goes_is_refused_and_never_hangs(private_underlay):
    # NET-056
    async with Rtnetlink() as kernel, asyncio.timeout(60):
        for steps in range(12):
            namespaces.create(NETNS)
            path = namespaces.pin_path(NETNS)
            await kernel.set_link(path, "lo", up=True)
            it = _identity(Path(path))
            async with asyncio.TaskGroup() as group:
                for number in range(2):
                    group.create_task(_write(kernel, path), name=f"writer {number}")
                for _ in range(steps):
                    await asyncio.sleep(0)
                async with kernel.forgotten(path):
                    namespaces.remove(NETNS)
            assert it not in _held()


async def _write(kernel: Rtnetlink, path: str) -> None:
    with suppress(Unavailable):
        for host in range(20):
            await kernel.add_address(path, "lo", f"10.0.0.{host}/32")


def _held() -> set[tuple[int, int]]:
    """What descriptors of this process lead to."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(_identity(entry))
    return found


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
