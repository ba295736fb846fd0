"""The pump: holds the packets of impaired links back until they are due. One process per lab.

A child of the keeper, which hands it sockets, so that it needs no namespace and no privilege of its
own; it ends with the keeper. Single-threaded: what it decides is in schedule.py, here it carries.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
import time
from heapq import heappop, heappush

from netlab.keeper import bare_signal as signal
from netlab.keeper import bare_socket as socket
from netlab.keeper import control, linux, packets
from netlab.keeper.flow import flow_of
from netlab.keeper.marks import NUMBER_MASK
from netlab.keeper.priority import Priority
from netlab.keeper.schedule import NS_PER_S, Schedule, Terms
from netlab.keeper.suppress import suppress

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from typing import Any

# What may be under way in the whole lab; what comes on top is dropped and counted.
HELD_BYTES_MAX = 512 << 20

_HEAD_BYTES = packets.VNET_HEADER_BYTES + 80  # Ethernet, IP with options or IPv6, ports
_SOURCE_MAC = packets.VNET_HEADER_BYTES + 6
_CLOCK_MONOTONIC, _TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = 1, 0o4000, 0o2000000, 1
_PR_SET_TIMERSLACK = 29
_TIMER = struct.Struct("@qqqq")
_NO_FLOW = (b"", b"")
# Before all that is not in real time: a busy machine would make the pump, and with it packets, wait
# for whole time slices. With too much to do it is one among others, though the first of them.
_PRIORITY = 1
_NICE = -10

_libc = ctypes.CDLL(None, use_errno=True)


class Direction:
    """One direction of a link, and where its packets come out."""

    __slots__ = ("held", "is_up", "refused", "schedule", "writer")

    def __init__(self, schedule: Schedule, *, writer: socket.socket, is_up: bool) -> None:
        self.schedule = schedule
        self.writer = writer
        self.is_up = is_up
        self.held = 0
        self.refused = 0  # by the link, which was down or full when they were due


class Pump:
    """Directions by the number that a packet's mark has (see marks.py)."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._directions: dict[int, Direction] = {}
        self._readers: dict[int, socket.socket] = {}
        self._heap: list[tuple[int, int, Direction, bytearray]] = []
        self._order = 0  # packets due at the same time leave as they came
        self._held_bytes = 0
        self._missed = 0
        self._batch = packets.Batch()
        self._timer = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        self._armed_ns = 0
        self._priority = Priority(time.monotonic_ns(), time.thread_time_ns())

    def serve(self) -> None:
        """Until the keeper closes its end."""
        self._poll = select.epoll()
        self._poll.register(self._channel, select.EPOLLIN)
        self._poll.register(self._timer, select.EPOLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._readers:
                    self._take(self._readers[fd])
                elif fd == self._timer:
                    os.read(fd, 8)
                    self._armed_ns = 0
                elif not self._obey():
                    return
            self._emit()
            self._arm()
            self._leave_room()

    def _leave_room(self) -> None:
        now_ns = time.monotonic_ns()
        if self._priority.is_due(now_ns) and self._priority.step(now_ns, time.thread_time_ns()):
            _set_priority(is_real_time=self._priority.is_real_time)

    def _obey(self) -> bool:
        request = control.receive(self._channel)
        if request is None:
            return False
        (verb, *arguments), fds = request
        answer: object = None
        if verb == "read":
            self._read_from(socket.socket(fileno=fds[0]))
        elif verb == "carry":
            self._carry(*arguments, *fds)
        else:
            answer = self._counts(arguments)
        control.send(self._channel, control.encode((answer,)))
        return True

    def _read_from(self, reader: socket.socket) -> None:
        self._readers[reader.fileno()] = reader
        self._poll.register(reader, select.EPOLLIN)

    def _carry(
        self, number: int, seed: int, terms: dict[str, Any], is_up: bool, fd: int = -1
    ) -> None:
        """`fd`: the writer of a direction that is new."""
        if fd < 0:
            self._directions[number].schedule.change(Terms(**terms))
            return
        writer = socket.socket(fileno=fd)
        self._directions[number] = Direction(
            Schedule(seed, Terms(**terms)), writer=writer, is_up=is_up
        )

    def _counts(self, numbers: list[int]) -> tuple[int, dict[int, tuple[int, ...]]]:
        """Missed by all together, and what happened in these directions (impairments.Counts)."""
        self._missed += sum(packets.take_missed(each) for each in self._readers.values())
        return self._missed, {
            number: (*each.schedule.counts.as_tuple(), each.refused, each.held)
            for number in numbers
            if (each := self._directions.get(number)) is not None
        }

    def _take(self, reader: socket.socket) -> None:
        # In this order: whatever comes between makes arrivals later, never earlier, than they were.
        wall_ns = time.time_ns()
        now_ns = time.monotonic_ns()
        ahead_ns = wall_ns - now_ns
        for mark, stamp_ns, frame in self._batch.receive(reader):
            direction = self._directions.get(mark & NUMBER_MASK)
            if direction is None:
                continue
            arrived_ns = stamp_ns - ahead_ns
            if not now_ns - NS_PER_S < arrived_ns < now_ns + NS_PER_S:
                arrived_ns = now_ns  # a wall clock that was set meanwhile is not believed
            self._admit(direction, arrived_ns, frame)

    def _admit(self, direction: Direction, arrived_ns: int, frame: memoryview) -> None:
        schedule = direction.schedule
        length = len(frame) - packets.VNET_HEADER_BYTES
        flow = _NO_FLOW
        if schedule.terms.draws:
            flow = flow_of(bytes(frame[packets.VNET_HEADER_BYTES : _HEAD_BYTES]))
        times = schedule.admit(arrived_ns, length, flow)
        if not times:
            return
        if self._held_bytes > HELD_BYTES_MAX:
            schedule.counts.overflowed += 1
            return
        kept = bytearray(frame)
        if direction.is_up:
            kept[_SOURCE_MAC] |= 1  # it has been through the pump: see impairing.py
        for due_ns in times:
            self._order += 1
            heappush(self._heap, (due_ns, self._order, direction, kept))
            direction.held += 1
            self._held_bytes += len(kept)

    def _emit(self) -> None:
        heap = self._heap
        now_ns = time.monotonic_ns()
        while heap and heap[0][0] <= now_ns:
            _, _, direction, frame = heappop(heap)
            direction.held -= 1
            self._held_bytes -= len(frame)
            try:
                direction.writer.send(frame)
            except OSError:
                direction.refused += 1

    def _arm(self) -> None:
        if not self._heap or self._heap[0][0] == self._armed_ns:
            return
        self._armed_ns = self._heap[0][0]
        seconds, ns = divmod(self._armed_ns, NS_PER_S)
        when = _TIMER.pack(0, 0, seconds, ns)
        _libc.timerfd_settime(self._timer, _TFD_TIMER_ABSTIME, when, None)


def _set_priority(*, is_real_time: bool) -> None:
    policy = os.SCHED_RR if is_real_time else os.SCHED_OTHER
    with suppress(PermissionError):  # as it happens to be, without privileges
        os.sched_setscheduler(0, policy, os.sched_param(_PRIORITY if is_real_time else 0))
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def main() -> None:
    """Become the pump of the keeper that started this process."""
    linux.die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    _set_priority(is_real_time=True)
    os.set_inheritable(control.KEEPER_FD, False)
    try:
        Pump(socket.socket(fileno=control.KEEPER_FD)).serve()
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the keeper is gone


if __name__ == "__main__":
    main()
