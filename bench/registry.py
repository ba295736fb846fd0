"""How fast a document reaches those who watch, and how long a reconnect storm takes.

Prints JSON. Usage: python bench/registry.py [watchers] [reconnecting]
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

from overlay.peers.registry import Bookmark, Document
from tests.overlay.registry import kit

PUTS = 100
OWNER = kit.tenant()


async def measure_delivery(watchers: int) -> dict[str, float]:
    """A network document is put; every watcher is a node that it names."""
    names = [f"n{n}" for n in range(watchers)]
    first: list[float] = []
    last: list[float] = []
    put: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            here = await stack.enter_async_context(kit.registry(Path(directory)))
            owner = await stack.enter_async_context(kit.client(here, OWNER))
            await owner.publish(kit.sign(kit.network(OWNER, *names), OWNER))
            streams = []
            for name in names:
                client = await stack.enter_async_context(kit.client(here, kit.node(name)))
                stream = await stack.enter_async_context(aclosing(client.watch()))
                await kit.take(stream, 2)
                streams.append(stream)
            for version in range(2, PUTS + 2):
                envelope = kit.sign(kit.network(OWNER, *names, version=version), OWNER)
                began = time.perf_counter()
                seen: list[float] = []

                async def receive(stream: object, seen: list[float] = seen) -> None:
                    assert isinstance(await anext(stream), Document)
                    seen.append(time.perf_counter())

                async with asyncio.TaskGroup() as tasks:
                    for n, stream in enumerate(streams):
                        tasks.create_task(receive(stream), name=f"watcher {n}")
                    await owner.publish(envelope)
                    put.append(time.perf_counter() - began)
                first.append(min(seen) - began)
                last.append(max(seen) - began)
    return {
        "watchers": watchers,
        "put_p50_ms": _ms(statistics.median(put)),
        "first_watcher_p50_ms": _ms(statistics.median(first)),
        "last_watcher_p50_ms": _ms(statistics.median(last)),
    }


async def measure_storm(count: int) -> dict[str, float]:
    """All nodes of one network come back at once, with where they were; then with nothing."""
    names = [f"n{n}" for n in range(count)]
    network = kit.network(OWNER, *names)
    with tempfile.TemporaryDirectory() as directory:
        async with kit.registry(Path(directory)) as here, kit.client(here, OWNER) as owner:
            await owner.publish(kit.sign(network, OWNER))
            revision = here.service.directory.revision
            began = time.perf_counter()
            for index, name in enumerate(names, 1):
                envelope = kit.signed_member(network, name, index)
                await here.service.publish(kit.verified(envelope), envelope)
            stored_s = time.perf_counter() - began
            began, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(
                *(_catch_up(here, n, here.service.directory.revision) for n in names)
            )
            resumed_s, resumed_cpu_s = time.perf_counter() - began, time.process_time() - cpu
            began = time.perf_counter()
            some = names[: max(1, count // 20)]
            await asyncio.gather(*(_catch_up(here, n, revision) for n in some))
            behind_s = time.perf_counter() - began
    return {
        "nodes": count,
        "members_stored_per_s": round(count / stored_s),
        "resumed_with_nothing_new_s": round(resumed_s, 2),
        "of_that_cpu_of_both_sides_s": round(resumed_cpu_s, 2),
        "nodes_behind": len(some),
        "caught_up_with_all_members_s": round(behind_s, 2),
    }


async def _catch_up(here: object, name: str, revision: int) -> None:
    client = kit.client(here, kit.node(name))
    async with client, aclosing(client.watch(revision)) as events:
        while not isinstance(await anext(events), Bookmark):
            pass


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


async def main(watchers: int = 100, reconnecting: int = 1_000) -> None:
    figures = {
        "schema": 1,
        "delivery": await measure_delivery(watchers),
        "alone": await measure_delivery(1),
        "storm": await measure_storm(reconnecting),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
