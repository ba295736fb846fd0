"""Device keys are replaced while workloads talk: nothing breaks, little is lost (KEY-020 ..)."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet
from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.nat import NATS
from tests.lab import scene
from tests.lab.meeting import LATE_S, asking, behind, meeting, until_way
from tests.lab.scene import Answer, Scene, Workload, measured, until
from zos_core.status import Status

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(300)]

OVERLAP_S = 5
PING_EVERY_S = 0.01
STREAM_PORT = 7010
CHUNK = bytes(1024)
PATIENCE_S = 90.0
TRIED_AFTER_S = 6.0
# A second without an answer would be felt; what is printed is a few packets.
MAX_LOST = 100


def _configure(lab: Lab, *names: str) -> None:
    for name in names:
        config = lab.node(name).path("/etc/zos/node.toml")
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f"[keys]\noverlap_s = {OVERLAP_S}\n")


@asynccontextmanager
async def _running(lab, underlay: str = "dual") -> AsyncIterator[tuple[Scene, Workload, Workload]]:
    stage = await Scene.open(await lab(scene.topology("n1", "n2", underlay=underlay)))
    _configure(stage.lab, "n1", "n2")
    await stage.enrol("n1", "n2")
    await stage.create_network("alice", "home", "n1", "n2")
    here, there = [await stage.attach("alice", "home", node) for node in ("n1", "n2")]
    await stage.until_all_reach([here, there])
    yield stage, here, there


async def test_a_key_is_replaced_under_a_stream_and_pings_of_both_families(lab):
    # KEY-021, KEY-024, KEY-026
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


@pytest.mark.parametrize(("underlay", "kill"), [("ipv4", False), ("ipv6", True)])
async def test_the_registry_is_gone_when_the_time_comes_and_perhaps_the_node(lab, underlay, kill):
    # KEY-021, KEY-022, KEY-026
    async with _running(lab, underlay) as (stage, here, there):
        before = await _key(stage, "n1")
        async with _stream(stage, here, there) as stream, _pings(stage, here, there) as pings:
            await stage.fleet.zos("n1", "node", "rotate", "home")
            await until(lambda: _knows_two(stage, "n2"), "the peer knows the next key")
            await until(lambda: _is_held(stage, "n1"), "the node knows that it was heard")
            await stage.fleet.stop_registry(signal.SIGKILL)
            if kill:
                await stage.fleet.stop_node("n1", signal.SIGKILL)
                await asyncio.sleep(OVERLAP_S)
                await stage.run("n1")
            await _until_rotated(stage, before, "n1", seen_by="n2", said=False)
            await stream.settle()
        lost = await pings()
        measured(lost_v4=lost[0], lost_v6=lost[1], stream_gap_s=round(stream.longest_gap_s, 3))
        assert max(lost) < MAX_LOST
        assert await _knows_two(stage, "n2")
        await stage.fleet.start_registry()
        await _until_rotated(stage, before, "n1", seen_by="n2")
        await until(lambda: _knows_one(stage, "n2"), "the former key is no peer any more")
        await stage.until_all_reach([here, there])
        await _is_as_documented(stage)


async def test_both_ends_replace_their_keys_at_once(lab):
    # KEY-026
    async with _running(lab) as (stage, here, there):
        before = {name: await _key(stage, name) for name in ("n1", "n2")}
        async with _stream(stage, here, there) as stream, _pings(stage, here, there) as pings:
            await asyncio.gather(*(stage.fleet.zos(name, "node", "rotate") for name in before))
            await asyncio.gather(
                _until_rotated(stage, before["n1"], "n1", seen_by="n2"),
                _until_rotated(stage, before["n2"], "n2", seen_by="n1"),
            )
            await stream.settle()
        lost = await pings()
        measured(lost_v4=lost[0], lost_v6=lost[1], stream_gap_s=round(stream.longest_gap_s, 3))
        await _is_as_documented(stage)


async def test_a_hidden_node_replaces_its_key_at_a_relay(lab):
    # REL-025, KEY-024
    symmetric = NATS["symmetric"]
    world = await lab(behind(symmetric, symmetric, relays=1))
    _configure(world, "a", "b", "r1")
    async with meeting(world) as fleet, asking(fleet) as questions:
        await questions.until_answered()
        way = await until_way(fleet, "via relay r1")
        await asyncio.sleep(TRIED_AFTER_S)  # trials of better ways lose packets by themselves
        for name in "ab":
            begun, keys = time.monotonic(), await _keys(fleet, name)
            await fleet.zos(name, "node", "rotate")
            await until(lambda: _has_another_key(fleet, name, keys), "another key")  # noqa: B023
            await questions.until_answered()
            await asyncio.sleep(LATE_S)
            lost, gap_s = questions.lost_since(begun), questions.gap_since(begun)
            measured(node=name, lost=lost, longest_gap_s=round(gap_s, 3))
            assert lost < MAX_LOST
            assert await until_way(fleet, way) == way


async def _keys(fleet: Fleet, name: str) -> list[str | None]:
    status = await node_socket.ask(fleet.lab.node(name), "/v1/status", Status)
    return [network.public_key for network in status.networks]


async def _has_another_key(fleet: Fleet, name: str, before: list[str | None]) -> bool:
    status = await node_socket.ask(fleet.lab.node(name), "/v1/status", Status)
    return all(
        network.public_key not in before
        and network.key is not None
        and network.key.takes_over_at is None
        for network in status.networks
    )


async def _is_held(stage: Scene, name: str) -> bool:
    return bool((await stage.network_of(name, "home"))["member_accepted"])


async def _knows_two(stage: Scene, name: str) -> bool:
    return len(await _peers(stage, name)) == 2


async def _knows_one(stage: Scene, name: str) -> bool:
    return len(await _peers(stage, name)) == 1


async def _peers(stage: Scene, name: str) -> list[str]:
    """The keys of the device's peers."""
    netns = (await stage.network_of(name, "home"))["netns"]
    dump = await stage.shell(name, f"wg show {netns.replace('n-', 'w-', 1)} peers", netns=netns)
    return dump.split()


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


async def _until_rotated(
    stage: Scene, before: str, name: str, *, seen_by: str, said: bool = True
) -> None:
    """The node has another key, the other follows it, and the node has said so to whoever asks."""

    async def is_rotated() -> bool:
        own = await stage.network_of(name, "home")
        peers = (await stage.network_of(seen_by, "home")).get("peers", [{}])
        return (
            own.get("public_key") not in (None, before)
            and (own["key"]["takes_over_at"] is None and own["member_accepted"]) >= said
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
        assert await _peers(stage, name) == [peer["public_key"] for peer in network["peers"]]
        assert (await stage.read(name, "/v1/plan"))["changes"] == []
