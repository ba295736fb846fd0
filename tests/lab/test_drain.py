"""An exit that drains keeps what began at it until its deadline, and gets nothing new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.lab.leaving import (
    CHUNK,
    COMMAND_S,
    HOST_4,
    HOST_6,
    Stream,
    connected,
    network_status,
    offer,
    topology,
    with_exits,
)
from tests.lab.scene import measured, until

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]

SOURCES = {
    ("e1", HOST_4): "203.0.113.11",
    ("e1", HOST_6): "2001:db8:113::11",
    ("e2", HOST_4): "203.0.113.12",
    ("e2", HOST_6): "2001:db8:113::12",
}
ENOUGH = 100 * len(CHUNK)


def by(fleet, exit_: str, host: str) -> Callable[[], Awaitable[bool]]:
    """Whether a new connection leaves by this exit, with its address."""

    async def look() -> bool:
        try:
            async with connected(fleet, host) as stream:
                assert stream.source == SOURCES[stream.exit, host]
                return stream.exit == exit_
        except (OSError, TimeoutError):
            return False

    return look


def more_on(*streams: Stream) -> Callable[[], Awaitable[bool]]:
    before = [stream.came_back for stream in streams]

    async def look() -> bool:
        return all(s.came_back > b + ENOUGH for s, b in zip(streams, before, strict=True))

    return look


@asynccontextmanager
async def running(*streams: Stream) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Each is done when its connection has ended."""

    async def until_it_ends(stream: Stream) -> None:
        with suppress(OSError):
            await stream.run()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(until_it_ends(each)) for each in streams]
        yield tasks
        for task in tasks:
            task.cancel()


async def drain(fleet, name: str, duration: str) -> None:
    operator = fleet.person("operator", at="registry")
    await operator.zos("exit", "drain", "farm", name, "--for", duration, timeout_s=COMMAND_S)


async def test_a_connection_lives_at_an_exit_that_drains_until_its_deadline(lab):
    # EXIT-056, EXIT-060, EXIT-061
    async with with_exits(await lab(topology())) as fleet:
        alice = fleet.person("alice", at="registry")
        argv = ("network", "exit", "set", "home", "e1", "e2", "--registry", fleet.registry)
        await alice.zos(*argv)
        await offer(fleet, "e1")
        for host in (HOST_4, HOST_6):
            await until(by(fleet, "e1", host), f"the first exit to {host}", within_s=20)
        await offer(fleet, "e2")
        async with (
            connected(fleet, HOST_4) as v4,
            connected(fleet, HOST_6) as v6,
            running(v4, v6) as ends,
        ):
            await until(more_on(v4, v6), "both streams")
            assert (v4.exit, v6.exit) == ("e1", "e1")
            began = time.monotonic()
            await drain(fleet, "e1", "10m")
            said = time.monotonic()
            for host in (HOST_4, HOST_6):
                await until(by(fleet, "e2", host), f"the next exit to {host}", within_s=20)
            measured(command_s=said - began, next_exit_s=time.monotonic() - said)
            way = (await network_status(fleet, "n1")).way_out
            assert (way.exit, way.draining) == ("e2", "e1")
            await until(more_on(v4, v6), "both streams at the exit that drains")
            for host in (HOST_4, HOST_6):
                assert await by(fleet, "e2", host)()
            assert not any(task.done() for task in ends)
            await drain(fleet, "e1", "1s")
            _, alive = await asyncio.wait(ends, timeout=20)
            assert alive == set()
        for host in (HOST_4, HOST_6):
            assert await by(fleet, "e2", host)()
        netns = (await network_status(fleet, "n1")).netns
        n1 = fleet.lab.node("n1")
        for words in ("link", "rule", "-6 rule", "route show table all", "-6 route show table all"):
            shown = await n1.run("ip", "-n", netns, *words.split())
            assert b"wg1" not in shown.stdout
            assert b"159:" not in shown.stdout
