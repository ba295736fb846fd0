"""The last resort of one network: its relays over TCP, while UDP is blocked (NODE-080 ..).

`fallback` decides; here connections are made, and relays are asked whether UDP passes again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress

from overlay.documents import relays
from overlay.documents.relays import Relay
from overlay.errors import Unavailable
from overlay.keys.wireguard import KEY_BYTES, DeviceKey, WireGuardKey
from overlay.model import Endpoint, PeerTraffic, WgDevice, WgPublicKey
from overlay.peers import fallback
from overlay.peers.fallback import Ear, Fallback, Mode
from overlay.peers.paths import HANDSHAKE_FRESH_S
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.goals import PeerGoals
from overlay.reconcile.shim import Shim
from overlay.relay.asking import is_answer, make_question
from overlay.relay.messages import INITIATION_BYTES

log = logging.getLogger(__name__)


class LastResort:
    """`look` says which relays the device has to greet anew; `running` is around all looks."""

    def __init__(self, key: DeviceKey, listen_port: int, random: Callable[[], float]) -> None:
        self._key = key
        self._listen_port = listen_port
        self._random = random
        self._state = Fallback()
        self._shims: dict[WgPublicKey, Shim] = {}
        self._tasks: dict[WgPublicKey, asyncio.Task[None]] = {}
        self._opened: dict[WgPublicKey, int] = {}
        self._questions = Questions(key)
        self._ear = Ear()
        self._group: asyncio.TaskGroup | None = None

    @property
    def is_in_use(self) -> bool:
        return self._state.mode is Mode.TCP

    @property
    def due(self) -> float | None:
        return self._state.due

    def trouble(self, relay: WgPublicKey) -> str:
        """Why there is no connection to a relay that was called; empty when there is one."""
        shim = self._shims.get(relay)
        return "" if shim is None else shim.error

    def next_question_s(self, *, now: float) -> int:
        """Until the relays are asked again whether UDP passes."""
        return max(0, round(self._state.probes_at - now))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connections live inside the block and not longer."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                self.hang_up()

    def put_key(self, key: DeviceKey) -> None:
        """Relays know us by this key from now on."""
        self._key = key
        self._questions.close()
        self._questions = Questions(key)

    def hang_up(self) -> None:
        """No connection is left, nor any that is being made."""
        for key in tuple(self._shims):
            self._drop(key)
        self._questions.close()

    def hurry(self, *, now: float) -> None:
        """Our own links changed."""
        self._state = fallback.hurried(self._state, now=now)

    def look(
        self,
        goals: PeerGoals,
        device: WgDevice,
        traffic: Mapping[WgPublicKey, PeerTraffic],
        *,
        wall: float,
        now: float,
    ) -> list[WgPublicKey]:
        """Relays and peers that are to be taken off the device and put back, for they moved."""
        before = self._state.mode
        self._state, act = fallback.look(
            self._state,
            may_call=any(relay.tls_port is not None for relay in goals.relays.values()),
            is_answered=any(
                (seen := device.peers.get(key)) is not None
                and wall - seen.latest_handshake < HANDSHAKE_FRESH_S
                for key in goals.relays
            ),
            calls=[shim.call for shim in self._shims.values()],
            is_probe_answered=self._questions.is_answered(),
            now=now,
        )
        if act.call or self.is_in_use:
            self._call(goals)
        if act.probe:
            self._questions.ask(_udp_endpoints(goals), wall=wall)
        if before is not self._state.mode:
            log.info("relays are reached otherwise", extra={"by": self._state.mode.value})
        moved = goals.put_streams(self._in_use(), now=now) if self._has_moved(goals) else []
        if act.hang_up:
            self.hang_up()
        doubted = goals.relays if self._is_doubtful(goals, device, traffic, now=now) else ()
        return [*moved, *self._reopened(but=moved), *doubted]

    def _is_doubtful(
        self,
        goals: PeerGoals,
        device: WgDevice,
        traffic: Mapping[WgPublicKey, PeerTraffic],
        *,
        now: float,
    ) -> bool:
        """Whether relays have to show anew that they hear us and we hear them."""
        if self._state.mode is not Mode.UDP or not traffic:
            self._ear = Ear()
            return False
        far = [
            traffic[key]
            for key, seen in device.peers.items()
            if key in traffic and not (seen.endpoint and goals.is_neighbour(seen.endpoint))
        ]
        self._ear, is_doubtful = fallback.listen(
            self._ear,
            sent_bytes=sum(each.tx_bytes for each in far),
            heard_bytes=sum(each.rx_bytes for each in far),
            now=now,
        )
        return is_doubtful

    def _in_use(self) -> dict[WgPublicKey, Endpoint]:
        """Relays that were reached over TCP stay so, also while a connection is made again."""
        if not self.is_in_use:
            return {}
        return {key: shim.endpoint for key, shim in self._shims.items() if shim.opened}

    def _has_moved(self, goals: PeerGoals) -> bool:
        return self._in_use() != goals.streams

    def _reopened(self, *, but: list[WgPublicKey]) -> Iterator[WgPublicKey]:
        """To a relay, another connection is somebody whom it has not heard yet."""
        for key, shim in self._shims.items():
            if self.is_in_use and shim.opened != self._opened.get(key, 0):
                self._opened[key] = shim.opened
                if key not in but:
                    yield key

    def _call(self, goals: PeerGoals) -> None:
        """There is a connection, or one is being made, to each relay that takes any."""
        for key in tuple(self._shims):
            if goals.relays.get(key) != self._shims[key].relay:
                self._drop(key)
        for key, relay in goals.relays.items():
            if key not in self._shims and relay.tls_port is not None:
                with suppress(Unavailable):
                    self._start(key, relay, goals)

    def _start(self, key: WgPublicKey, relay: Relay, goals: PeerGoals) -> None:
        if self._group is None:
            return
        shim = Shim(
            relay,
            [each for each in relays.streams_of(relay) if each.family in goals.families],
            family=4 if 4 in goals.families else 6,
            listen_port=self._listen_port,
            backoff=Backoff(self._random),
        )
        self._shims[key] = shim
        self._tasks[key] = self._group.create_task(shim.run(), name=f"relay {relay.name} over TCP")

    def _drop(self, key: WgPublicKey) -> None:
        del self._shims[key]
        self._opened.pop(key, None)
        self._tasks.pop(key).cancel()


class Questions:
    """Asks relays over UDP, from a port of its own, and hears whether anything comes back."""

    def __init__(self, key: DeviceKey) -> None:
        self._key = key
        self._sockets: list[socket.socket] = []
        self._index = 0

    def ask(self, targets: list[tuple[WgPublicKey, Endpoint]], *, wall: float) -> None:
        """One datagram to each. What was asked before is not waited for any more."""
        self.close()
        self._index = int.from_bytes(os.urandom(4))
        for relay, endpoint in targets:
            packet = make_question(
                self._key,
                relay,
                ephemeral=WireGuardKey(os.urandom(KEY_BYTES)),
                index=self._index,
                wall=wall,
            )
            family = socket.AF_INET if endpoint.family == 4 else socket.AF_INET6
            with suppress(OSError):
                sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._sockets.append(sock)
                sock.setblocking(False)
                sock.connect((endpoint.address, endpoint.port))
                sock.send(packet or b"")

    def is_answered(self) -> bool:
        """Whether a relay has answered since it was asked; the sockets are closed then."""
        for sock in self._sockets:
            with suppress(OSError):
                packet = sock.recv(INITIATION_BYTES)
                if is_answer(packet, own=self._key.public_key, index=self._index):
                    self.close()
                    return True
        return False

    def close(self) -> None:
        while self._sockets:
            self._sockets.pop().close()


def _udp_endpoints(goals: PeerGoals) -> list[tuple[WgPublicKey, Endpoint]]:
    return [
        (key, endpoint)
        for key, relay in goals.relays.items()
        for endpoint in relays.endpoints_of(relay)
        if endpoint.family in goals.families
    ]
