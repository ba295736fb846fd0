"""Many tasks share one `Rtnetlink`: every network of a node looks at the underlay."""

from __future__ import annotations

import asyncio

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
