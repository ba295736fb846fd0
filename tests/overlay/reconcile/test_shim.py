"""A port at loopback that stands for a relay (NODE-081)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import pytest

from overlay.documents.relays import Relay
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import DeviceKey, format_key
from overlay.model import Address, Endpoint, Family
from overlay.peers.fallback import Call
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.shim import Shim
from overlay.relay.streams import streaming
from tests.overlay.relay.test_streams import KEY, A, Stage, staged
from tests.wg_initiator import Initiator
from zos_core.clock import SystemClock

PATIENCE_S = 30.0
OTHER = DeviceKey(Identity(Kind.WG, bytes(range(1, 33))))
FAMILIES: tuple[tuple[str, Family], ...] = (("127.0.0.1", 4), ("::1", 6))


@dataclass
class Device:
    """What stands for a WireGuard device: a UDP port of its own."""

    udp: socket.socket

    @property
    def port(self) -> int:
        return int(self.udp.getsockname()[1])

    async def send(self, shim: Shim, packet: bytes) -> None:
        to = (shim.endpoint.address, shim.endpoint.port)
        await asyncio.get_running_loop().sock_sendto(self.udp, packet, to)

    async def hear(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.udp, 10_000)


def device(host: str = "127.0.0.1") -> Device:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.bind((host, 0))
    return Device(udp)


@asynccontextmanager
async def shimmed(
    at: Endpoint, owner: Device, *, family: Family = 4, key: DeviceKey = KEY
) -> AsyncIterator[Shim]:
    """A shim runs for a relay with this key, and for this device."""
    relay = Relay("r1", "", format_key(key.public_key), (), at.port)
    shim = Shim(relay, [at], family=family, listen_port=owner.port, backoff=Backoff(lambda: 0.5))
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        task = group.create_task(shim.run())
        try:
            yield shim
        finally:
            task.cancel()


def place_of(stage: Stage) -> Endpoint:
    return Endpoint(Address(stage.host), stage.port)


async def until(look: Callable[[], bool]) -> None:
    while not look():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


async def register(owner: Device, shim: Shim, *, at: float = 1.0) -> Initiator:
    """The device's handshake with the relay, by way of the shim."""
    asking = Initiator(A, KEY.public_key)
    await owner.send(shim, asking.initiation(at, index=1))
    asking.finish(await owner.hear())
    await owner.send(shim, asking.data())
    return asking


@pytest.mark.parametrize(("host", "family"), FAMILIES)
async def test_a_device_registers_with_a_relay_through_the_shim(host: str, family: Family) -> None:
    async with staged(host) as stage:
        with closing((owner := device(host)).udp):
            async with shimmed(place_of(stage), owner, family=family) as shim:
                assert shim.endpoint.address == host
                await until(lambda: shim.call is Call.OPEN)
                await register(owner, shim)
                await until(lambda: stage.relay.where(A.public_key) is not None)
                assert (shim.opened, shim.error) == (1, "")
        await until(lambda: stage.relay.where(A.public_key) is None)


async def test_nobody_but_the_device_is_let_in_and_only_with_wireguards_messages() -> None:
    async with staged() as stage:
        with closing((owner := device()).udp), closing((stranger := device()).udp):
            async with shimmed(place_of(stage), owner) as shim:
                await until(lambda: shim.call is Call.OPEN)
                await stranger.send(shim, Initiator(A, KEY.public_key).initiation(9.0, index=1))
                await owner.send(shim, b"no message of WireGuard")
                await owner.send(shim, bytes(10_000))
                await register(owner, shim)
                await until(lambda: stage.relay.where(A.public_key) is not None)
                # Nothing else has come to the relay.
                assert dict(stage.relay.statistics().packets) == {
                    "answered": 1,
                    "keepalive": 1,
                    "forwarded": 0,
                }


async def test_whoever_has_another_key_is_refused_and_named() -> None:
    async with staged() as stage:
        with closing((owner := device()).udp):
            async with shimmed(place_of(stage), owner, key=OTHER) as shim:
                await until(lambda: shim.call is Call.FAILED)
                assert "does not have the relay's key" in shim.error
                assert f"r1 at {place_of(stage)}" in shim.error
                assert shim.opened == 0
                await owner.send(shim, Initiator(A, KEY.public_key).initiation(9.0, index=1))
        assert dict(stage.relay.statistics().packets) == {"forwarded": 0}


async def test_a_port_where_nobody_listens_is_named() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as there:
        at = Endpoint(Address("127.0.0.1"), there.getsockname()[1])
    with closing((owner := device()).udp):
        async with shimmed(at, owner) as shim:
            await until(lambda: shim.call is Call.FAILED)
            assert str(at) in shim.error


async def test_a_relay_that_starts_again_is_connected_to_again_at_the_same_shim() -> None:
    with socket.create_server(("127.0.0.1", 0)) as keep:
        at = Endpoint(Address("127.0.0.1"), keep.getsockname()[1])
    with closing((owner := device()).udp):
        async with shimmed(at, owner) as shim:
            endpoint = shim.endpoint
            for number in (1, 2):
                async with staged() as stage, _also_at(stage, at):
                    await until(lambda wanted=number: shim.opened == wanted)  # type: ignore[misc]
                    await until(lambda: shim.call is Call.OPEN)
                    await register(owner, shim, at=float(number))
                    await until(lambda: stage.relay.where(A.public_key) is not None)
                await until(lambda: shim.call is Call.FAILED)
            assert shim.endpoint == endpoint


@asynccontextmanager
async def _also_at(stage: Stage, at: Endpoint) -> AsyncIterator[None]:
    listener = socket.create_server((at.address, at.port))
    async with streaming(stage.relay, KEY.identity, [listener], SystemClock()):
        yield
