"""Sockets of a relay: which addresses it takes, and which are its own."""

from __future__ import annotations

import asyncio
import socket

import pytest

from overlay.addressing import parse_endpoint
from overlay.errors import Rejected, Unavailable
from overlay.keys.wireguard import WireGuardKey
from overlay.model import Address, Endpoint
from overlay.relay import server
from overlay.relay.fate import Fate
from tests.wg_initiator import Initiator
from zos_core.clock import SystemClock

RELAY = WireGuardKey(bytes(range(32)))
MEMBER = WireGuardKey(bytes(range(32, 64)))
PATIENCE_S = 20.0
LOOPBACK = Endpoint(Address("127.0.0.1"), 0)


def test_one_address_of_each_family():  # REL-042
    for listen in ((), ("127.0.0.1:1", "127.0.0.2:1"), ("[::1]:1", "[::]:2")):
        with pytest.raises(Rejected) as caught:
            server.open_sockets([parse_endpoint(text) for text in listen])
        assert caught.value.field == "listen"


def test_a_port_in_use_is_said_so_and_nothing_is_left_open():  # REL-042
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        taken = Endpoint(Address("127.0.0.1"), other.getsockname()[1])
        # Sockets that are left open would be warned of, and warnings are errors here.
        with pytest.raises(Unavailable, match="cannot listen on") as caught:
            server.open_sockets([Endpoint(Address("::1"), 0), taken])
        assert caught.value.remedy is not None


async def test_a_member_is_answered_until_the_block_ends_and_never_at_the_relays_own_place():
    # REL-010, REL-016
    (sock,) = server.open_sockets([LOOPBACK])
    place = sock.getsockname()
    members = {"home": frozenset({MEMBER.public_key})}
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
        member.setblocking(False)
        member.connect(place)
        asking = Initiator(MEMBER, RELAY.public_key)
        async with server.running(RELAY, [sock], SystemClock(), membership=members) as relay:
            async with asyncio.timeout(PATIENCE_S):
                await loop.sock_sendall(member, asking.initiation(1.0, index=1))
                asking.finish(await loop.sock_recv(member, 1_000))
                await loop.sock_sendall(member, asking.data())
                while relay.where(MEMBER.public_key) is None:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            assert relay.where(MEMBER.public_key) == member.getsockname()
            sock.sendto(asking.data(), place)
            async with asyncio.timeout(PATIENCE_S):
                while not relay.statistics().packets.get(Fate.TAKEN):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert relay.where(MEMBER.public_key) == member.getsockname()
    assert sock.fileno() == -1


async def test_who_registers_is_sent_what_was_held_and_who_looks_on_is_told():  # REL-024
    (sock,) = server.open_sockets([LOOPBACK])
    place, loop, moved = sock.getsockname(), asyncio.get_running_loop(), asyncio.Event()
    keys = (MEMBER, WireGuardKey(bytes(range(64, 96))))
    members = {"home": frozenset(key.public_key for key in keys)}
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        async with (
            asyncio.timeout(PATIENCE_S),
            server.running(
                RELAY, [sock], SystemClock(), membership=members, on_moved=moved.set
            ) as relay,
        ):
            held = Initiator(keys[0], keys[1].public_key).initiation(1.0, index=9)
            for member, key in ((one, keys[0]), (other, keys[1])):
                member.setblocking(False)
                member.connect(place)
                asking = Initiator(key, RELAY.public_key)
                await loop.sock_sendall(member, asking.initiation(1.0, index=1))
                asking.finish(await loop.sock_recv(member, 1_000))
                moved.clear()
                await loop.sock_sendall(member, asking.data())
                await moved.wait()
                assert relay.where(key.public_key) == member.getsockname()
                if member is one:
                    await loop.sock_sendall(one, held)
                    while not relay.statistics().packets.get(Fate.HELD):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            assert await loop.sock_recv(other, 1_000) == held
            moved.clear()
            relay.allow({})
            await moved.wait()
