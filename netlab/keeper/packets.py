"""Packet sockets: whole Ethernet frames as the kernel has them, read many at a time.

Frames carry a virtio header (linux/virtio_net.h), so that what a network card would still have to
do - checksums, cutting into segments - is neither done nor forgotten on the way.
It runs inside the pump, so it imports only what is cheap to import.
"""

from __future__ import annotations

import ctypes
import os
import struct

from netlab.keeper import bare_socket as socket

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

VNET_HEADER_BYTES = 10
FRAME_BYTES_MAX = VNET_HEADER_BYTES + 14 + 65536
BATCH = 64

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_STATISTICS, _PACKET_VNET_HDR, _PACKET_QDISC_BYPASS, _PACKET_IGNORE_OUTGOING = 6, 15, 20, 23
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS, _SO_RCVMARK = 26, 33, 35, 75
_RECEIVE_QUEUE_BYTES = 32 << 20

# linux/bpf_common.h: load a word, jump if any of these bits is set, return.
_BPF_LOAD_WORD, _BPF_JUMP_SET, _BPF_RETURN = 0x20, 0x45, 0x06
_BPF_MARK = 0xFFFFF000 + 20  # SKF_AD_OFF + SKF_AD_MARK
_BPF = struct.Struct("=HBBI")
_FILTER = struct.Struct("@HP")

_CONTROL = struct.Struct("@NiiqqNiiI")  # two control messages: a time stamp, then a mark
_CONTROL_BYTES = 64
_STATISTICS = struct.Struct("=II")

_libc = ctypes.CDLL(None, use_errno=True)


def open_reader(link: str, *, mark: int) -> socket.socket:
    """Receives what comes in on a link here whose mark has any of these bits."""
    opened = _open()
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVMARK, 1)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    with_room(opened)
    attach_filter(
        opened,
        (_BPF_LOAD_WORD, 0, 0, _BPF_MARK),
        (_BPF_JUMP_SET, 0, 1, mark),
        (_BPF_RETURN, 0, 0, 0xFFFFFFFF),
        (_BPF_RETURN, 0, 0, 0),
    )
    opened.bind((link, _ETH_P_ALL))
    return opened


def open_writer(link: str, *, mark: int = 0) -> socket.socket:
    """Sends on a link here; without a mark past all rules, queues and captures of the link."""
    opened = _open()
    if mark:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    else:
        opened.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    opened.bind((link, 0))
    return opened


def with_room(opened: socket.socket) -> None:
    """A receive queue as long as the machine allows, for bursts."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_QUEUE_BYTES)
    except PermissionError:  # in a user namespace: up to the machine's limit
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_QUEUE_BYTES)


def attach_filter(opened: socket.socket, *program: tuple[int, int, int, int]) -> None:
    """Only what this program (classic BPF) lets pass is received."""
    packed = ctypes.create_string_buffer(b"".join(_BPF.pack(*each) for each in program))
    argument = _FILTER.pack(len(program), ctypes.addressof(packed))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def take_missed(opened: socket.socket) -> int:
    """How many frames found no room since this was last asked."""
    raw = opened.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
    return int(_STATISTICS.unpack(raw)[1])


class Batch:
    """Room for many frames, which one system call fills."""

    def __init__(self) -> None:
        room = bytearray(BATCH * FRAME_BYTES_MAX)
        self._frames = memoryview(room)
        self._control = bytearray(BATCH * _CONTROL_BYTES)
        self._headers = (_Header * BATCH)()
        self._pieces = (_Piece * BATCH)()
        frames, control = _address(room), _address(self._control)
        for number, (header, piece) in enumerate(zip(self._headers, self._pieces, strict=True)):
            piece.base, piece.length = frames + number * FRAME_BYTES_MAX, FRAME_BYTES_MAX
            header.pieces, header.piece_count = ctypes.addressof(piece), 1
            header.control = control + number * _CONTROL_BYTES
            header.control_length = _CONTROL_BYTES
        # The kernel writes over the lengths; they are put back before every call.
        self._fresh = bytes(self._headers)

    def receive(self, reader: socket.socket) -> Iterator[tuple[int, int, memoryview]]:
        """Mark, time of arrival (wall clock, ns) and frame of each; valid until the next call."""
        headers = self._headers
        ctypes.memmove(headers, self._fresh, len(self._fresh))
        count = _libc.recvmmsg(reader.fileno(), headers, BATCH, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        for number in range(count):
            start = number * FRAME_BYTES_MAX
            _, _, _, seconds, ns, _, _, _, mark = _CONTROL.unpack_from(
                self._control, number * _CONTROL_BYTES
            )
            frame = self._frames[start : start + headers[number].length]
            yield mark, seconds * 1_000_000_000 + ns, frame


class _Piece(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_long),  # an int, and what fills up struct msghdr
        ("length", ctypes.c_uint),
    )


def _open() -> socket.socket:
    """Hears nothing until it is bound to a protocol."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    return opened


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
