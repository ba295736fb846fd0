"""Capture files, read back block by block."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from netlab.capture import pcapng

AT_NS = 1_800_000_000_123_456_789


def blocks(content: bytes) -> list[tuple[int, bytes]]:
    """Kind and body of each; every length stands at both ends and is a multiple of four."""
    found = []
    while content:
        kind, length = struct.unpack_from("<II", content)
        assert length % 4 == 0
        assert struct.unpack_from("<I", content, length - 4) == (length,)
        found.append((kind, content[8 : length - 4]))
        content = content[length:]
    return found


def options(body: bytes) -> dict[int, bytes]:
    found = {}
    while body:
        code, length = struct.unpack_from("<HH", body)
        found[code] = body[4 : 4 + length]
        body = body[4 + length + -length % 4 :]
    assert found.pop(0) == b""
    return found


def test_section_says_byte_order_version_and_who_wrote_it():  # LAB-270
    ((kind, body),) = blocks(pcapng.section(comment="zos lab, alice"))
    assert kind == 0x0A0D0D0A
    assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
    assert options(body[16:]) == {1: b"zos lab, alice", 4: b"zos lab pcap"}


def test_interface_has_a_name_and_counts_nanoseconds():  # LAB-270
    ((kind, body),) = blocks(pcapng.interface("alice:eth0", description="near end"))
    assert (kind, struct.unpack_from("<HHI", body)) == (1, (1, 0, 262_144))
    assert options(body[8:]) == {2: b"alice:eth0", 3: b"near end", 9: b"\x09"}


@given(frame=st.binary(max_size=100), number=st.integers(0, 9), way=st.sampled_from(["in", "out"]))
def test_packet_is_whole_at_its_time_and_says_which_way(frame, number, way):  # LAB-270
    ((kind, body),) = blocks(pcapng.packet(number, frame, at_ns=AT_NS, way=way))
    interface, high, low, kept, length = struct.unpack_from("<IIIII", body)
    assert (kind, interface, kept, length) == (6, number, len(frame), len(frame))
    assert high << 32 | low == AT_NS
    assert body[20 : 20 + kept] == frame
    rest = options(body[20 + kept + -kept % 4 :])
    assert rest == {2: struct.pack("<I", {"in": 1, "out": 2}[way])}


def test_statistics_say_what_was_missed():  # LAB-270
    ((kind, body),) = blocks(pcapng.statistics(1, at_ns=AT_NS, received=7, dropped=3))
    assert (kind, struct.unpack_from("<I", body)) == (5, (1,))
    assert options(body[12:]) == {4: struct.pack("<Q", 7), 5: struct.pack("<Q", 3)}
