"""From a network document that the registry accepted to the first overlay ping between two nodes.

Both nodes run and know nothing of the network beforehand: netns, devices, keys, member documents
and handshake are all made within the time measured. The machine does nothing else but ask.

    python -m bench.first_ping [--rounds 15]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.contenders import FIRST, LAST, TOPOLOGY
from bench.report import Limit, emit, spread
from netlab.fleet.fleet import Fleet
from netlab.lab import Lab
from netlab.lab_node import LabNode
from overlay import addressing
from overlay.documents import envelope as dsse
from overlay.documents import schema, trust
from overlay.documents.schema import NamedMember, Network, Owners
from overlay.errors import Unavailable
from overlay.keys.identity import Identity, Kind
from overlay.keys.store import generate
from overlay.model import Address, NetworkId
from overlay.netns import namespaces
from overlay.peers.registry import RegistryClient, RegistryRef
from zos_core import icmp
from zos_core.clock import SystemClock

LIMIT_MS = 300.0
PING_TIMEOUT_S = 0.004
GIVE_UP_S = 20.0
ROOT = str(Path(__file__).resolve().parent.parent)


async def measure(rounds: int) -> list[float]:
    """Milliseconds, one value a round; every round is a network of its own."""
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(TOPOLOGY, workdir=Path(scratch) / "lab") as lab:
            fleet = await _start(lab)
            tenant = generate(Kind.TENANT)
            return [await _round(fleet, tenant, number) for number in range(rounds)]


async def _start(lab: Lab) -> Fleet:
    fleet = Fleet(lab)
    await fleet.start_registry()
    operator, farm_id = await fleet.operator()
    for name in (FIRST, LAST):
        endpoint = str(lab.node(name).ipv4)
        await fleet.start_node(name, "--farm", farm_id, "--endpoint", endpoint)
        await operator.zos("farm", "add-node", "basement", fleet.node_ids[name], "--as", name)
    return fleet


async def _round(fleet: Fleet, tenant: Identity, number: int) -> float:
    network = Network(
        name=f"round-{number}",
        version=1,
        owners=Owners(threshold=1, keys=(tenant.id,)),
        range="10.81.0.0/16",
        members=tuple(
            NamedMember(name=name, node=fleet.node_ids[name], index=index)
            for index, name in enumerate((FIRST, LAST), start=1)
        ),
    )
    network_id = trust.network_id(network.owners, network.name)
    async with asyncio.TaskGroup() as tg:
        accepted = tg.create_task(_publish_at_desk(fleet, tenant, network), name="publish")
        answered = tg.create_task(_first_answer(fleet.lab.node(FIRST), network_id), name="ping")
    return (answered.result() - accepted.result()) * 1000


async def _publish_at_desk(fleet: Fleet, tenant: Identity, network: Network) -> float:
    """When the registry had accepted the document; the clock is the machine's, so ours too."""
    said = tenant.reveal().hex().encode() + b"\n" + schema.encode(network)
    argv = (sys.executable, "-m", "bench.first_ping", "--publish-to", fleet.registry)
    done = await fleet.lab.node("desk").run(*argv, input=said, cwd=ROOT)
    return float(done.text)


async def _first_answer(node: LabNode, network: NetworkId) -> float:
    """When the gateway of LAST first answered the gateway of FIRST."""
    pinned = node.path(f"/run/netns/{addressing.netns_name(network)}")
    for _ in _tries():
        with suppress(Unavailable):  # it is not there yet, or its pin is a plain file still
            pong = icmp.ping(
                partial(namespaces.open_socket, str(pinned)),
                Address("10.81.2.1"),
                source=Address("10.81.1.1"),
                sequence=1,
                timeout_s=PING_TIMEOUT_S,
            )
            if pong.rtt_ms is not None:
                return time.monotonic()
        await asyncio.sleep(PING_TIMEOUT_S)
    raise TimeoutError(f"no ping in {GIVE_UP_S} s")


def _tries() -> Iterator[None]:
    began = time.monotonic()
    while time.monotonic() - began < GIVE_UP_S:
        yield


async def publish(reference: str) -> None:
    """Sign what stands on standard input, publish it, and print when it was accepted."""
    seed, _, payload = sys.stdin.buffer.read().partition(b"\n")
    tenant = Identity.from_seed(Kind.TENANT, bytes.fromhex(seed.decode()))
    envelope = dsse.sign(payload, schema.payload_type("network"), tenant)
    ref = RegistryRef.parse(reference)
    async with RegistryClient(ref, identity=tenant, clock=SystemClock()) as client:
        await client.publish(envelope)
        print(time.monotonic(), flush=True)
        os._exit(0)  # the desk's clearing up would cost the nodes a processor that they share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--publish-to", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish_to:
        asyncio.run(publish(options.publish_to))
        return
    series = asyncio.run(measure(options.rounds))
    figures = spread(series)
    claim = "document accepted to first ping, p50, ms"
    limits = [Limit(claim, figures["p50"], LIMIT_MS)]
    emit("first_ping", figures={"first_ping_ms": figures}, limits=limits)


if __name__ == "__main__":
    main()
