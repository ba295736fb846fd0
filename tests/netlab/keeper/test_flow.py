"""Which flow a frame belongs to."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from netlab.keeper.flow import flow_of

MACS = bytes(12)


def ipv4(protocol: int, *, ports=(1000, 2000), fragment: int = 0, options: int = 0) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45 + options,
        0,
        40,
        0,
        fragment,
        64,
        protocol,
        0,
        socket.inet_aton("198.18.1.1"),
        socket.inet_aton("198.18.1.2"),
    )
    return MACS + b"\x08\x00" + head + bytes(4 * options) + struct.pack("!HH", *ports) + bytes(8)


def ipv6(protocol: int, *, ports=(1000, 2000)) -> bytes:
    ends = b"".join(socket.inet_pton(socket.AF_INET6, f"2001:db8::{n}") for n in (1, 2))
    head = struct.pack("!IHBB", 6 << 28, 12, protocol, 64) + ends
    return MACS + b"\x86\xdd" + head + struct.pack("!HH", *ports) + bytes(8)


def test_flow_of_udp_has_a_kind_without_ports_in_both_families():
    for frame in (ipv4, ipv6):
        one, other = flow_of(frame(17)), flow_of(frame(17, ports=(1001, 2000)))
        assert one[0] == other[0]
        assert one[1] != other[1]
        assert flow_of(frame(6))[0] != one[0]
        assert one[1] == struct.pack("!HH", 1000, 2000)


def test_flow_of_a_packet_with_options_finds_the_ports():
    assert flow_of(ipv4(17, options=2))[1] == struct.pack("!HH", 1000, 2000)


def test_flow_of_fragments_is_one():
    assert flow_of(ipv4(17, fragment=0x2000)) == flow_of(ipv4(17, fragment=100, ports=(9, 9)))


def test_flow_of_neighbour_discovery_and_arp_is_their_own():
    assert flow_of(ipv6(58, ports=(1, 2))) == flow_of(ipv6(58, ports=(3, 4)))
    assert flow_of(MACS + b"\x08\x06" + bytes(28)) == (b"\x08\x06", b"")


@given(st.binary(max_size=80))
def test_flow_of_anything_is_some_flow(frame):
    for start in (b"", MACS + b"\x08\x00", MACS + b"\x86\xdd"):
        kind, rest = flow_of(start + frame)
        assert isinstance(kind, bytes)
        assert isinstance(rest, bytes)
