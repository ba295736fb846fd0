"""One more peer: from the line that the registry sends to the peer on the device.

A whole node in this process, as `zos node run` composes it: the line is parsed, the document
verified (three signatures), made durable in SQLite, selected, and written to a real wireguard-go.
What is measured is our processor time, all threads, system calls included; the registry is one that
hands out lines made beforehand, so the TLS record is not in it. Afterwards nothing happens for a
while: what the node then does is look whether anybody changed the device. Runs in namespaces of its
own.

    python -m bench.peer_delta [--rounds 100]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.device_peers import go_private
from bench.report import Limit, emit, spread
from overlay.documents import envelope as dsse
from overlay.documents import schema, trust
from overlay.documents.envelope import Envelope, encode_envelope
from overlay.documents.schema import (
    Document,
    EndpointCandidate,
    Farm,
    Invitation,
    Member,
    NamedMember,
    Network,
    Owners,
)
from overlay.errors import Unavailable
from overlay.keys.identity import Identity, Kind, Signer
from overlay.keys.store import generate
from overlay.keys.wireguard import DeviceKey
from overlay.model import CandidateKind, FarmId, NetworkId, RegistryId
from overlay.netns.backend import BACKEND_SETTING
from overlay.peers import registry_wire as wire
from overlay.peers.registry import RegistryClient, RegistryRef, WatchEvent
from overlay.reconcile.node import NodeLoop
from overlay.reconcile.resource import ResourceLoop
from zos_core.clock import SystemClock
from zos_core.config import NodeConfig
from zos_core.node import open_node

FEW, MANY = 100, 10_000
CPU_LIMIT_MS = 2.0
GROWTH_LIMIT = 1.5
IDLE_LIMIT = 0.02  # of one core
IDLE_S = 45.0  # a full pass is in it
FIRST_INDEX = 100
GIVE_UP_S = 120.0


class Lines(RegistryClient):
    """A registry client whose stream is fed from here; it has nobody to publish to."""

    def __init__(self, identity: Identity) -> None:
        ref = RegistryRef("127.0.0.1", 1, RegistryId(generate(Kind.REGISTRY).id))
        super().__init__(ref, identity, SystemClock(), heartbeat_s=GIVE_UP_S)
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self.content = self  # the part of an HTTP response that a stream reads

    async def readany(self) -> bytes:
        return await self.chunks.get()

    async def watch(self, from_revision: int | None = None) -> AsyncIterator[WatchEvent]:
        if from_revision is not None:
            raise Unavailable("this registry has no history")
        response: Any = self
        async for event in self._events(response):
            yield event

    async def publish(self, envelope: Envelope) -> int:
        raise Unavailable(f"no {envelope.payload_type} here: this registry only talks")


class Bench:
    """One tenant network of which this node is a member, and everybody that it meets there."""

    def __init__(self) -> None:
        self.farm, self.tenant, self.invitation = map(
            generate, (Kind.FARM, Kind.TENANT, Kind.INVITE)
        )
        self._revision = 0
        self._index = FIRST_INDEX

    def begin(self, node: str) -> bytes:
        """The node is listed and named."""
        invitation = Invitation(
            "crowd", self.invitation.id, FIRST_INDEX, 2 * MANY, int(time.time()) + 86_400
        )
        self._document = Network(
            name="large",
            version=1,
            owners=Owners(threshold=1, keys=(self.tenant.id,)),
            range="10.0.0.0/8",
            members=(NamedMember(name="own", node=node, index=1),),
            invitations=(invitation,),
        )
        self.network = NetworkId(trust.network_id(self._document.owners, self._document.name))
        farm = Farm(self.farm.id, 1, "basement", (node,))
        return self._line(farm, self.farm) + self._line(self._document, self.tenant)

    def end(self) -> bytes:
        """The network is deleted, and with it all that the node made."""
        deleted = msgspec.structs.replace(self._document, version=2, deleted=True)
        return self._line(deleted, self.tenant)

    def member(self) -> bytes:
        """The line of somebody new."""
        node, device, index = generate(Kind.NODE), DeviceKey(generate(Kind.WG)), self._index
        self._index += 1
        endpoint = f"198.51.{index // 256 % 256}.{index % 256}:51820"
        member = Member(
            network=self.network,
            node=node.id,
            version=1,
            name=f"guest-{index}",
            index=index,
            device=device.id,
            joined=int(time.time()),
            endpoints=(EndpointCandidate(CandidateKind.DECLARED, endpoint),),
            invitation=self.invitation.id,
        )
        return self._line(member, node, device, self.invitation)

    def _line(self, document: Document, *signers: Signer) -> bytes:
        self._revision += 1
        kind = schema.payload_type(schema.kind_of(document))
        return wire.document_line(
            key=trust.document_key(document),
            revision=self._revision,
            envelope=encode_envelope(dsse.sign(schema.encode(document), kind, *signers)),
        )


async def measure(size: int, *, rounds: int, directory: Path) -> dict[str, Any]:
    bench = Bench()
    config = NodeConfig(state=str(directory), farm=FarmId(bench.farm.id))
    async with open_node(config, clock=SystemClock()) as node, asyncio.TaskGroup() as group:
        client = Lines(generate(Kind.NODE))
        node.connect(client)
        running = group.create_task(node.loop.run(), name="node")
        try:
            client.chunks.put_nowait(bench.begin(node.loop.id))
            loop = await _until(node.loop, lambda: node.loop.loops.get(bench.network))
            await _until(node.loop, lambda: loop.passes.is_settled and loop.record.outcome)
            client.chunks.put_nowait(b"".join(bench.member() for _ in range(size)))
            await _until_written(node.loop, loop, size)
            deltas = await _deltas(node.loop, loop, client, bench, rounds=rounds)
            return {**deltas, "idle_share": await _idle()}
        finally:
            client.chunks.put_nowait(bench.end())
            await _until(node.loop, lambda: bench.network not in node.loop.loops)
            running.cancel()


async def _deltas(
    node: NodeLoop, loop: ResourceLoop, client: Lines, bench: Bench, *, rounds: int
) -> dict[str, Any]:
    cpus, walls = [], []
    for line in [bench.member() for _ in range(rounds)]:
        count = len(loop.goals.peers) + 1
        began, cpu = time.perf_counter(), time.process_time()
        client.chunks.put_nowait(line)
        await _until_written(node, loop, count)
        cpus.append((time.process_time() - cpu) * 1000)
        walls.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.01)
    return {"cpu_ms": spread(cpus), "wall_ms": spread(walls)}


async def _idle() -> float:
    """Share of one core."""
    cpu = time.process_time()
    await asyncio.sleep(IDLE_S)
    return round((time.process_time() - cpu) / IDLE_S, 4)


async def _until_written(node: NodeLoop, loop: ResourceLoop, count: int) -> None:
    """A pass ended after which nothing of so many peers is left to be written."""
    await _until(node, lambda: len(loop.goals.peers) >= count and loop.passes.is_settled)


async def _until(node: NodeLoop, look: Callable[[], Any]) -> Any:
    async with asyncio.timeout(GIVE_UP_S):
        while not (found := look()):
            await node.wait_change(node.generation)
    return found


def run(size: int, *, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        return asyncio.run(measure(size, rounds=rounds, directory=Path(scratch)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    go_private()
    os.environ[BACKEND_SETTING] = "wireguard-go"
    few, many = (run(size, rounds=options.rounds) for size in (FEW, MANY))
    cpu = many["cpu_ms"]["p50"]
    emit(
        "peer_delta",
        figures={f"{FEW} peers": few, f"{MANY} peers": many},
        limits=[
            Limit(f"CPU ms of one more peer of {MANY}, p50", cpu, CPU_LIMIT_MS),
            Limit(f"of {MANY} / of {FEW} peers, CPU", cpu / few["cpu_ms"]["p50"], GROWTH_LIMIT),
            Limit(f"idle with {MANY} peers, share of one core", many["idle_share"], IDLE_LIMIT),
        ],
    )


if __name__ == "__main__":
    main()
