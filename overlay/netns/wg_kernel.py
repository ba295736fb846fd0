"""WireGuard by the kernel's module, over generic netlink.

A request is answered before `send` returns, so no receive ever waits.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from overlay.errors import Unavailable
from overlay.model import PeerTraffic, WgDevice, WgPeer, WgPublicKey
from overlay.netns import wg_codec
from overlay.netns.namespaces import anonymous, open_socket
from overlay.netns.udp import is_port_free
from overlay.ports import DeviceRef, Secret

MAX_DUMP_TRIES = 5  # a dump is taken again when the device changed meanwhile
PROBE_LINK = "w-probe"

_RECEIVE_BYTES = 256 * 1024
_NETLINK_GENERIC = 16  # linux/netlink.h


class KernelWireGuard:
    """Implements `WireGuard`. UDP sockets are in `underlay`; None: the netns of the process."""

    name: Literal["kernel", "wireguard-go"] = "kernel"

    def __init__(self, *, underlay: str | None = None) -> None:
        self._underlay = underlay
        # By birth name: what the last dump said of each peer, parsed.
        self._known: dict[str, dict[bytes, WgPeer]] = {}

    def close(self) -> None:
        """Nothing is held open from one call to the next."""

    async def create(self, birth_name: str) -> None:
        try:
            _create_link(self._underlay, birth_name)
        except FileExistsError:
            return
        except OSError as exc:
            raise Unavailable(f"WireGuard device {birth_name}: {exc.strerror}") from exc

    async def read(self, ref: DeviceRef) -> WgDevice | None:
        if (payloads := self._dump(ref)) is None:
            self._known.pop(ref.birth_name, None)
            return None
        known = self._known.get(ref.birth_name, {})
        device, self._known[ref.birth_name] = wg_codec.parse_device(payloads, known=known)
        return device

    async def read_traffic(self, ref: DeviceRef) -> dict[WgPublicKey, PeerTraffic]:
        return wg_codec.parse_traffic(self._dump(ref) or ())

    async def write(
        self,
        ref: DeviceRef,
        *,
        private_key: Secret | None = None,
        listen_port: int | None = None,
        put: Sequence[WgPeer] = (),
        drop: Iterable[WgPublicKey] = (),
    ) -> None:
        netns, link = self._place(ref)
        if listen_port and not is_port_free(self._underlay, listen_port):
            await self._refuse_taken(ref, listen_port)
        try:
            with open_socket(netns, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as route:
                requests = wg_codec.encode_set(
                    _family(route),
                    link,
                    private_key=private_key.reveal() if private_key is not None else None,
                    listen_port=listen_port,
                    put=put,
                    drop=drop,
                )
                for request in requests:
                    _exchange(route, request)
        except OSError as exc:
            raise _refusal(ref, exc, listen_port) from exc

    async def retire(self, birth_name: str) -> None:
        """Nothing of a kernel device outlives its link."""
        self._known.pop(birth_name, None)

    async def _refuse_taken(self, ref: DeviceRef, port: int) -> None:
        device = await self.read(ref)
        if device is None or device.listen_port != port:
            raise _refusal(ref, OSError(errno.EADDRINUSE, ""), port)

    def _place(self, ref: DeviceRef) -> tuple[str | None, str]:
        return (self._underlay, ref.birth_name) if ref.netns is None else (ref.netns, ref.link)

    def _dump(self, ref: DeviceRef) -> list[bytes] | None:
        netns, link = self._place(ref)
        if netns is not None and not Path(netns).exists():
            return None
        try:
            with open_socket(netns, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as route:
                request = wg_codec.encode_get(_family(route), link)
                for _ in range(MAX_DUMP_TRIES):
                    messages = _exchange(route, request)
                    if not any(message.is_interrupted for message in messages):
                        return [message.payload for message in messages]
        except OSError as exc:
            # EOPNOTSUPP: a link of that name that is no WireGuard device.
            if exc.errno in (errno.ENODEV, errno.EOPNOTSUPP):
                return None
            raise _refusal(ref, exc, None) from exc
        raise Unavailable(f"WireGuard device {ref.birth_name} does not stand still")


def why_unavailable() -> str | None:
    """None when the kernel makes WireGuard devices, else why not. Decided by making one, in a
    netns of its own: a module's absence from a list says nothing about a built-in."""
    netns = anonymous()
    try:
        _create_link(netns, PROBE_LINK)
        with open_socket(netns, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as route:
            _exchange(route, wg_codec.encode_get(_family(route), PROBE_LINK))
    except OSError as exc:
        return exc.strerror or str(exc)
    finally:
        os.close(netns)
    return None


def _create_link(netns: str | int | None, name: str) -> None:
    with open_socket(netns, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        _exchange(route, wg_codec.encode_new_link(name))


def _family(route: socket.socket) -> int:
    """Asked for every time: another number after the module was loaded anew."""
    return wg_codec.parse_family(_exchange(route, wg_codec.encode_get_family())[0].payload)


def _exchange(route: socket.socket, request: bytes) -> list[wg_codec.Message]:
    """The messages of the answer, without the last one. Raises OSError as the kernel says."""
    route.send(request)
    messages: list[wg_codec.Message] = []
    while True:
        for message in wg_codec.parse_messages(route.recv(_RECEIVE_BYTES)):
            if message.errno:
                raise OSError(message.errno, os.strerror(message.errno))
            if message.is_last:
                return messages
            messages.append(message)


def _refusal(ref: DeviceRef, exc: OSError, listen_port: int | None) -> Unavailable:
    if exc.errno == errno.ENODEV:
        return Unavailable(f"WireGuard device {ref.birth_name} is gone")
    if exc.errno == errno.EADDRINUSE:
        return Unavailable(f"UDP port {listen_port} is in use", remedy="choose another listen port")
    return Unavailable(f"WireGuard device {ref.birth_name}: {exc.strerror}")
