"""Questions to name servers, from inside any netns, by a resolver that is not ours."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import dns.message
import dns.rcode
import dns.reversename

from overlay.netns.namespaces import open_socket

PORT = 53

SOON_S = 10.0  # ends a hang
NEVER_S = 0.5  # for what must not be answered


@dataclass(frozen=True)
class Said:
    code: str  # "NOERROR"
    values: frozenset[str]


def said(*values: str) -> Said:
    return Said("NOERROR", frozenset(values))


NO_SUCH_NAME, REFUSED = Said("NXDOMAIN", frozenset()), Said("REFUSED", frozenset())


async def ask(
    netns: str,
    server: str,
    name: str,
    kind: str = "A",
    *,
    by: str = "udp",
    within_s: float = SOON_S,
) -> Said | None:
    """What the server says to somebody in `netns`; None when it says nothing."""
    question = dns.message.make_query(name, kind)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    kind_of_socket = socket.SOCK_STREAM if by == "tcp" else socket.SOCK_DGRAM
    with open_socket(netns, family, kind_of_socket) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(within_s):
                raw = await _exchange(sock, (server, PORT), question.to_wire())
        except (TimeoutError, OSError):
            return None
    answer = dns.message.from_wire(raw)
    assert question.is_response(answer)
    values = (item.to_text() for found in answer.answer for item in found)
    return Said(dns.rcode.to_text(answer.rcode()), frozenset(values))


async def ask_name_of(netns: str, server: str, address: str) -> Said | None:
    return await ask(netns, server, dns.reversename.from_address(address).to_text(), "PTR")


async def _exchange(sock: socket.socket, server: tuple[str, int], question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, server)
    if sock.type == socket.SOCK_DGRAM:
        await loop.sock_sendall(sock, question)
        return await loop.sock_recv(sock, 65_535)
    await loop.sock_sendall(sock, len(question).to_bytes(2) + question)  # RFC 1035 section 4.2.2
    size = int.from_bytes(await _read(sock, 2))
    return await _read(sock, size)


async def _read(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        if not (part := await asyncio.get_running_loop().sock_recv(sock, size - len(found))):
            raise ConnectionError("ended in the middle of an answer")
        found += part
    return found
