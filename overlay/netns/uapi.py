"""WireGuard by wireguard-go: one process per device, written to through its control socket.

The process is born in the underlay netns and outlives this one; its link is moved like a kernel
device's. Its control socket keeps the name of its birth.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from overlay.errors import Unavailable
from overlay.model import PeerTraffic, WgDevice, WgPeer, WgPublicKey
from overlay.netns import control, spawn, uapi_codec
from overlay.netns.control import Controls
from overlay.netns.namespaces import has_link
from overlay.netns.udp import is_port_free
from overlay.ports import DeviceRef, Secret

START_TIMEOUT_S = 5.0
# A process whose link was deleted ends by itself within milliseconds.
RETIRE_PATIENCE_S = 0.5

_FIRST_LOOK_S, _SLOWEST_LOOK_S = 0.001, 0.05


class UserspaceWireGuard:
    """Implements `WireGuard`. UDP sockets are in `underlay`; None: the netns of the process."""

    name: Literal["kernel", "wireguard-go"] = "wireguard-go"

    def __init__(self, binary: Path, *, underlay: str | None = None) -> None:
        self._binary = binary
        self._underlay = underlay
        self._controls = Controls()
        # By birth name: what the last reply said of each peer, parsed.
        self._known: dict[str, dict[bytes, WgPeer]] = {}
        # By birth name: a pidfd, for a process that ends closes its socket a while before.
        self._processes: dict[str, int] = {}

    def close(self) -> None:
        self._controls.close()
        while self._processes:
            os.close(self._processes.popitem()[1])

    async def create(self, birth_name: str) -> None:
        """See `WireGuard.create`. A process whose link is not in the underlay netns is retired."""
        if await self._hold(birth_name) and has_link(self._underlay, birth_name):
            return
        await self.retire(birth_name)
        pid = spawn.start_daemon(
            [str(self._binary), birth_name], env=_environment("silent"), netns=self._underlay
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._wait_answer(birth_name, pid)
        except (TimeoutError, asyncio.CancelledError) as exc:
            # Nobody knows of it yet.
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            if isinstance(exc, TimeoutError):
                raise Unavailable(f"wireguard-go {birth_name}: no control socket") from exc
            raise

    async def read(self, ref: DeviceRef) -> WgDevice | None:
        if (reply := await self._get(ref)) is None:
            self._known.pop(ref.birth_name, None)
            return None
        known = self._known.get(ref.birth_name, {})
        device, self._known[ref.birth_name] = uapi_codec.parse_device(reply, known=known)
        return device

    async def read_traffic(self, ref: DeviceRef) -> dict[WgPublicKey, PeerTraffic]:
        reply = await self._get(ref)
        return uapi_codec.parse_traffic(reply) if reply is not None else {}

    async def write(
        self,
        ref: DeviceRef,
        *,
        private_key: Secret | None = None,
        listen_port: int | None = None,
        put: Sequence[WgPeer] = (),
        drop: Iterable[WgPublicKey] = (),
    ) -> None:
        if not self._has_link(ref):
            raise Unavailable(f"WireGuard device {ref.birth_name} is gone")
        if listen_port and not is_port_free(self._underlay, listen_port):
            await self._refuse_taken(ref, listen_port)
        requests = uapi_codec.encode_set(
            private_key=private_key.reveal() if private_key is not None else None,
            listen_port=listen_port,
            put=put,
            drop=drop,
        )
        for request in requests:
            if (reply := await self._controls.exchange(ref.birth_name, request)) is None:
                raise Unavailable(f"WireGuard device {ref.birth_name} is gone")
            if number := uapi_codec.parse_errno(reply):
                raise _refusal(ref, number, listen_port)

    async def retire(self, birth_name: str) -> None:
        self._known.pop(birth_name, None)
        await self._hold(birth_name)
        if (process := self._processes.pop(birth_name, None)) is not None:
            try:
                await spawn.end(process, patience_s=RETIRE_PATIENCE_S)
            finally:
                os.close(process)
        self._controls.forget(birth_name)
        control.socket_path(birth_name).unlink(missing_ok=True)

    async def _hold(self, birth_name: str) -> bool:
        """Whether a process answers. It is held from now on, whoever started it."""
        if (pid := await self._controls.find_process(birth_name)) is None:
            return False
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        if birth_name in self._processes:
            os.close(self._processes[birth_name])
        self._processes[birth_name] = process
        return True

    async def _get(self, ref: DeviceRef) -> bytes | None:
        # A process answers for a moment after its link is gone.
        if not self._has_link(ref):
            return None
        if ref.birth_name not in self._processes:
            await self._hold(ref.birth_name)
        reply = await self._controls.exchange(ref.birth_name, uapi_codec.GET_REQUEST)
        if reply is not None and (number := uapi_codec.parse_errno(reply)):
            raise _refusal(ref, number, None)
        return reply

    def _has_link(self, ref: DeviceRef) -> bool:
        if ref.netns is None:
            return has_link(self._underlay, ref.birth_name)
        return has_link(ref.netns, ref.link)

    async def _wait_answer(self, birth_name: str, pid: int) -> None:
        pause_s = _FIRST_LOOK_S
        while not await self._hold(birth_name):
            if not spawn.is_running(pid):
                raise Unavailable(f"wireguard-go {birth_name}: {await self._ask_why(birth_name)}")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _SLOWEST_LOOK_S)

    async def _ask_why(self, birth_name: str) -> str:
        """Why it ends at once. Running, it is kept silent: it would log a line for every packet
        that it cannot send, for years, into a file that nobody reads."""
        argv = [str(self._binary), birth_name]
        ended = await spawn.run(
            argv, timeout_s=START_TIMEOUT_S, netns=self._underlay, env=_environment("error")
        )
        lines = (ended.stdout + ended.stderr).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {ended.code}"

    async def _refuse_taken(self, ref: DeviceRef, port: int) -> None:
        device = await self.read(ref)
        if device is None or device.listen_port != port:
            raise _refusal(ref, errno.EADDRINUSE, port)


def _environment(log_level: str) -> dict[str, str]:
    return {**spawn.ENVIRONMENT, "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": log_level}


def _refusal(ref: DeviceRef, number: int, listen_port: int | None) -> Unavailable:
    if number == errno.EADDRINUSE:
        return Unavailable(f"UDP port {listen_port} is in use", remedy="choose another listen port")
    return Unavailable(f"WireGuard device {ref.birth_name}: {os.strerror(number)}")
