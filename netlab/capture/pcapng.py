"""Capture files that Wireshark and tcpdump read, block by block (draft-ietf-opsawg-pcapng). Pure.

By hand, because there are five kinds of block and no library for them that is looked after.
"""

from __future__ import annotations

import struct
from typing import Literal

SNAP_BYTES = 262_144  # the most that is kept of a packet, as tcpdump has it
APPLICATION = "zos lab pcap"

Way = Literal["in", "out"]

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER, _MAJOR, _MINOR, _UNKNOWN_LENGTH = 0x1A2B3C4D, 1, 0, 0xFFFFFFFFFFFFFFFF
_ETHERNET = 1
_END, _COMMENT, _USER_APPLICATION = 0, 1, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TIME_RESOLUTION = 2, 3, 9
_PACKET_FLAGS = 2
_RECEIVED, _DROPPED = 4, 5
_NANOSECONDS = 9  # as a power of ten, negated
_WAYS: dict[Way, int] = {"in": 1, "out": 2}

_HEAD = struct.Struct("<II")
_TAIL = struct.Struct("<I")
_OPTION = struct.Struct("<HH")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


def section(*, comment: str = "") -> bytes:
    """What a file begins with."""
    options = _text(_COMMENT, comment) + _text(_USER_APPLICATION, APPLICATION)
    body = struct.pack("<IHHQ", _BYTE_ORDER, _MAJOR, _MINOR, _UNKNOWN_LENGTH)
    return _block(_SECTION, body, options)


def interface(name: str, *, description: str) -> bytes:
    """The next one; packets name it by its number, counted from 0. Times are nanoseconds."""
    options = (
        _text(_IF_NAME, name)
        + _text(_IF_DESCRIPTION, description)
        + _option(_IF_TIME_RESOLUTION, bytes([_NANOSECONDS]))
    )
    return _block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, SNAP_BYTES), options)


def packet(number: int, frame: bytes, *, at_ns: int, way: Way) -> bytes:
    """A whole frame."""
    high, low = divmod(at_ns, 1 << 32)
    head = struct.pack("<IIIII", number, high, low, len(frame), len(frame))
    options = _option(_PACKET_FLAGS, _U32.pack(_WAYS[way]))
    return _block(_PACKET, head + frame + bytes(-len(frame) % 4), options)


def statistics(number: int, *, at_ns: int, received: int, dropped: int) -> bytes:
    """Of an interface, at the end: `dropped` came faster than they could be written."""
    high, low = divmod(at_ns, 1 << 32)
    options = _option(_RECEIVED, _U64.pack(received)) + _option(_DROPPED, _U64.pack(dropped))
    return _block(_STATISTICS, struct.pack("<III", number, high, low), options)


def _block(kind: int, body: bytes, options: bytes) -> bytes:
    if options:
        options += _OPTION.pack(_END, 0)
    length = _HEAD.size + len(body) + len(options) + _TAIL.size
    return _HEAD.pack(kind, length) + body + options + _TAIL.pack(length)


def _text(code: int, text: str) -> bytes:
    return _option(code, text.encode()) if text else b""


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value + bytes(-len(value) % 4)
