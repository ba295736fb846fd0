"""Whether a wireguard-go sends to where it is told, tried in a netns that is gone afterwards.

Some do not: what is for an IPv6 endpoint goes elsewhere when something went to an IPv4
one before (decision 0014). No version says whether it is one of them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack
from pathlib import Path

from overlay.errors import Unavailable
from overlay.keys.store import generate_wireguard_key
from overlay.model import Address, Endpoint, InterfaceAddress, WgPeer
from overlay.netns import namespaces
from overlay.netns.kernel import Rtnetlink
from overlay.netns.uapi import UserspaceWireGuard
from overlay.ports import DeviceRef, WireGuard

_PAIRS = 4  # of peers: one by IPv4, then one by IPv6
_PATIENCE_S, _LOOK_S = 1.5, 0.02  # a handshake begins at once, and the way is short
_PORT = 9  # of the peers; nobody answers


async def sends_where_told(binary: Path) -> bool:
    """Whether this wireguard-go sends to peers of both families in turn.

    Raises Unavailable when it cannot be tried.
    """
    # The control socket, which is not in the netns, has the name of the link.
    scratch, link = namespaces.anonymous(), f"wgt{os.getpid()}"
    netns = f"/proc/self/fd/{scratch}"
    wireguard = UserspaceWireGuard(binary, underlay=netns)
    try:
        async with Rtnetlink() as kernel:
            with ExitStack() as stack:
                return await _try(wireguard, kernel, netns, link, stack)
    finally:
        await wireguard.retire(link)
        wireguard.close()
        os.close(scratch)


async def _try(
    wireguard: WireGuard, kernel: Rtnetlink, netns: str, link: str, stack: ExitStack
) -> bool:
    await kernel.set_link(netns, "lo", up=True)
    listeners, peers = [], []
    for n in range(1, _PAIRS + 1):
        await kernel.add_address(netns, "lo", InterfaceAddress(f"fd00::{n}/128"))
        for family, address in ((socket.AF_INET, f"127.0.0.{n}"), (socket.AF_INET6, f"fd00::{n}")):
            listener = stack.enter_context(namespaces.open_socket(netns, family, socket.SOCK_DGRAM))
            listener.setblocking(False)
            listener.bind((address, _PORT))
            listeners.append(listener)
            key = generate_wireguard_key().public_key
            peers.append(WgPeer(key, (), Endpoint(Address(address), _PORT), keepalive_s=1))
    await wireguard.create(link)
    try:
        device = DeviceRef(link)
        await wireguard.write(device, private_key=generate_wireguard_key())
        await kernel.set_link(netns, link, up=True)
        await wireguard.write(device, put=peers)
        heard = await _heard(listeners)
    finally:
        await kernel.delete_link(netns, link)
    if not all(listener in heard for listener in listeners if listener.family == socket.AF_INET):
        raise Unavailable("WireGuard begins no handshakes")
    return len(heard) == len(listeners)


async def _heard(listeners: list[socket.socket]) -> set[socket.socket]:
    """Those to which something came in time."""
    heard: set[socket.socket] = set()
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    while len(heard) < len(listeners) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_LOOK_S)
        for listener in listeners:
            try:
                listener.recv(1)
            except BlockingIOError:
                continue
            heard.add(listener)
    return heard
