"""A member, an exit and the internet: WireGuard between the two, a leg, an uplink, a netns beyond.

Node a (index 3) is the client and sends everything to b (index 4), which is the exit. Each has a
workload.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from overlay.documents.exits import ExitOffer, Uplink
from overlay.exitnode.converge import EgressConfigurator
from overlay.exitnode.egress import Egress, Leg, OpenPort, select_legs
from overlay.model import (
    Address,
    AllowRule,
    Endpoint,
    NetworkResource,
    Prefix,
    Publication,
    WgPeer,
)
from overlay.netns import namespaces
from overlay.netns.converge import Configurator, Report
from overlay.netns.namespaces import open_socket
from overlay.netns.resource import desired_resource, workload_attachment
from overlay.netns.state import Attachment
from tests.convergence import FixedClock, network_resource
from tests.real_machine import RealMachine, run

SOON_S = 30.0
WAN, PORT = "wan", 7777
HOST = {4: "198.51.100.7", 6: "2001:db8:1::7"}
LAN = {4: "10.9.9.9", 6: "fd99::1"}
OWN = {4: "192.0.2.2", 6: "2001:db8::2"}
GATEWAY = {4: "192.0.2.1", 6: "2001:db8::1"}
UPLINK = Uplink("macvlan", "eth0", ("192.0.2.2/24", "2001:db8::2/64"), tuple(GATEWAY.values()))
OFFER = ExitOffer("node1", UPLINK, (HOST[4],))
EVERYWHERE = (Prefix("0.0.0.0/0"), Prefix("::/0"))


@dataclass
class World:
    machine: RealMachine
    client: NetworkResource
    exit: NetworkResource
    leg: Leg
    workload: Attachment  # at the exit
    remote: Attachment  # at the client

    async def converge_exit(
        self, *, is_exit: bool = True, publications: tuple[Publication, ...] = ()
    ) -> Report:
        return await self._converge(
            self.exit,
            self.client,
            workloads=(self.workload,),
            is_exit=is_exit,
            publications=publications,
        )

    async def converge_client(
        self,
        *,
        admitted: tuple[AllowRule, ...] = (),
        policy: tuple[AllowRule, ...] | None = None,
    ) -> Report:
        return await self._converge(
            msgspec.structs.replace(self.client, policy=policy),
            self.exit,
            more=EVERYWHERE,
            workloads=(self.remote,),
            admitted=admitted,
        )

    async def converge_egress(self, *open_ports: OpenPort, **changes: Any) -> object:
        offer = msgspec.structs.replace(OFFER, **changes)
        egress = Egress(offer, (self.leg,), open_ports=open_ports)
        return await EgressConfigurator(self.machine.shell).converge(egress)

    async def _converge(
        self,
        nr: NetworkResource,
        peer: NetworkResource,
        *,
        more: tuple[Prefix, ...] = (),
        workloads: tuple[Attachment, ...] = (),
        **role: Any,
    ) -> Report:
        (secret, public), (_, other) = self.machine.key(nr.index), self.machine.key(peer.index)
        allowed = tuple(sorted((peer.subnet_v4, peer.subnet_v6, *more)))
        endpoint = Endpoint(Address("127.0.0.1"), peer.listen_port)
        return await Configurator(self.machine.shell, clock=FixedClock()).converge(
            desired_resource(
                nr,
                device_key=public,
                peers={other: WgPeer(other, allowed, endpoint)},
                attachments=workloads,
                **role,
            ),
            private_key=secret,
        )

    def path(self, nr: NetworkResource) -> str:
        path = self.machine.shell.pins.path(nr.netns)
        assert path is not None
        return path

    async def reaches(self, netns: str, address: str, *, source: str = "") -> str:
        """The source that a server at `address` sees, after an answer came back."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        loop = asyncio.get_running_loop()
        with (
            open_socket(namespaces.pin_path(WAN), family, socket.SOCK_STREAM) as server,
            open_socket(netns, family, socket.SOCK_STREAM) as it,
        ):
            for each in (server, it):
                each.setblocking(False)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, PORT))
            server.listen(1)
            it.bind((source, 0))
            async with asyncio.timeout(SOON_S):
                await loop.sock_connect(it, (address, PORT))
                connection, seen = await loop.sock_accept(server)
                with connection:
                    await loop.sock_sendall(connection, b"answer")
                    assert await loop.sock_recv(it, 6) == b"answer"
        return str(seen[0])

    async def is_refused(self, netns: str, address: str, counters: Callable[[], int]) -> None:
        before = counters()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with open_socket(netns, family, socket.SOCK_DGRAM) as it:
            it.sendto(b"x", (address, PORT))
            async with asyncio.timeout(SOON_S):
                while counters() == before:  # noqa: ASYNC110 - a counter of the kernel tells nobody
                    await asyncio.sleep(0.02)


@asynccontextmanager
async def open_world(machine: RealMachine) -> AsyncIterator[World]:
    kernel = machine.shell.kernel
    namespaces.create(WAN)
    wan = namespaces.pin_path(WAN)
    await kernel.create_port(None, "eth0", workload_netns=wan, workload_link="eth0")
    for netns, link in ((None, "lo"), (None, "eth0"), (wan, "lo"), (wan, "eth0")):
        await kernel.set_link(netns, link, up=True)
    for family, bits, host in ((4, 24, 32), (6, 64, 128)):
        await kernel.add_address(wan, "eth0", f"{GATEWAY[family]}/{bits}")
        for address in (HOST[family], LAN[family]):
            await kernel.add_address(wan, "lo", f"{address}/{host}")
    (leg,) = select_legs([network_resource().network])
    client = msgspec.structs.replace(network_resource(index=3), netns="n-aaaaaaaaaaaa3")
    exit_ = msgspec.structs.replace(network_resource(index=4), netns=leg.netns)
    workload = workload_attachment(
        exit_, name="wb", netns=machine.workload("wb"), link="eth0", host=2
    )
    remote = workload_attachment(
        client, name="wa", netns=machine.workload("wa"), link="eth0", host=2
    )
    world = World(machine, client, exit_, leg, workload, remote)
    await world.converge_exit()
    await world.converge_client()
    for family in (4, 6):
        route = f"ip -{family} route add default dev wg0"
        assert (await run(route, netns=world.path(client))).code == 0
    await world.converge_egress()
    yield world
    await EgressConfigurator(machine.shell).converge(None)
    for nr in (client, exit_):
        await Configurator(machine.shell, clock=FixedClock()).remove(nr.netns)
    await kernel.delete_link(None, "eth0")
    async with kernel.forgotten(wan):
        namespaces.remove(WAN)
