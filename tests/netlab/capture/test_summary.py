"""Frames in a line each."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.capture.summary import summarize

MACS = bytes.fromhex("026c00000002026c00000001")
V4 = ("198.18.1.1", "198.18.1.2")
V6 = ("2001:db8::1", "2001:db8::2")


def ipv4(protocol: int, segment: bytes) -> bytes:
    ends = b"".join(map(socket.inet_aton, V4))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, protocol, 0) + ends
    return MACS + b"\x08\x00" + head + segment


def ipv6(protocol: int, segment: bytes) -> bytes:
    ends = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in V6)
    head = struct.pack("!IHBB", 6 << 28, len(segment), protocol, 64) + ends
    return MACS + b"\x86\xdd" + head + segment


def udp(content: bytes) -> bytes:
    return struct.pack("!HHHH", 1000, 2000, 8 + len(content), 0) + content


def tcp(flags: int, content: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", 1000, 2000, 0, 0, 5 << 4, flags, 0, 0, 0) + content


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"x" * 10, "udp 10"),
        (b"\1\0\0\0" + bytes(144), "udp 148 WireGuard initiation"),
        (b"\2\0\0\0" + bytes(88), "udp 92 WireGuard response"),
        (b"\3\0\0\0" + bytes(60), "udp 64 WireGuard cookie"),
        (b"\4\0\0\0" + bytes(28), "udp 32 WireGuard data"),
        (b"\4\0\0\0" + bytes(27), "udp 31"),
        (b"\2\0\0\0" + bytes(89), "udp 93"),
        (b"\5\0\0\0" + bytes(28), "udp 32"),
    ],
)
def test_datagrams_have_ends_length_and_wireguard_type(content, line):  # LAB-271
    assert str(summarize(ipv4(17, udp(content)))) == f"{V4[0]}:1000 > {V4[1]}:2000 {line}"
    both = f"[{V6[0]}]:1000 > [{V6[1]}]:2000"
    assert str(summarize(ipv6(17, udp(content)))) == f"{both} {line}"


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (ipv4(6, tcp(0x12)), "198.18.1.1:1000 > 198.18.1.2:2000 tcp 0 syn ack"),
        (ipv4(6, tcp(0x10, b"abc")), "198.18.1.1:1000 > 198.18.1.2:2000 tcp 3 ack"),
        (ipv4(1, b"\x08\0" + bytes(6)), "198.18.1.1 > 198.18.1.2 icmp 8 echo request"),
        (ipv6(58, b"\x87\0" + bytes(6)), "[2001:db8::1] > [2001:db8::2] icmp6 8"),
        (
            ipv6(0, b"\x3a\0\5\2\0\0\1\0" + b"\x8f\0" + bytes(6)),
            "[2001:db8::1] > [2001:db8::2] icmp6 8 multicast listener report",
        ),
        (
            ipv6(60, b"\x2c\0" + bytes(6) + b"\x11\0\0\1" + bytes(4) + udp(b"abc")),
            "[2001:db8::1]:1000 > [2001:db8::2]:2000 udp 3",
        ),
        (
            ipv6(44, b"\x11\0\0\x08" + bytes(4) + b"abc"),
            "[2001:db8::1] > [2001:db8::2] udp 3 fragment",
        ),
        (ipv4(47, b"abc"), "198.18.1.1 > 198.18.1.2 ip-47 3"),
        (MACS + b"\x88\xcc" + bytes(5), "02:6c:00:00:00:01 > 02:6c:00:00:00:02 0x88cc 5"),
        (
            MACS
            + bytes.fromhex("08060001080006040001026c00000001c6120101")
            + bytes.fromhex("000000000000c6120102"),
            "198.18.1.1 > 198.18.1.2 arp 28 who has",
        ),
    ],
)
def test_other_frames_are_named_as_far_as_they_are_known(frame, line):  # LAB-271
    assert str(summarize(frame)).startswith(line)


@given(st.binary(max_size=90))
def test_summary_of_anything_is_some_summary(frame):  # LAB-271
    for start in (b"", MACS + b"\x08\x00", MACS + b"\x86\xdd", MACS + b"\x08\x06"):
        assert str(summarize(start + frame))


@given(st.integers(0, 255), st.binary(max_size=90))
def test_summary_of_any_chain_of_headers_is_some_summary(protocol, segment):  # LAB-271
    assert str(summarize(ipv6(protocol, segment)))
