"""Datagrams that cross the system's border as one: the kernel joins what comes, and cuts what goes.

A train is what UDP's offload calls a segmented datagram: to one place, all of one size but for the
last one, which may be shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from overlay.relay.fate import Sending
from overlay.relay.limits import Place

MAX_CARS = 64  # UDP_MAX_SEGMENTS of older kernels
MAX_BYTES = 65_000  # below the longest datagram of both families


def cut(train: bytes, size_bytes: int) -> Iterator[bytes]:
    """The datagrams of a train that came in."""
    for at in range(0, len(train), size_bytes):
        yield train[at : at + size_bytes]


def join(sendings: Iterable[Sending]) -> Iterator[tuple[Place, list[bytes]]]:
    """What is to be sent, as trains; order stays."""
    target: Place | None = None
    cars: list[bytes] = []
    room, is_closed = 0, True
    for place, packet in sendings:
        size = len(packet)
        if target is not None and (
            is_closed or place != target or size > len(cars[0]) or size > room
        ):
            yield target, cars
            cars = []
        if not cars:
            target, room = place, MAX_BYTES
        cars.append(packet)
        room -= size
        is_closed = size < len(cars[0]) or len(cars) == MAX_CARS
    if target is not None:
        yield target, cars
