"""A relay between stock WireGuard devices that have no other way to each other.

ZOS_TEST_BACKEND names the one that must be there: kernel or wireguard-go. Without it, all that this
machine has are run.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from netlab.capture.taps import Heard, hear, open_taps
from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.nat import NATS
from netlab.process import LabProcess
from netlab.topology import Link, Node, Router, Topology
from overlay.documents.relays import DEFAULT_RELAY_PORT
from overlay.keys.store import generate_wireguard_key
from overlay.keys.wireguard import WireGuardKey, format_key, parse_public_key
from overlay.model import WgPublicKey
from overlay.relay import registrar
from overlay.relay.fate import Fate
from overlay.relay.limits import Allowance
from overlay.relay.server import Relay, running
from tests.stock_device import OVERLAY, PATIENCE_S, Site, backends
from zos_core.clock import SystemClock

pytestmark = [pytest.mark.kernel, pytest.mark.blocking]

PORT = DEFAULT_RELAY_PORT
ZOS = str(Path(sys.executable).parent / "zos")
PATTERN = b"what only the two of them may read"
STREAM = bytes(range(256)) * 16_384  # 4 MiB
HIDDEN = Topology(
    nodes=(Node("relay"), Node("a", (Link(to="home-a"),)), Node("b", (Link(to="home-b"),))),
    routers=tuple(
        Router(f"home-{name}", nat=NATS["symmetric"], firewall="stateful") for name in "ab"
    ),
)


@pytest.fixture(params=backends(), ids=lambda named: Path(named).name)
def named(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class Scene:
    lab: Lab
    a: Site
    b: Site
    relay: WireGuardKey

    def endpoint(self, family: str) -> str:
        node = self.lab.node("relay")
        return f"{node.ipv4}:{PORT}" if family == "ipv4" else f"[{node.ipv6}]:{PORT}"

    async def start_devices(self, named: str, of_a: str, of_b: str) -> None:
        relay = self.relay.public_key
        for site, peer, family in ((self.a, self.b, of_a), (self.b, self.a, of_b)):
            await site.start(named, relay=relay, endpoint=self.endpoint(family), peer=peer)

    async def until_both_reach(self) -> None:
        for site, other in ((self.a, "b"), (self.b, "a")):
            for address in OVERLAY[other]:
                await site.until_reached(address)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Lab.create(HIDDEN, workdir=tmp_path / "lab") as lab:
        a, b = (Site(lab.node(name), generate_wireguard_key()) for name in "ab")
        yield Scene(lab, a, b, generate_wireguard_key())


@asynccontextmanager
async def served(scene: Scene) -> AsyncIterator[Relay]:
    """A relay of this process on the sockets of the relay's node."""
    sockets = []
    for family in (socket.AF_INET, socket.AF_INET6):
        opened = scene.lab.socket("relay", family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(("", PORT))
        sockets.append(opened)
    members = {"home": frozenset({scene.a.public, scene.b.public})}
    async with running(scene.relay, sockets, SystemClock(), membership=members) as relay:
        yield relay


@pytest.mark.parametrize(("of_a", "of_b"), [("ipv4", "ipv4"), ("ipv6", "ipv6"), ("ipv4", "ipv6")])
async def test_two_hidden_devices_reach_each_other_and_the_relay_reads_nothing(
    scene: Scene, named: str, of_a: str, of_b: str
):  # REL-020, REL-036
    async with served(scene) as relay:
        await scene.start_devices(named, of_a, of_b)
        await scene.until_both_reach()
        found = relay.statistics()
        assert (found.members, found.sessions) == (2, 1)
        assert found.packets[Fate.FORWARDED] > 0
        assert relay.unsent == 0

        with ExitStack() as stack:
            taps = [stack.enter_context(tap) for _, tap in await open_taps(scene.lab, "relay")]
            for address in OVERLAY["b"]:
                await _say(scene.a.node, scene.b.node, address)
            # The same words outside of the tunnel, or nobody would know that they could be heard.
            plain = str(scene.lab.node("relay").ipv4)
            await _say(scene.a.node, scene.lab.node("relay"), plain)
            heard: list[Heard] = [each for n, tap in enumerate(taps) for each in hear(n, tap)]
        speaking = [each for each in heard if PATTERN in each.frame]
        assert speaking, "the capture hears nothing"
        assert len(heard) > len(speaking)
        told = socket.inet_aton(plain)
        assert all(each.frame[30:34] == told for each in speaking)


@pytest.mark.parametrize(("of_a", "of_b"), [("ipv4", "ipv4"), ("ipv6", "ipv4")])
async def test_a_stream_passes_whole(scene: Scene, named: str, of_a: str, of_b: str):  # REL-044
    async with served(scene) as relay:
        await scene.start_devices(named, of_a, of_b)
        await scene.until_both_reach()
        before = relay.statistics().forwarded_bytes
        assert await _stream(scene.a.node, scene.b.node, OVERLAY["b"][0]) == STREAM
        assert relay.statistics().forwarded_bytes - before > len(STREAM)


async def test_a_stream_fits_itself_to_what_a_member_may_send(scene: Scene, named: str):
    # REL-038
    async with served(scene) as relay:
        await scene.start_devices(named, "ipv4", "ipv6")
        await scene.until_both_reach()
        assert Fate.OVER_RATE not in relay.statistics().packets
        relay.set_rate(1)  # less than a machine under emulation has
        some = STREAM[: 1 << 19]
        assert await _stream(scene.a.node, scene.b.node, OVERLAY["b"][0], some) == some
        assert relay.statistics().packets[Fate.OVER_RATE] > 0


async def test_a_router_that_starts_again_costs_a_member_nothing_for_long(scene: Scene, named: str):
    # REL-011
    async with served(scene) as relay:
        await scene.start_devices(named, "ipv4", "ipv4")
        await scene.until_both_reach()
        before = relay.where(scene.a.public)
        await scene.lab.reboot_nat("home-a")
        async with asyncio.timeout(PATIENCE_S):
            while relay.where(scene.a.public) == before:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)
        for address in OVERLAY["b"]:
            await scene.a.until_reached(address)


async def test_stock_devices_bring_the_cookie_that_a_busy_relay_asks_for(
    scene: Scene, named: str, monkeypatch: pytest.MonkeyPatch
):  # REL-033
    monkeypatch.setattr(registrar, "CALM", Allowance(burst=0, per_s=0))
    async with served(scene) as relay:
        await scene.start_devices(named, "ipv4", "ipv6")
        await scene.until_both_reach()
        packets = relay.statistics().packets
        assert packets[Fate.COOKIE] >= 2
        assert packets[Fate.ANSWERED] >= 2


async def test_the_command_serves_reads_its_members_again_and_ends(scene: Scene, named: str):
    # REL-041, REL-042, REL-043
    node = scene.lab.node("relay")
    folder = node.path("/var/lib/zos") / "relay"
    folder.mkdir(mode=0o700)
    made = await node.run(
        ZOS, "relay", "key", "new", "/var/lib/zos/relay/key", timeout_s=PATIENCE_S
    )
    public = parse_public_key(made.text.strip())
    members = folder / "members.toml"
    members.write_text(_members(scene.a.public, scene.b.public))
    process = await _spawn_relay(node)
    for site, peer in ((scene.a, scene.b), (scene.b, scene.a)):
        await site.start(named, relay=public, endpoint=scene.endpoint("ipv4"), peer=peer)
    await scene.until_both_reach()

    members.write_text("[network.home]\nmembers = 3\n")
    process.kill(signal.SIGHUP)
    await _until_logged(process, "members stay as they are")
    assert await scene.a.reaches(OVERLAY["b"][0])

    members.write_text(_members(scene.b.public))
    process.kill(signal.SIGHUP)
    await _until_logged(process, "members are read again")
    assert not await scene.a.reaches(OVERLAY["b"][0])

    process.kill(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == 0
    assert "packets_forwarded" in _log_of(process)


def _members(*keys: WgPublicKey) -> str:
    return f"[network.home]\nmembers = {[format_key(key) for key in keys]}\n"


async def _spawn_relay(node: LabNode) -> LabProcess:
    options = ("--key", "/var/lib/zos/relay/key", "--members", "/var/lib/zos/relay/members.toml")
    return await node.spawn(ZOS, "relay", "serve", *options, log="relay")


async def _stream(source: LabNode, target: LabNode, address: str, stream: bytes = STREAM) -> bytes:
    """What arrives of it by TCP."""
    with target.in_netns():
        listener = socket.create_server((address, 0))
    with source.in_netns():
        sender = socket.socket()
    with listener, sender:
        for each in (listener, sender):
            each.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            read = tasks.create_task(_read_all(listener), name="read")
            await loop.sock_connect(sender, listener.getsockname())
            await loop.sock_sendall(sender, stream)
            sender.shutdown(socket.SHUT_WR)
    return read.result()


async def _read_all(listener: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    accepted, _ = await loop.sock_accept(listener)
    whole = bytearray()
    with accepted:
        while part := await loop.sock_recv(accepted, 1 << 16):
            whole += part
    return bytes(whole)


async def _until_logged(process: LabProcess, words: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while words not in _log_of(process):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


def _log_of(process: LabProcess) -> str:
    assert process.log is not None
    return process.log.read_text()


async def _say(sender: LabNode, receiver: LabNode, address: str) -> None:
    """PATTERN, until it has arrived."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with receiver.in_netns():
        there = socket.socket(family, socket.SOCK_DGRAM)
    with sender.in_netns():
        here = socket.socket(family, socket.SOCK_DGRAM)
    with there, here:
        there.setblocking(False)
        there.bind((address, 0))
        async with asyncio.timeout(PATIENCE_S):
            here.sendto(PATTERN, there.getsockname()[:2])
            assert await asyncio.get_running_loop().sock_recv(there, 100) == PATTERN
