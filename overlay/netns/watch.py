"""Notice what others change in a netns: links, addresses, routes and nftables, as they happen.

What changed is not looked at; whoever is woken observes everything anew.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from overlay.errors import Unavailable
from overlay.netns.namespaces import open_socket

MAX_READ_BYTES = 65_536
_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12  # linux/netlink.h
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
# linux/rtnetlink.h: RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE
_ROUTE_GROUPS = (1, 5, 7, 9, 11)
_NFTABLES_GROUP = (7,)  # linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES


@contextmanager
def watching(netns: str | int, wake: Callable[[], None]) -> Iterator[None]:
    """`wake` is called from the event loop when something changes in `netns`, while the block runs.

    Changes that come together are one call. The sockets keep the netns alive. Raises Unavailable
    when there is no such netns.
    """
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []

    def drain(source: socket.socket) -> None:
        while True:
            try:
                if not source.recv(MAX_READ_BYTES):
                    break
            except BlockingIOError:
                break
            except OSError as exc:
                # The kernel dropped notifications: there were any, and that is all we ask.
                if exc.errno != errno.ENOBUFS:
                    loop.remove_reader(source)
                    break
        wake()

    try:
        for protocol, groups in (
            (_NETLINK_ROUTE, _ROUTE_GROUPS),
            (_NETLINK_NETFILTER, _NFTABLES_GROUP),
        ):
            source = _subscribed(netns, protocol, groups)
            sockets.append(source)
            loop.add_reader(source, drain, source)
        yield
    finally:
        for source in sockets:
            loop.remove_reader(source)
            source.close()


def _subscribed(netns: str | int, protocol: int, groups: tuple[int, ...]) -> socket.socket:
    try:
        source = open_socket(netns, socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        source.setblocking(False)
        source.bind((0, 0))
        for group in groups:
            source.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    except OSError as exc:
        raise Unavailable(f"{netns} cannot be watched: {exc.strerror}") from exc
    return source
