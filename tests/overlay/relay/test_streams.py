"""A relay by TLS over TCP: what is a datagram, who is served, and what hostile callers cost."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
import pytest

from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import DeviceKey, WireGuardKey, wireguard_form
from overlay.model import Address, Endpoint
from overlay.peers.pinning import PinnedKey
from overlay.relay import connections, server, streams
from overlay.relay.connections import Connections, End
from overlay.relay.fate import Fate
from overlay.relay.limits import STREAM_PARTS
from overlay.relay.messages import DATA_MAX_BYTES, INITIATION, mac1_key, with_mac1
from overlay.relay.server import Relay
from overlay.relay.streams import Streams, streaming
from overlay.relay.websocket import PATH
from tests.wg_initiator import Initiator
from zos_core.clock import SystemClock

KEY = DeviceKey(Identity(Kind.WG, bytes(range(32))))
A, B = (WireGuardKey(bytes(range(n, n + 32))) for n in (32, 64))
PATIENCE_S = 30.0
CLOSE_S = 0.1  # some end with a relay that says nothing any more
HOSTS = ("127.0.0.1", "::1")
DATA = b"\x04\x00\x00\x00"


@dataclass
class Stage:
    relay: Relay
    streams: Streams
    udp: tuple[str, int]
    port: int
    host: str
    session: aiohttp.ClientSession
    opened: AsyncExitStack

    @property
    def url(self) -> str:
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}{PATH}"

    async def call(self, *, key: bytes = KEY.public_key) -> aiohttp.ClientWebSocketResponse:
        pin = PinnedKey(key, form=wireguard_form)
        websocket = await self.session.ws_connect(
            self.url,
            ssl=pin,
            compress=0,
            max_msg_size=1 << 20,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
        )
        self.opened.push_async_callback(websocket.close)
        return websocket


@asynccontextmanager
async def staged(host: str = HOSTS[0], **bounds: int) -> AsyncIterator[Stage]:
    at = Endpoint(Address(host), 0)
    (udp,) = server.open_sockets([at])
    (tcp,) = server.open_sockets([at], socket.SOCK_STREAM)
    clock, members = SystemClock(), {"home": frozenset({A.public_key, B.public_key})}
    port, udp_port = tcp.getsockname()[1], udp.getsockname()[1]
    held = Connections(clock.monotonic(), **bounds)
    async with (
        asyncio.timeout(PATIENCE_S),
        server.running(KEY, [udp], clock, membership=members) as relay,
        streaming(relay, KEY.identity, [tcp], clock, connections=held) as running,
        aiohttp.ClientSession() as session,
        AsyncExitStack() as opened,
    ):
        yield Stage(relay, running, (host, udp_port), port, host, session, opened)


async def until(look: Callable[[], bool]) -> None:
    while not look():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


async def register(
    stage: Stage, key: WireGuardKey, websocket: aiohttp.ClientWebSocketResponse, *, at: float = 1.0
) -> Initiator:
    asking = Initiator(key, KEY.public_key)
    await websocket.send_bytes(asking.initiation(at, index=1))
    asking.finish(await websocket.receive_bytes())
    await websocket.send_bytes(asking.data())
    await until(lambda: len(stage.relay.where(key.public_key) or ()) == STREAM_PARTS)
    return asking


async def is_ended(websocket: aiohttp.ClientWebSocketResponse) -> bool:
    """Whether the other side has ended it, once it says something else than datagrams."""
    with suppress(aiohttp.ClientError, ConnectionError):
        while (await websocket.receive()).type is aiohttp.WSMsgType.BINARY:
            pass
    return True


@pytest.mark.parametrize("host", HOSTS)
async def test_members_by_tcp_and_by_udp_reach_each_other(host: str) -> None:
    # REL-050, REL-051
    async with staged(host) as stage:
        loop = asyncio.get_running_loop()
        one = await stage.call()
        await register(stage, A, one)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, 2) as other:
            other.setblocking(False)
            other.connect(stage.udp)
            asking = Initiator(B, KEY.public_key)
            await loop.sock_sendall(other, asking.initiation(1.0, index=2))
            asking.finish(await loop.sock_recv(other, 1_000))
            await loop.sock_sendall(other, asking.data())
            await until(lambda: stage.relay.where(B.public_key) is not None)
            pair = Initiator(A, B.public_key)
            initiation = pair.initiation(1.0, index=3)
            await one.send_bytes(initiation)
            assert await loop.sock_recv(other, 1_000) == initiation
            response = with_mac1(
                b"\x02\0\0\0" + (4).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(80),
                mac1_key(A.public_key),
            )
            await loop.sock_sendall(other, response)
            assert await one.receive_bytes() == response
            longest = DATA + (4).to_bytes(4, "little") + os.urandom(DATA_MAX_BYTES - 8)
            await one.send_bytes(longest)
            assert await loop.sock_recv(other, DATA_MAX_BYTES + 1) == longest


async def test_a_connection_ends_and_what_was_agreed_with_its_member_stays_good() -> None:
    # REL-051
    async with staged() as stage:
        loop = asyncio.get_running_loop()
        one = await stage.call()
        asking = await register(stage, A, one)
        await one.close()
        await until(lambda: stage.relay.where(A.public_key) is None)
        await until(lambda: len(stage.streams) == 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
            elsewhere.setblocking(False)
            elsewhere.connect(stage.udp)
            await loop.sock_sendall(elsewhere, asking.data())
            await until(lambda: stage.relay.where(A.public_key) == elsewhere.getsockname())


async def test_another_key_is_not_the_relays() -> None:
    # REL-050
    async with staged() as stage:
        with pytest.raises(aiohttp.ServerFingerprintMismatch):
            await stage.call(key=A.public_key)
        await until(lambda: len(stage.streams) == 0)


async def test_the_longest_datagram_passes_and_one_byte_more_ends_the_connection() -> None:
    # REL-053
    async with staged() as stage:
        one = await stage.call()
        await one.send_bytes(DATA + bytes(DATA_MAX_BYTES - 4))
        await until(lambda: stage.relay.statistics().packets.get(Fate.UNKNOWN_SOURCE) == 1)
        assert not one.closed
        await one.send_bytes(DATA + bytes(DATA_MAX_BYTES - 3))
        assert await is_ended(one)
        await until(lambda: stage.streams.ends.get(End.NO_DATAGRAM) == 1)
        await until(lambda: len(stage.streams) == 0)


async def test_a_frame_that_says_it_is_huge_ends_before_it_comes() -> None:
    # REL-053
    async with staged() as stage:
        one = await stage.call()
        sock = one.get_extra_info("socket")
        assert sock is not None
        transport = one._response.connection.transport
        transport.write(bytes([0x82, 0xFF]) + (1 << 40).to_bytes(8) + bytes(4) + bytes(100))
        assert await is_ended(one)
        await until(lambda: len(stage.streams) == 0)


async def test_text_ends_the_connection_and_a_ping_is_answered() -> None:
    # REL-053
    async with staged() as stage:
        one = await stage.call()
        await one.ping(b"there?")
        await one.send_str("hello")
        assert await is_ended(one)
        await until(lambda: stage.streams.ends.get(End.NO_DATAGRAM) == 1)


@pytest.mark.parametrize("path", ["/", "/relay/x", PATH])
async def test_what_is_no_websocket_is_answered_and_ended(path: str) -> None:
    # REL-053
    async with staged() as stage:
        url, pin = (
            stage.url.removesuffix(PATH) + path,
            PinnedKey(KEY.public_key, form=wireguard_form),
        )
        async with stage.session.get(url, ssl=pin) as response:
            assert (response.status, await response.read()) == (404, b"")
        await until(lambda: len(stage.streams) == 0)
        assert stage.streams.ends == {End.NO_WEBSOCKET: 1}


async def test_what_is_no_tls_is_ended() -> None:
    # REL-052
    async with staged() as stage:
        reader, writer = await asyncio.open_connection(stage.host, stage.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        await until(lambda: stage.streams.ends.get(End.NO_TLS) == 1)
        await until(lambda: len(stage.streams) == 0)


async def test_who_says_nothing_has_no_tls_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    # REL-052
    monkeypatch.setattr(streams, "HANDSHAKE_DEADLINE_S", 0.1)
    async with staged() as stage:
        reader, writer = await asyncio.open_connection(stage.host, stage.port)
        assert await reader.read() == b""
        writer.close()
        await until(lambda: len(stage.streams) == 0)


async def test_tls_alone_and_a_websocket_alone_hold_a_connection_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # REL-052
    monkeypatch.setattr(connections, "PROOF_S", 0.1)
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.05)
    async with staged() as stage:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(stage.host, stage.port, ssl=context)
        one = await stage.call()
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert await is_ended(one)
        await until(lambda: len(stage.streams) == 0)
        assert stage.streams.ends[End.UNPROVEN] == 2


async def test_a_member_that_is_heard_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    # REL-052
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.01)
    async with staged() as stage:
        one = await stage.call()
        asking = await register(stage, A, one)
        monkeypatch.setattr(connections, "PROOF_S", 0.0)
        for _ in range(20):
            await one.send_bytes(asking.data())
            await asyncio.sleep(0.01)
        assert stage.relay.where(A.public_key) is not None
        stage.relay.allow({})
        assert await is_ended(one)


async def test_a_flood_of_a_stranger_ends_at_the_bound_and_a_member_is_served_meanwhile() -> None:
    # REL-052, REL-013
    async with staged() as stage:
        member, stranger = await stage.call(), await stage.call()
        await register(stage, A, member)
        junk = DATA + bytes(1_000)
        with suppress(ConnectionError, aiohttp.ClientError):
            for _ in range(2 * connections.MAX_UNPROVEN):
                await stranger.send_bytes(junk)
        assert await is_ended(stranger)
        assert stage.streams.ends == {End.UNPROVEN: 1}
        found = stage.relay.statistics().packets
        assert found[Fate.UNKNOWN_SOURCE] == connections.MAX_UNPROVEN
        assert not member.closed
        assert len(stage.streams) == 1


async def test_nothing_is_forwarded_for_who_has_not_registered() -> None:
    # REL-051
    async with staged() as stage:
        member, stranger = await stage.call(), await stage.call()
        await register(stage, A, member)
        forged = with_mac1(INITIATION.to_bytes(4, "little") + bytes(144), mac1_key(A.public_key))
        await stranger.send_bytes(forged)
        await until(lambda: stage.relay.statistics().packets.get(Fate.UNKNOWN_SOURCE) == 1)
        assert stage.relay.statistics().packets[Fate.FORWARDED] == 0


async def test_who_does_not_read_loses_the_oldest_and_holds_up_nobody() -> None:
    # REL-054
    async with staged() as stage:
        slow, busy = await stage.call(), await stage.call()
        await register(stage, A, slow)
        await register(stage, B, busy)
        pair = Initiator(B, A.public_key)
        await busy.send_bytes(pair.initiation(1.0, index=3))
        await slow.receive_bytes()
        response = b"\x02\0\0\0" + (4).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(80)
        await slow.send_bytes(with_mac1(response, mac1_key(B.public_key)))
        await busy.receive_bytes()
        transport = slow._response.connection.transport
        transport.pause_reading()
        packet = DATA + (4).to_bytes(4, "little") + bytes(9_000)
        while stage.streams.dropped < 100:
            for _ in range(100):
                await busy.send_bytes(packet)
            await asyncio.sleep(0)
        assert stage.streams.waiting_bytes <= 256 << 10
        assert stage.relay.where(A.public_key) is not None
        assert not busy.closed


async def test_one_origin_has_so_many_connections_and_the_next_is_refused() -> None:
    # REL-052
    async with staged(limit_per_origin=3) as stage:
        held = [await stage.call() for _ in range(3)]
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await stage.call()
        assert stage.streams.ends[End.ORIGIN_FULL] >= 1
        await held[0].close()
        await until(lambda: len(stage.streams) == 2)
        await stage.call()


async def test_when_the_block_ends_no_connection_is_left() -> None:
    async with staged() as stage:
        one = await stage.call()
        stage.opened.pop_all()  # the relay ends it, and not its caller
        await register(stage, A, one)
        reader, writer = await asyncio.open_connection(stage.host, stage.port)  # no TLS yet
        await until(lambda: len(stage.streams) == 2)
    assert len(stage.streams) == 0
    assert await reader.read() == b""
    writer.close()
