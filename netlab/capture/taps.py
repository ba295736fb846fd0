"""Sockets that hear all that passes the ends of a link or of a node, and what they hear.

Whoever holds such a socket keeps its namespace: close it when the lab ends.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from netlab.capture.pcapng import SNAP_BYTES, Way
from netlab.keeper import packets
from netlab.lab import Lab
from netlab.wiring.wiring import End

_ETH_P_ALL = 3
_SO_TIMESTAMPNS = 35
_OUTGOING = 4  # linux/if_packet.h
_TIME = struct.Struct("@qq")
_CONTROL_BYTES = 64
_SOURCE_MAC = 6

# Classic BPF: load what kind of packet, or a byte; jump; return.
_LOAD, _LOAD_BYTE, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x30, 0x15, 0x45, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE


@dataclass(frozen=True, slots=True)
class Tap:
    """Where a socket hears: `name` as people say it, `about` for those who find it in a file."""

    name: str
    about: str


@dataclass(frozen=True, slots=True)
class Heard:
    """One packet as it passed."""

    tap: int
    at_ns: int  # since 1970
    way: Way
    frame: bytes


async def open_taps(lab: Lab, name: str) -> list[tuple[Tap, socket.socket]]:
    """Of all links of a node or router, or else of both ends of a link. Raises Rejected."""
    wiring = lab.wiring
    if name in wiring.stations:
        ends = [(each.end, f"link of {name}") for each in wiring.stations[name]]
        return [_open(lab, end, about, only_delivered=False) for end, about in ends]
    cable = wiring.cable(name)
    is_pumped = "pump" in (await lab.impaired(name)).up.back_ends
    return [
        _open(lab, cable.near, f"{cable.name}, near end", only_delivered=False),
        # There packets pass twice then: when they are sent, and when they are delivered.
        _open(lab, cable.far, f"{cable.name}, far end", only_delivered=is_pumped),
    ]


def _open(lab: Lab, end: End, about: str, *, only_delivered: bool) -> tuple[Tap, socket.socket]:
    opened = lab.socket(end.netns, socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK)
    packets.with_room(opened)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    if only_delivered:
        # Outgoing, or with the bit by which the pump says that it has had the packet.
        packets.attach_filter(
            opened,
            (_LOAD, 0, 0, _PACKET_TYPE),
            (_JUMP_EQUAL, 2, 0, _OUTGOING),
            (_LOAD_BYTE, 0, 0, _SOURCE_MAC),
            (_JUMP_SET, 0, 1, 1),
            (_RETURN, 0, 0, 0xFFFFFFFF),
            (_RETURN, 0, 0, 0),
        )
    opened.bind((end.name, _ETH_P_ALL))
    return Tap(f"{end.netns}:{end.name}", about), opened


def hear(tap: int, opened: socket.socket) -> Iterator[Heard]:
    """All that has passed and was not read yet."""
    while True:
        try:
            frame, ancillary, _, address = opened.recvmsg(SNAP_BYTES, _CONTROL_BYTES)
        except BlockingIOError:
            return
        except OSError:  # the link is down or gone, which is told once
            continue
        seconds, ns = _TIME.unpack(ancillary[0][2])
        if frame[_SOURCE_MAC] & 1:
            frame = frame[:_SOURCE_MAC] + bytes([frame[_SOURCE_MAC] & ~1]) + frame[7:]
        way: Way = "out" if address[2] == _OUTGOING else "in"
        yield Heard(tap, seconds * 1_000_000_000 + ns, way, frame)
