"""What a running node keeps in memory, and what it does while nothing happens.

Resident memory and processor time of the real `zos node run` with one network: of three peers, and
of many more, that joined by an invitation with keys made here and of which nobody is at home.
wireguard-go's own memory is told beside it, and is not ours.

    python -m bench.memory [--further 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from bench.contenders import FIRST, TOPOLOGY, resident
from bench.report import Limit, emit
from netlab.fleet.fleet import Fleet
from netlab.lab import Lab
from overlay import addressing
from overlay.documents import envelope as dsse
from overlay.documents import schema, trust
from overlay.documents.schema import (
    EndpointCandidate,
    Invitation,
    Member,
    NamedMember,
    Network,
    Owners,
)
from overlay.keys.identity import Identity, Kind
from overlay.keys.store import generate
from overlay.keys.wireguard import DeviceKey
from overlay.model import CandidateKind, NetworkId
from overlay.netns.state import birth_link
from overlay.peers.registry import RegistryClient, RegistryRef
from zos_core import collector
from zos_core.clock import SystemClock

FEW = 3
RESIDENT_LIMIT = 80e6
PER_PEER_LIMIT = 8 * 1024.0
IDLE_LIMIT = 0.02  # of one core: what LOOK_SHARE allows for looking at devices
SETTLE_S = 5.0
IDLE_S = 15.0
GIVE_UP_S = 300.0
FIRST_INDEX = 100
ROOT = str(Path(__file__).resolve().parent.parent)


class Order(msgspec.Struct):
    """What the desk is told to publish."""

    network: str
    invitation: bytes
    first: int
    count: int


async def measure(further: int) -> dict[str, float]:
    tenant, invitation = generate(Kind.TENANT), generate(Kind.INVITE)
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(TOPOLOGY, workdir=Path(scratch) / "lab") as lab:
            fleet = await _start(lab)
            network = _network(fleet.node_ids[FIRST], tenant, invitation, uses=FEW + further)
            await _at_desk(fleet, "--publish", tenant.reveal() + schema.encode(network))
            id_ = trust.network_id(network.owners, network.name)
            order = Order(id_, invitation.reveal(), FIRST_INDEX, FEW)
            await asyncio.sleep(collector.SETTLED_S)  # what imports left behind is gone then
            few = await _with_peers(fleet, order, FEW)
            order = Order(id_, invitation.reveal(), FIRST_INDEX + FEW, further)
            many = await _with_peers(fleet, order, FEW + further)
    return {
        **{f"{key}, {FEW} peers": value for key, value in few.items()},
        **{f"{key}, {FEW + further} peers": value for key, value in many.items()},
        "bytes per further peer": (many["resident bytes"] - few["resident bytes"]) / further,
    }


async def _start(lab: Lab) -> Fleet:
    fleet = Fleet(lab)
    await fleet.start_registry()
    operator, farm_id = await fleet.operator()
    await fleet.start_node(FIRST, "--farm", farm_id, "--endpoint", str(lab.node(FIRST).ipv4))
    await operator.zos("farm", "add-node", "basement", fleet.node_ids[FIRST], "--as", FIRST)
    return fleet


def _network(node: str, tenant: Identity, invitation: Identity, *, uses: int) -> Network:
    expires = int(time.time()) + 86_400
    return Network(
        name="large",
        version=1,
        owners=Owners(threshold=1, keys=(tenant.id,)),
        range="10.0.0.0/8",
        members=(NamedMember(name=FIRST, node=node, index=1),),
        invitations=(Invitation("crowd", invitation.id, FIRST_INDEX, uses, expires),),
    )


async def _with_peers(fleet: Fleet, order: Order, count: int) -> dict[str, float]:
    """Publish, wait until the device has all of them, let things settle, and look."""
    await _at_desk(fleet, "--fill", msgspec.msgpack.encode(order))
    await _until_peers(fleet, NetworkId(order.network), count)
    await asyncio.sleep(SETTLE_S)
    process = fleet.process(FIRST).host_pid
    began, cpu = time.monotonic(), _cpu_s(process)
    await asyncio.sleep(IDLE_S)
    idle = (_cpu_s(process) - cpu) / (time.monotonic() - began)
    node = fleet.lab.node(FIRST)
    return {
        "resident bytes": await resident(node, "zos"),
        "resident bytes of wireguard-go": await resident(node, "wireguard-go"),
        "idle, share of one core": round(idle, 4),
    }


async def _until_peers(fleet: Fleet, network: NetworkId, count: int) -> None:
    device = birth_link(addressing.netns_name(network))
    began = time.monotonic()
    while time.monotonic() - began < GIVE_UP_S:
        shown = await fleet.lab.node(FIRST).run("wg", "show", device, "peers", check=False)
        if len(shown.stdout.split()) == count:
            return
        await asyncio.sleep(0.5)
    raise TimeoutError(f"no {count} peers in {GIVE_UP_S} s")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _at_desk(fleet: Fleet, what: str, said: bytes) -> None:
    argv = (sys.executable, "-m", "bench.memory", what, fleet.registry)
    await fleet.lab.node("desk").run(*argv, input=said, cwd=ROOT, timeout_s=GIVE_UP_S)


async def publish(reference: str, said: bytes) -> None:
    """The network document on standard input, behind the seed that signs it."""
    tenant = Identity.from_seed(Kind.TENANT, said[:32])
    envelope = dsse.sign(said[32:], schema.payload_type("network"), tenant)
    async with RegistryClient(RegistryRef.parse(reference), tenant, SystemClock()) as client:
        await client.publish(envelope)


class Crowd:
    """Many nodes over one connection: whoever has the turn signs."""

    def __init__(self) -> None:
        self.turn = generate(Kind.NODE)

    @property
    def id(self) -> str:
        return self.turn.id

    def sign(self, message: bytes) -> bytes:
        return self.turn.sign(message)


async def fill(reference: str, said: bytes) -> None:
    """Members with keys of their own, each behind its own node id."""
    order = msgspec.msgpack.decode(said, type=Order)
    invitation = Identity.from_seed(Kind.INVITE, order.invitation)
    crowd = Crowd()
    async with RegistryClient(RegistryRef.parse(reference), crowd, SystemClock()) as client:
        for index in range(order.first, order.first + order.count):
            crowd.turn, device = generate(Kind.NODE), DeviceKey(generate(Kind.WG))
            member = Member(
                network=order.network,
                node=crowd.id,
                version=1,
                name=f"guest-{index}",
                index=index,
                device=device.id,
                joined=int(time.time()),
                endpoints=(EndpointCandidate(CandidateKind.DECLARED, _endpoint(index)),),
                invitation=invitation.id,
            )
            kind = schema.payload_type("member")
            await client.publish(dsse.sign(schema.encode(member), kind, crowd, device, invitation))


def _endpoint(index: int) -> str:
    return f"198.51.{index // 256 % 256}.{index % 256}:51820"  # nobody, and no way there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--further", type=int, default=1_000)
    parser.add_argument("--publish", help=argparse.SUPPRESS)
    parser.add_argument("--fill", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish or options.fill:
        act = publish if options.publish else fill
        asyncio.run(act(options.publish or options.fill, sys.stdin.buffer.read()))
        return
    figures = asyncio.run(measure(options.further))
    resident_few = figures[f"resident bytes, {FEW} peers"]
    idle = [value for key, value in figures.items() if key.startswith("idle")]
    limits = [
        Limit(f"resident bytes of a node with {FEW} peers", resident_few, RESIDENT_LIMIT),
        Limit("bytes per further peer", figures["bytes per further peer"], PER_PEER_LIMIT),
        Limit("idle node, share of one core", max(idle), IDLE_LIMIT),
    ]
    emit("memory", figures=dict(figures), limits=limits)


if __name__ == "__main__":
    main()
