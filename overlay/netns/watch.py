"""Reasons to look at a tenant netns again: what the kernel tells of links, addresses, routes,
nftables and mounts.

Notifications are not read, only taken as "something happened": the state is always observed.
WireGuard peers have none; whoever cares for them looks at intervals.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from overlay.errors import Unavailable
from overlay.netns.namespaces import MountWatch, open_socket
from overlay.netns.ports import Pins

_NETLINK_NETFILTER = 12  # linux/netlink.h
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
# Groups of linux/rtnetlink.h: link, then address, route and rule of IPv4 and of IPv6.
_ROUTE_GROUPS = (1, 5, 7, 8, 9, 11, 19)
_NETFILTER_GROUPS = (7,)  # linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES
_RECEIVE_BYTES = 65536


class _Followed(msgspec.Struct):
    identity: tuple[int, int]
    sockets: tuple[socket.socket, ...]


class Watch:
    """`async with Watch(pins) as watch: watch.follow(names); async for name in watch: ...`.

    Every change in a followed netns, and the loss of its pin, makes its name come out at least
    once after the change; several changes may come out as one. One consumer.
    """

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._followed: dict[str, _Followed] = {}
        self._stirred: dict[str, None] = {}  # in order of arrival
        self._wakeup = asyncio.Event()
        self._mounts = MountWatch(self._look_at_pins)

    async def __aenter__(self) -> Self:
        await self._mounts.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._mounts.__aexit__(kind, error, trace)
        self.follow(())

    def follow(self, names: Iterable[str]) -> None:
        """Exactly these are followed from now on; one that is not there yet is left out.

        Call it after every pass: a netns that was made anew is another netns. What happened to one
        before it was followed is not told.
        """
        wanted = set(names)
        for name in self._followed.keys() - wanted:
            self._leave(name)
        for name in wanted:
            self._follow(name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._stirred:
            self._wakeup.clear()
            await self._wakeup.wait()
        name = next(iter(self._stirred))
        del self._stirred[name]
        return name

    def _follow(self, name: str) -> None:
        path = self._pins.path(name)
        identity = _identity(path)
        known = self._followed.get(name)
        if known is not None and known.identity == identity:
            return
        self._leave(name)
        if path is None or identity is None:
            return
        sockets = (
            _listen(path, socket.NETLINK_ROUTE, _ROUTE_GROUPS),
            _listen(path, _NETLINK_NETFILTER, _NETFILTER_GROUPS),
        )
        self._followed[name] = _Followed(identity, sockets)
        for each in sockets:
            asyncio.get_running_loop().add_reader(each.fileno(), self._hear, name, each)

    def _leave(self, name: str) -> None:
        """An open socket keeps its netns alive, so none is left."""
        if (followed := self._followed.pop(name, None)) is None:
            return
        for each in followed.sockets:
            asyncio.get_running_loop().remove_reader(each.fileno())
            each.close()

    def _hear(self, name: str, source: socket.socket) -> None:
        _drain(source)
        self._stir(name)

    def _look_at_pins(self) -> None:
        for name in tuple(self._followed):
            if self._pins.path(name) is None:
                self._leave(name)
            if not self._pins.is_pinned(name):
                self._stir(name)

    def _stir(self, name: str) -> None:
        self._stirred[name] = None
        self._wakeup.set()


@contextmanager
def watching_links(wake: Callable[[], None]) -> Iterator[None]:
    """`wake` is called when links, addresses or routes change in our own netns, the underlay's."""
    source = _listen("/proc/self/ns/net", socket.NETLINK_ROUTE, _ROUTE_GROUPS)

    def hear() -> None:
        _drain(source)
        wake()

    asyncio.get_running_loop().add_reader(source.fileno(), hear)
    try:
        yield
    finally:
        asyncio.get_running_loop().remove_reader(source.fileno())
        source.close()


def _identity(path: str | None) -> tuple[int, int] | None:
    try:
        status = Path(path).stat() if path is not None else None
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status is not None else None


def _listen(path: str, protocol: int, groups: Iterable[int]) -> socket.socket:
    source = open_socket(path, socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    try:
        source.bind((0, 0))
        for group in groups:
            source.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, struct.pack("I", group))
    except OSError as exc:
        source.close()
        raise Unavailable(f"no notifications of {path}: {exc.strerror}") from exc
    return source


def _drain(source: socket.socket) -> None:
    while True:
        try:
            source.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            # ENOBUFS: the kernel had more to say than fits. That too means: something happened.
            continue
