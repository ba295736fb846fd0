"""Two network resources of one network, as two nodes would have them, over loopback as the
underlay: node a with workload in wa, node b with workload in wb."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from overlay.model import Address, AllowRule, Endpoint, NetworkResource, Prefix, WgPeer
from overlay.netns.converge import Configurator
from overlay.netns.nft import Nftables
from overlay.netns.resource import desired_resource, workload_attachment
from overlay.netns.state import Attachment
from tests.convergence import FixedClock, network_resource
from tests.real_machine import RealMachine, pings


@dataclass
class Node:
    resource: NetworkResource
    machine: RealMachine
    workload: Attachment
    devices: tuple[Prefix, ...] = ()
    peers: dict[bytes, WgPeer] = field(default_factory=dict)

    async def converge(self, policy: tuple[AllowRule, ...] | None = None) -> None:
        index = self.resource.index - 3
        secret, public = self.machine.key(index)
        await Configurator(self.machine.shell, clock=FixedClock()).converge(
            desired_resource(
                msgspec.structs.replace(self.resource, policy=policy),
                device_key=public,
                peers=self.peers,
                attachments=[self.workload],
                devices=self.devices,
            ),
            private_key=secret,
        )

    async def remove(self) -> None:
        await Configurator(self.machine.shell, clock=FixedClock()).remove(self.resource.netns)

    @property
    def tenant(self) -> str:
        path = self.machine.shell.pins.path(self.resource.netns)
        assert path is not None
        return path

    def refused(self) -> dict[str, int]:
        return {k: n for k, n in Nftables().refusals(self.tenant).items() if n}

    def address(self, family: int) -> str:
        it = self.workload.address_v4 if family == socket.AF_INET else self.workload.address_v6
        return it.partition("/")[0]


@dataclass
class Pair:
    a: Node
    b: Node


@asynccontextmanager
async def two_nodes(machine: RealMachine) -> AsyncIterator[Pair]:
    """They have met, so that one datagram is as good as any; everything inside is allowed."""
    await machine.shell.kernel.set_link(None, "lo", up=True)
    a, b = (_node(machine, index, name) for index, name in ((3, "wa"), (4, "wb")))
    a.peers, b.peers = _peer(b), _peer(a)
    await a.converge()
    await b.converge()
    for here, there in ((a, b), (b, a)):
        for family in (socket.AF_INET, socket.AF_INET6):
            assert await pings(here.workload.netns, there.address(family))
    yield Pair(a, b)
    for node in (a, b):
        await node.remove()


def _node(machine: RealMachine, index: int, workload: str) -> Node:
    nr = msgspec.structs.replace(network_resource(index=index), netns=f"n-aaaaaaaaaaaa{index}")
    attachment = workload_attachment(
        nr, name=workload, netns=machine.workload(workload), link="eth0", host=2
    )
    return Node(nr, machine, attachment)


def _peer(node: Node) -> dict[bytes, WgPeer]:
    key = node.machine.key(node.resource.index - 3)[1]
    subnets = (node.resource.subnet_v4, node.resource.subnet_v6)
    endpoint = Endpoint(Address("127.0.0.1"), node.resource.listen_port)
    return {key: WgPeer(key, tuple(sorted(subnets)), endpoint)}
