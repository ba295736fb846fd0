"""wireguard-go's side of the control socket played by a test: what a real one never says."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from overlay.errors import Unavailable
from overlay.model import WgPeer, WgPublicKey
from overlay.netns import control
from overlay.netns.uapi import UserspaceWireGuard
from overlay.ports import DeviceRef

REF = DeviceRef("lo")  # a link that is there
PEER = WgPeer(WgPublicKey(bytes(32)), ())

Answer = Callable[[bytes], bytes]


@pytest.fixture(autouse=True)
def socket_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(control, "SOCKET_DIR", tmp_path)
    return tmp_path


@pytest.fixture
def wireguard() -> Iterator[UserspaceWireGuard]:
    wireguard = UserspaceWireGuard(Path("/absent/wireguard-go"))
    yield wireguard
    wireguard.close()


async def test_a_process_that_ends_in_the_middle_of_its_reply_is_gone(
    socket_dir: Path, wireguard: UserspaceWireGuard
) -> None:
    async with served(socket_dir, lambda _: b"listen_port=1\n"):
        assert await wireguard.read(REF) is None


async def test_nobody_listening_is_no_device(wireguard: UserspaceWireGuard) -> None:
    assert await wireguard.read(REF) is None
    with pytest.raises(Unavailable, match="gone"):
        await wireguard.write(REF, put=[PEER])


@pytest.mark.parametrize("reply", [b"\n\n", b"hello\n\n", b"public_key=00\nerrno=0\n\n"])
async def test_another_language_is_unavailable(
    socket_dir: Path, wireguard: UserspaceWireGuard, reply: bytes
) -> None:  # WGD-016
    async with served(socket_dir, lambda _: reply):
        with pytest.raises(Unavailable, match="protocol"):
            await wireguard.read(REF)


async def test_a_reply_may_be_as_large_as_the_bound_and_no_larger(
    socket_dir: Path, wireguard: UserspaceWireGuard, monkeypatch: pytest.MonkeyPatch
) -> None:  # WGD-016
    reply = b"fwmark=" + b"0" * 600_000 + b"\nerrno=0\n\n"
    async with served(socket_dir, lambda _: reply):
        monkeypatch.setattr(control, "MAX_REPLY_BYTES", len(reply))
        assert await wireguard.read(REF) is not None
        monkeypatch.setattr(control, "MAX_REPLY_BYTES", len(reply) - 1)
        with pytest.raises(Unavailable, match="more than"):
            await wireguard.read(REF)


async def test_silence_is_unavailable(
    socket_dir: Path, wireguard: UserspaceWireGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "EXCHANGE_TIMEOUT_S", 0.05)
    async with served(socket_dir, None):
        with pytest.raises(Unavailable, match="does not answer"):
            await wireguard.read(REF)


async def test_a_refused_write_says_what_the_process_said(
    socket_dir: Path, wireguard: UserspaceWireGuard
) -> None:
    async with served(socket_dir, lambda _: f"errno=-{errno.EINVAL}\n\n".encode()):
        with pytest.raises(Unavailable, match="Invalid argument"):
            await wireguard.write(REF, put=[PEER])


async def test_a_write_stops_at_the_first_refusal(
    socket_dir: Path, wireguard: UserspaceWireGuard
) -> None:
    asked = []

    def refuse(request: bytes) -> bytes:
        asked.append(request)
        return b"errno=-5\n\n"

    async with served(socket_dir, refuse):
        with pytest.raises(Unavailable):
            await wireguard.write(
                REF, drop=[WgPublicKey(bytes([n % 256] * 32)) for n in range(1500)]
            )
    assert len(asked) == 1


async def test_one_connection_serves_every_exchange(
    socket_dir: Path, wireguard: UserspaceWireGuard
) -> None:  # WGD-017
    async with served(socket_dir, lambda _: b"errno=0\n\n", keeps=True) as callers:
        for _ in range(3):
            assert await wireguard.read(REF) is not None
            await wireguard.write(REF, put=[PEER])
        assert len(callers) == 1
    # Its process is gone, and another has its place.
    async with served(socket_dir, lambda _: b"errno=0\n\n", keeps=True) as callers:
        await wireguard.write(REF, put=[PEER])
        assert len(callers) == 1


async def test_exchanges_at_the_same_time_do_not_share_a_connection(
    socket_dir: Path, wireguard: UserspaceWireGuard
) -> None:  # WGD-017
    def answer(request: bytes) -> bytes:
        return b"listen_port=7\nerrno=0\n\n" if request == b"get=1\n\n" else b"errno=0\n\n"

    async with served(socket_dir, answer, keeps=True) as callers:
        await wireguard.read(REF)
        reads = [wireguard.read(REF) for _ in range(3)]
        *devices, _ = await asyncio.gather(*reads, wireguard.write(REF, put=[PEER]))
        assert [device.listen_port for device in devices if device] == [7, 7, 7]
        before = len(callers)
        await wireguard.read(REF)
        assert len(callers) == before


async def test_more_than_was_asked_is_not_the_next_reply(
    socket_dir: Path, wireguard: UserspaceWireGuard
) -> None:  # WGD-017
    replies = iter((b"errno=0\n\n", f"errno=-{errno.EINVAL}\n\n".encode()))
    async with served(socket_dir, lambda _: next(replies), keeps=True) as callers:
        await wireguard.write(REF, put=[PEER])
        callers[0].write(b"errno=0\n\n")
        await callers[0].drain()
        with pytest.raises(Unavailable, match="Invalid argument"):
            await wireguard.write(REF, put=[PEER])
        assert len(callers) == 2


async def test_a_write_of_nothing_says_nothing(wireguard: UserspaceWireGuard) -> None:
    await wireguard.write(REF)  # nobody would answer


@asynccontextmanager
async def served(
    folder: Path, answer: Answer | None, *, keeps: bool = False
) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Who asked; `keeps`: each may ask again on the same connection."""
    callers: list[asyncio.StreamWriter] = []
    conversations: set[asyncio.Task[object] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)
        conversations.add(asyncio.current_task())
        try:
            while True:
                request = await reader.readuntil(b"\n\n")
                if answer is None:
                    await reader.read()
                    break
                writer.write(answer(request))
                await writer.drain()
                if not keeps:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # only asked who is there, or enough of the answer
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, folder / "lo.sock", limit=1 << 20)
    async with server:
        try:
            yield callers
        finally:
            for writer in callers:
                writer.close()
            while conversation := next((c for c in conversations if c and not c.done()), None):
                await conversation
