"""Connections to the internet that go on while the exit drains that they began at."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from netlab.fleet.fleet import Fleet
from netlab.topology import Workload
from tests.lab.leaving import (
    COMMAND_S,
    EVERY_S,
    EXITS,
    HOST_4,
    HOST_6,
    PORT,
    SOURCES,
    drain,
    network_status,
    offer,
)
from tests.lab.scene import measured, until

CHUNK = bytes(1000)
CONNECT_S = 2.0
HOSTS = (HOST_4, HOST_6)
WEB, LOCAL = ("n1", "web"), ("e1", "local")  # node, workload
ON_AN_EXIT = Workload("local", "e1")
ENOUGH = 100 * len(CHUNK)


def by(
    fleet: Fleet, exit_: str, host: str, *, of: tuple[str, str] = WEB
) -> Callable[[], Awaitable[bool]]:
    """Whether a new connection of the workload `of` leaves by this exit, with its address."""

    async def look() -> bool:
        try:
            async with connected(fleet, host, of=of) as stream:
                assert stream.source == SOURCES[stream.exit, host]
                return stream.exit == exit_
        except (OSError, TimeoutError):
            return False

    return look


def more_on(*streams: Stream) -> Callable[[], Awaitable[bool]]:
    before = [stream.came_back for stream in streams]

    async def look() -> bool:
        assert [stream.error for stream in streams if stream.error] == []
        return all(s.came_back > b + ENOUGH for s, b in zip(streams, before, strict=True))

    return look


@asynccontextmanager
async def running(*streams: Stream) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Each is done when its connection has ended."""

    async def until_it_ends(stream: Stream) -> None:
        try:
            await stream.run()
        except OSError as exc:
            stream.error = exc

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(until_it_ends(each)) for each in streams]
        yield tasks
        for task in tasks:
            task.cancel()


class Stream:
    """A TCP connection to somebody in the internet, who says who they are and sends all back."""

    def __init__(self, sock: socket.socket, exit_: str, source: str) -> None:
        self.exit, self.source = exit_, source  # by which exit, and as whom we are seen there
        self.came_back = 0  # bytes
        self.longest_gap_s = 0.0  # between one answer and the next
        self.error: OSError | None = None  # how it ended
        self._sock = sock

    async def run(self) -> None:
        """Until the connection ends: then it raises OSError."""
        loop = asyncio.get_running_loop()
        while True:
            asked = time.monotonic()
            await loop.sock_sendall(self._sock, CHUNK)
            missing = len(CHUNK)
            while missing:
                if not (part := await loop.sock_recv(self._sock, missing)):
                    raise ConnectionError("the other side has closed")
                missing -= len(part)
            self.came_back += len(CHUNK)
            self.longest_gap_s = max(self.longest_gap_s, time.monotonic() - asked)
            await asyncio.sleep(EVERY_S)


@asynccontextmanager
async def connected(fleet: Fleet, host: str, *, of: tuple[str, str] = WEB) -> AsyncIterator[Stream]:
    """A workload has a connection to the internet. TimeoutError when nobody answers."""
    node, name = of
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with fleet.lab.node(node).in_netns(fleet.inside[f"alice/home/{name}"].netns):
        tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    loop = asyncio.get_running_loop()
    with tcp:
        async with asyncio.timeout(CONNECT_S):
            await loop.sock_connect(tcp, (host, PORT))
            said = b""
            while not said.endswith(b"\n"):
                if not (part := await loop.sock_recv(tcp, 512)):
                    raise ConnectionError("the other side has closed")
                said += part
        yield Stream(tcp, *said.decode().split())


async def drains(fleet: Fleet, *, within_s: float) -> None:
    """Two exits; the one in use drains, and its time ends."""
    alice = fleet.person("alice", at="registry")
    argv = ("network", "exit", "set", "home", *EXITS, "--registry", fleet.registry)
    await alice.zos(*argv, timeout_s=COMMAND_S)
    await offer(fleet, "e1")
    for host in HOSTS:
        await until(by(fleet, "e1", host), f"the first exit to {host}", within_s=within_s)
        await until(by(fleet, "e1", host, of=LOCAL), "the exit of its own", within_s=within_s)
    await offer(fleet, "e2")
    async with (
        connected(fleet, HOST_4) as v4,
        connected(fleet, HOST_6) as v6,
        running(v4, v6) as ends,
    ):
        await until(more_on(v4, v6), "both streams", within_s=within_s)
        assert (v4.exit, v6.exit) == ("e1", "e1")
        began = time.monotonic()
        await drain(fleet, "e1", "1h")
        said = time.monotonic()
        for host in HOSTS:
            await until(by(fleet, "e2", host), f"the next exit to {host}", within_s=within_s)
        measured(command_s=said - began, next_exit_s=time.monotonic() - said)
        way = (await network_status(fleet, "n1")).way_out
        assert way is not None
        assert (way.exit, way.draining) == ("e2", "e1")
        await until(more_on(v4, v6), "both streams at the exit that drains", within_s=within_s)
        for host in HOSTS:
            assert await by(fleet, "e2", host)()
        await fleet.restart_node("n1")  # EXIT-065
        await until(is_settled(fleet), "the node again", within_s=within_s)
        way = (await network_status(fleet, "n1")).way_out
        assert way is not None
        assert (way.exit, way.draining) == ("e2", "e1")
        for host in HOSTS:
            assert await by(fleet, "e2", host)()
        await until(more_on(v4, v6), "both streams after a restart", within_s=within_s)
        assert not any(task.done() for task in ends)
        measured(longest_gap_s=max(v4.longest_gap_s, v6.longest_gap_s))
        await drain(fleet, "e1", "1s")
        _, alive = await asyncio.wait(ends, timeout=within_s)
        assert alive == set()
    for host in HOSTS:
        assert await by(fleet, "e2", host)()
        await until(by(fleet, "e2", host, of=LOCAL), "the other exit", within_s=within_s)
    await nothing_is_left(fleet)


def is_settled(fleet: Fleet) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return (await network_status(fleet, "n1")).state == "up"

    return look


async def nothing_is_left(fleet: Fleet) -> None:
    netns = (await network_status(fleet, "n1")).netns
    for words in ("link", "rule", "-6 rule", "route show table all", "-6 route show table all"):
        shown = await fleet.lab.node("n1").run("ip", "-n", netns, *words.split())
        assert b"wg1" not in shown.stdout
        assert b"159:" not in shown.stdout
