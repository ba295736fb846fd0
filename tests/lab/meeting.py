"""Two hidden nodes of one network, relays that their operator offers, and somebody who asks."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet
from netlab.fleet.greeter import ANSWER, NONCE_BYTES, PORT, QUESTION
from netlab.fleet.opening import bring_up
from netlab.lab import Lab
from netlab.nat import Firewall, Nat
from netlab.topology import Link, Node, Router, Tenant, TenantNetwork, Topology, Workload
from overlay.documents.relays import DEFAULT_TLS_PORT
from tests.lab.scene import until
from zos_core.status import Status

EVERY_S = 0.01  # a hundred questions a second
LATE_S = 1.0  # what was not answered after so long is lost
ASKER, ANSWERER = "alice/home/web", "alice/home/db"


def behind(
    near: Nat,
    far: Nat,
    *,
    relays: int = 2,
    ipv4: bool = True,
    ipv6: bool = False,
    same_lan: bool = False,
    stateful: bool = False,
    blocked: str = "",
    public: bool = False,
) -> Topology:
    """Nodes a and b behind a NAT each (or behind a's both), relays r1 and r2 in the open.

    `blocked`: whose routers let no UDP pass. `public`: b is in the open, too.
    """
    lans = ("home-a", "home-a" if same_lan else "home-b")
    home = TenantNetwork(
        "home", nodes=("a", "b"), workloads=(Workload("web", "a"), Workload("db", "b"))
    )
    return Topology(
        nodes=(
            Node("registry", (Link(ipv4=ipv4),), role="registry"),
            *(Node(f"r{n}", (Link(ipv4=ipv4),), role="node") for n in range(1, relays + 1)),
            *(
                Node(name, (Link(lan, ipv4=ipv4, ipv6=ipv6),), role="node")
                for name, lan in zip("ab", lans, strict=True)
                if name == "a" or not public
            ),
            *([Node("b", (Link(ipv4=ipv4),), role="node")] if public else ()),
        ),
        routers=tuple(
            Router(name, nat=nat, firewall=_firewall(name[-1] in blocked, stateful))
            for name, nat in (("home-a", near), ("home-b", far))
            if name == "home-a" or not public
        ),
        tenants=(Tenant("alice", (home,)),),
    )


def _firewall(is_blocked: bool, stateful: bool) -> Firewall:
    return "block-udp" if is_blocked else "stateful" if stateful else "none"


@asynccontextmanager
async def meeting(lab: Lab, *, tls: bool = True) -> AsyncIterator[Fleet]:
    """Everything runs, and the network names every relay. `tls`: they take TLS, too."""
    async with bring_up(lab, progress=lambda *_: None, tell=lambda *_: None) as fleet:
        operator = fleet.person("operator", at="registry")
        relays = [name for name in fleet.node_ids if name.startswith("r")]
        for name in relays:
            at = fleet.lab.node(name)
            endpoints = [w for a in (at.ipv4, at.ipv6) if a for w in ("--endpoint", str(a))]
            options = ("--tls-port", str(DEFAULT_TLS_PORT)) if tls else ()
            await operator.zos("relay", "offer", "farm", name, *endpoints, *options)
        for name in relays:
            await until(lambda name=name: _name(fleet, name), f"{name} is offered", every_s=0.2)
        yield fleet


async def _name(fleet: Fleet, relay: str) -> bool:
    """The tenant names it, as soon as it says that it relays."""
    argv = ("network", "relay", "add", "home", fleet.node_ids[relay], "--as", relay)
    alice = fleet.person("alice", at="registry")
    return (await alice.try_zos(*argv, "--registry", fleet.registry)).returncode == 0


async def ways(fleet: Fleet) -> tuple[str, str]:
    """How a and b say that they reach each other."""
    return await way_from(fleet, "a", "b"), await way_from(fleet, "b", "a")


async def until_way(fleet: Fleet, *wanted: str, within_s: float = 20.0) -> str:
    """Both say the same, and it is one of these; gives which."""
    deadline = time.monotonic() + within_s
    while len(set(found := await ways(fleet))) > 1 or found[0] not in wanted:
        assert time.monotonic() < deadline, f"not {wanted} within {within_s} s: {found}"
        await asyncio.sleep(0.2)
    return found[0]


async def way_from(fleet: Fleet, at: str, far: str) -> str:
    """How one node says that it reaches another."""
    return (await ways_from(fleet, at)).get(far, "none")


async def ways_from(fleet: Fleet, at: str) -> dict[str, str]:
    """How one node says that it reaches the others, by their names."""
    status = await node_socket.ask(fleet.lab.node(at), "/v1/status", Status)
    names = {id_: name for name, id_ in fleet.node_ids.items()}
    peers = (peer for network in status.networks for peer in network.peers)
    return {names[peer.node]: peer.way for peer in peers if peer.node is not None}


class Questions:
    """What was asked from one workload to the other, and when it was answered (monotonic)."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.answered: dict[int, float] = {}

    def lost_since(self, at: float) -> int:
        until_at = time.monotonic() - LATE_S
        return sum(
            at <= asked <= until_at and n not in self.answered for n, asked in enumerate(self.asked)
        )

    def gap_since(self, at: float) -> float:
        """The longest time without an answer, in seconds."""
        times = [at, *(t for t in sorted(self.answered.values()) if t >= at)]
        return max((b - a for a, b in pairwise(times)), default=time.monotonic() - at)

    async def until_answered(self, *, within_s: float = 20.0) -> None:
        """A few questions from now on are answered."""
        now = time.monotonic()

        async def is_so() -> bool:
            return sum(self.asked[n] > now for n in self.answered) > 3

        await until(is_so, "answers", within_s=within_s)


@asynccontextmanager
async def asking(fleet: Fleet, *, ipv6: bool = False) -> AsyncIterator[Questions]:
    """A question every 10 ms while the block runs."""
    web, db = fleet.inside[ASKER], fleet.inside[ANSWERER]
    family, address = (socket.AF_INET6, db.v6) if ipv6 else (socket.AF_INET, db.v4)
    with fleet.lab.node("a").in_netns(web.netns):
        udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    questions = Questions()
    with udp:
        asyncio.get_running_loop().add_reader(udp, _hear, udp, questions)
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(_ask(udp, address, questions), name="questions")
                yield questions
                task.cancel()
        finally:
            asyncio.get_running_loop().remove_reader(udp)


async def _ask(udp: socket.socket, address: str, questions: Questions) -> None:
    while True:
        with suppress(OSError):
            udp.sendto(QUESTION + len(questions.asked).to_bytes(NONCE_BYTES), (address, PORT))
        questions.asked.append(time.monotonic())
        await asyncio.sleep(EVERY_S)


def _hear(udp: socket.socket, questions: Questions) -> None:
    with suppress(OSError):
        nonce = udp.recv(512)[len(ANSWER) : len(ANSWER) + NONCE_BYTES]
        questions.answered.setdefault(int.from_bytes(nonce), time.monotonic())
