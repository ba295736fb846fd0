"""A port on this machine's loopback that stands for a relay: datagrams there go by TLS over TCP.

WireGuard speaks UDP alone. The port is open to the port of one device and to nobody else, and takes
nothing but WireGuard's messages.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from overlay.documents.relays import Relay, key_of
from overlay.errors import Unavailable
from overlay.keys.wireguard import wireguard_form
from overlay.model import Address, Endpoint, Family
from overlay.peers.fallback import Call
from overlay.peers.lean_aiohttp import aiohttp
from overlay.peers.pinning import PinnedKey
from overlay.reconcile.backoff import Backoff
from overlay.relay.messages import DATA_MAX_BYTES, kind_of
from overlay.relay.websocket import (
    BATCH,
    BINARY,
    MAX_MESSAGE_BYTES,
    PATH,
    Sender,
    bound_buffers,
    read_little,
)

CONNECT_S = 5.0  # for TCP, and again for TLS and the first answer
CLOSE_S = 0.5
HEARTBEAT_S = 15.0  # an idle connection is asked; half of it later it counts as dead
BUFFER_BYTES = 1 << 20
_LOOPBACK: dict[Family, Address] = {4: Address("127.0.0.1"), 6: Address("::1")}

log = logging.getLogger(__name__)


class Shim:
    """For one relay and one device. `run` connects, and connects again, until cancelled."""

    def __init__(
        self,
        relay: Relay,
        streams: Sequence[Endpoint],
        *,
        family: Family,
        listen_port: int,
        backoff: Backoff,
    ) -> None:
        """Raises Unavailable when there is no port."""
        self.relay = relay
        self.call = Call.CALLING
        self.error = ""
        self.opened = 0  # connections, ever
        self.dropped = 0  # datagrams, of connections that have ended
        self._streams = tuple(streams)
        self._backoff = backoff
        self._sender: Sender | None = None
        self._udp = _open_port(_LOOPBACK[family], listen_port)
        name = self._udp.getsockname()
        self.endpoint = Endpoint(Address(name[0]), name[1])

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._udp, self._receive)
        read_little()
        try:
            while True:
                try:
                    await self._connect_to_any()
                except Unavailable as exc:
                    if str(exc) != self.error:
                        log.warning("no way over TCP", extra={"reason": str(exc)})
                    self.call, self.error = Call.FAILED, str(exc)
                await asyncio.sleep(self._backoff.next_s())
        finally:
            loop.remove_reader(self._udp)
            self._udp.close()

    async def _connect_to_any(self) -> None:
        """Carry datagrams until the connection ends. Raises Unavailable when there is none."""
        error = Unavailable(f"{self.relay.name} takes no connections that we could make")
        for stream in self._streams:
            try:
                async with _connected(self.relay, stream) as websocket:
                    log.info("reached over TCP", extra={"relay": self.relay.name})
                    self.call, self.error = Call.OPEN, ""
                    self.opened += 1
                    self._backoff.reset()
                    await self._carry(websocket)
            except Unavailable as exc:
                error = exc
        raise error

    async def _carry(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        sender = Sender(websocket)
        async with asyncio.TaskGroup() as group:
            self._sender = sender
            writing = group.create_task(_write(sender), name="shim")
            try:
                await self._hear(websocket)
            finally:
                self._sender = None
                self.dropped += sender.backlog.dropped
                writing.cancel()

    async def _hear(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Hand on what comes, until something else than datagrams does."""
        while True:
            for _ in range(BATCH):
                message = await websocket.receive()
                if message.type != BINARY:
                    return
                if kind_of(message.data):
                    # What the device does not take is lost, as on any way.
                    with suppress(OSError):
                        self._udp.send(message.data)
            await asyncio.sleep(0)

    def _receive(self) -> None:
        for _ in range(BATCH):
            try:
                packet = self._udp.recv(DATA_MAX_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                continue  # nobody listens at the device's port for the moment
            if self._sender is not None and kind_of(packet):
                self._sender.put(packet)


class _Pin(PinnedKey):
    """Is shown the connection before anything is sent."""

    def check(self, transport: asyncio.Transport) -> None:
        super().check(transport)
        bound_buffers(transport)


@asynccontextmanager
async def _connected(
    relay: Relay, stream: Endpoint
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket to the relay, by TLS with its key. Raises Unavailable, also when it ends."""
    at = f"{relay.name} at {stream}, TCP"
    host = f"[{stream.address}]" if stream.family == 6 else stream.address
    pin = _Pin(key_of(relay), form=wireguard_form)
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=pin, limit=1),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as session:
            async with asyncio.timeout(2 * CONNECT_S):
                websocket = await session.ws_connect(
                    f"https://{host}:{stream.port}{PATH}",
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                    max_msg_size=MAX_MESSAGE_BYTES,
                    compress=0,
                    heartbeat=HEARTBEAT_S,
                )
            try:
                yield websocket
            finally:
                await websocket.close()
    except aiohttp.ServerFingerprintMismatch as exc:
        raise Unavailable(
            f"{at}: whoever answers does not have the relay's key",
            remedy="something on the way breaks up TLS, or the relay has another key: "
            "its tenant runs zos network relay update",
        ) from exc
    except aiohttp.WSServerHandshakeError as exc:
        raise Unavailable(f"{at}: answers {exc.status}, and is no relay") from exc
    except TimeoutError as exc:
        raise Unavailable(f"{at}: no answer") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise Unavailable(f"{at}: {exc}"[:300]) from exc


async def _write(sender: Sender) -> None:
    with suppress(ConnectionError):  # who reads notices, too
        await sender.run()


def _open_port(address: Address, listen_port: int) -> socket.socket:
    """Connected, so that the kernel lets nothing in but what the device's port sends."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    except OSError as exc:
        raise Unavailable(f"no socket for {address}: {exc.strerror}") from exc
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        sock.bind((address, 0))
        sock.connect((address, listen_port))
    except OSError as exc:
        sock.close()
        raise Unavailable(f"no port at {address}: {exc.strerror}") from exc
    return sock
