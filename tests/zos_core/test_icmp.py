from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.model import Address, Family
from zos_core import icmp
from zos_core.icmp import Echo, Reply, Unreachable

ECHO = Echo(0x1234, 7, b"0123456789abcdef")


def test_request_checks_out_by_rfc_1071() -> None:
    packet = icmp.encode_request(4, ECHO)

    words = [int.from_bytes(packet[n : n + 2], "big") for n in range(0, len(packet), 2)]
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert packet[:2] == b"\x08\x00"


def test_request_of_ipv6_has_its_type() -> None:
    assert icmp.encode_request(6, ECHO)[0] == 128


@pytest.mark.parametrize("family", [4, 6])
def test_reply_gives_back_what_was_sent(family: Family) -> None:
    packet = bytes([icmp.ECHO[family][1]]) + icmp.encode_request(family, ECHO)[1:]

    assert icmp.parse_packet(family, on_the_wire(family, packet)) == Reply(ECHO)


@pytest.mark.parametrize("family", [4, 6])
def test_request_of_somebody_is_no_answer(family: Family) -> None:
    packet = on_the_wire(family, icmp.encode_request(family, ECHO))

    assert icmp.parse_packet(family, packet) is None


@pytest.mark.parametrize(
    ("family", "kind", "code", "reason"),
    [
        (4, 3, 1, "it cannot be reached"),
        (4, 3, 13, "a firewall refuses"),
        (4, 3, 99, "unreachable (code 99)"),
        (4, 11, 0, "too many hops"),
        (6, 1, 0, "no route"),
        (6, 1, 1, "a firewall refuses"),
        (6, 2, 0, "the packet is too large"),
        (6, 3, 0, "too many hops"),
    ],
)
def test_error_names_the_request_and_the_reason(
    family: Family, kind: int, code: int, reason: str
) -> None:
    header = bytes(20) if family == 4 else bytes(40)
    if family == 4:
        header = b"\x45" + header[1:]
    quoted = header + icmp.encode_request(family, ECHO)
    packet = bytes([kind, code]) + bytes(6) + quoted

    assert icmp.parse_packet(family, on_the_wire(family, packet)) == Unreachable(ECHO, reason)


@given(st.sampled_from([4, 6]), st.binary(max_size=128))
def test_any_bytes_are_parsed_or_no_answer(family: Family, packet: bytes) -> None:
    icmp.parse_packet(family, packet)


@pytest.mark.parametrize("target", ["127.0.0.1", "::1"])
def test_ping_is_answered_by_a_socket_that_echoes(target: str) -> None:
    pong = icmp.ping(Echoing, Address(target), source=None, sequence=3, timeout_s=5)

    assert (pong.sequence, pong.reason) == (3, "")
    assert pong.rtt_ms is not None


@pytest.mark.parametrize("target", ["127.0.0.1", "::1"])
def test_ping_without_an_answer_says_so(target: str) -> None:
    pong = icmp.ping(Silent, Address(target), source=None, sequence=1, timeout_s=0.01)

    assert (pong.rtt_ms, pong.reason) == (None, "no reply")


def test_answer_from_somebody_else_does_not_count() -> None:
    pong = icmp.ping(Forging, Address("127.0.0.1"), source=None, sequence=1, timeout_s=0.01)

    assert pong.reason == "no reply"


class Echoing(socket.socket):
    """A raw socket whose network answers at once."""

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._v6 = family == socket.AF_INET6
        self._answers: list[tuple[bytes, tuple[str, int]]] = []

    def sendto(self, packet: bytes, address: tuple[str, int]) -> int:  # type: ignore[override]
        family: Family = 6 if self._v6 else 4
        reply = bytes([icmp.ECHO[family][1]]) + packet[1:]
        self._answers.append((on_the_wire(family, reply), (self.sender(address[0]), 0)))
        return len(packet)

    def sender(self, target: str) -> str:
        return target

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, tuple[str, int]]:
        if not self._answers:
            raise TimeoutError
        return self._answers.pop(0)


class Silent(Echoing):
    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, tuple[str, int]]:
        raise TimeoutError


class Forging(Echoing):
    def sender(self, target: str) -> str:
        return "127.0.0.2"


def on_the_wire(family: Family, packet: bytes) -> bytes:
    """What a raw socket receives: with the IPv4 header, without the IPv6 one."""
    return b"\x45" + bytes(19) + packet if family == 4 else packet
