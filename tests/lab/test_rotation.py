"""Device keys are replaced while workloads talk: nothing breaks, little is lost (KEY-020 ..)."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from netlab.lab_node import LabNode
from tests.lab import scene
from tests.lab.scene import Answer, Scene, Workload, measured, until

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(300)]

OVERLAP_S = 5
PING_EVERY_S = 0.01
STREAM_PORT = 7010
CHUNK = bytes(1024)
PATIENCE_S = 90.0
# A second without an answer would be felt; what is printed is a few packets.
MAX_LOST = 100


@asynccontextmanager
async def _running(lab) -> AsyncIterator[tuple[Scene, Workload, Workload]]:
    stage = await Scene.open(await lab(scene.topology("n1", "n2")))
    for name in ("n1", "n2"):
        config = stage.lab.node(name).path("/etc/zos/node.toml")
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f"[keys]\noverlap_s = {OVERLAP_S}\n")
    await stage.enrol("n1", "n2")
    await stage.create_network("alice", "home", "n1", "n2")
    here, there = [await stage.attach("alice", "home", node) for node in ("n1", "n2")]
    await stage.until_all_reach([here, there])
    yield stage, here, there


async def test_a_key_is_replaced_under_a_stream_and_pings_of_both_families(lab):
    async with _running(lab) as (stage, here, there):
        before = await _key(stage, "n1")
        async with _stream(stage, here, there) as stream, _pings(stage, here, there) as pings:
            (rotation,) = (await stage.fleet.zos("n1", "node", "rotate"))["rotations"]
            assert rotation["name"] == "home"
            await _until_rotated(stage, before, "n1", seen_by="n2")
            await stream.settle()
        lost = await pings()
        measured(lost_v4=lost[0], lost_v6=lost[1], stream_gap_s=round(stream.longest_gap_s, 3))
        assert max(lost) < MAX_LOST
        await _is_as_documented(stage)


class _Stream:
    """A TCP connection that says something a hundred times a second and gets it back."""

    def __init__(self) -> None:
        self.sent = self.echoed = 0
        self.longest_gap_s = 0.0

    async def settle(self) -> None:
        """What was sent until now has come back."""
        wanted = self.sent
        await until(lambda: self._has(wanted), "the stream goes on")

    async def _has(self, wanted: int) -> bool:
        return self.echoed >= wanted > 0

    async def say(self, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(CHUNK)
            await writer.drain()
            self.sent += 1
            await asyncio.sleep(PING_EVERY_S)

    async def hear(self, reader: asyncio.StreamReader) -> None:
        last = time.monotonic()
        while True:
            await reader.readexactly(len(CHUNK))
            self.echoed += 1
            now = time.monotonic()
            self.longest_gap_s, last = max(self.longest_gap_s, now - last), now


@asynccontextmanager
async def _stream(stage: Scene, here: Workload, there: Workload) -> AsyncIterator[_Stream]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                writer.write(await reader.readexactly(len(CHUNK)))
        writer.close()

    with stage.lab.node(there.at).in_netns(there.netns):
        listener = scene.bound(there.v4, STREAM_PORT)
    with stage.lab.node(here.at).in_netns(here.netns):
        client = scene.bound(here.v4, 0)
    server = await asyncio.start_server(echo, sock=listener)
    await asyncio.get_running_loop().sock_connect(client, (there.v4, STREAM_PORT))
    reader, writer = await asyncio.open_connection(sock=client)
    stream = _Stream()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stream.say(writer)), group.create_task(stream.hear(reader))]
        try:
            yield stream
        finally:
            for task in tasks:
                task.cancel()
            writer.close()
            server.close()


@asynccontextmanager
async def _pings(stage: Scene, here: Workload, there: Workload) -> AsyncIterator:
    """`await pings()` says how many were lost, of IPv4 and of IPv6."""
    node = stage.lab.node(here.at)
    argv = ("ping", "-n", "-q", "-i", str(PING_EVERY_S), "-W", "2")
    processes = [
        await node.spawn(*argv, address, log=f"ping{family}", netns=here.netns)
        for family, address in (("4", there.v4), ("6", there.v6))
    ]

    async def lost() -> tuple[int, ...]:
        return tuple([await _lost(node, f"ping{family}") for family in "46"])

    yield lost
    for process in processes:
        process.kill(signal.SIGINT)
    for process in processes:
        await process.wait()


async def _lost(node: LabNode, log: str) -> int:
    said = (node.directory / f"{log}.log").read_text()
    sent, received = map(
        int, re.search(r"(\d+) packets transmitted, (\d+) received", said).groups()
    )
    assert sent > 100
    return sent - received


async def _until_rotated(stage: Scene, before: str, name: str, *, seen_by: str) -> None:
    """The node has another key, and the other knows no other any more."""

    async def is_rotated() -> bool:
        own = await stage.network_of(name, "home")
        peers = (await stage.network_of(seen_by, "home")).get("peers", [{}])
        return (
            own.get("public_key") not in (None, before)
            and own["key"]["takes_over_at"] is None
            and [peer.get("public_key") for peer in peers] == [own["public_key"]]
        )

    await until(is_rotated, "another key", within_s=PATIENCE_S)


async def _key(stage: Scene, name: str) -> str:
    found: Answer = await stage.network_of(name, "home")
    return str(found["public_key"])


async def _is_as_documented(stage: Scene) -> None:
    """Each device has exactly the peer that the documents give, and nothing is left to do."""
    for name in ("n1", "n2"):
        network = await stage.network_of(name, "home")
        device = network["netns"].replace("n-", "w-", 1)
        dump = await stage.shell(name, f"wg show {device} peers", netns=network["netns"])
        assert dump.split() == [peer["public_key"] for peer in network["peers"]]
        assert (await stage.read(name, "/v1/plan"))["changes"] == []
