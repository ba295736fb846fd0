"""Start a supervisor in a session of its own, and hear from it until the lab is up.

The lab is in the hand of the block that starts it until `let_go`: leaving the block, and the end of
this process, however it comes, end the lab.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from netlab.supervisor import places
from netlab.supervisor.order import LET_GO, Order, Word
from netlab.supervisor.places import Place, place_of
from netlab.topology import Topology
from overlay.errors import Unavailable

# A lab of thousands of nodes takes seconds to end; this ends a hang.
END_WITHIN_S = 60.0
_QUOTED_BYTES = 4000


class Starting:
    """A lab that is being built, or is up and held."""

    def __init__(self, place: Place, channel: socket.socket) -> None:
        self.place = place
        self._channel = channel
        self._lines = channel.makefile("rb")
        self.is_let_go = False

    def words(self) -> Iterator[Word]:
        """What the supervisor says until it has ended. Raises Unavailable when it crashed."""
        ended_well = False
        for line in self._lines:
            word = msgspec.json.decode(line, type=Word)
            ended_well = ended_well or word.error is not None or word.ready_after_s is not None
            yield word
        if not ended_well:
            raise Unavailable(f"the supervisor of {self.place.name} ended: {self._last_words()}")

    def let_go(self) -> None:
        """From now on the lab lives by itself."""
        self._channel.sendall(LET_GO)
        self.is_let_go = True

    def close(self) -> None:
        self._lines.close()
        self._channel.close()

    def _last_words(self) -> str:
        with suppress(OSError):
            text = self.place.log.read_bytes()[-_QUOTED_BYTES:].decode(errors="replace").strip()
            return text or "it said nothing"
        return "its log is gone"


@contextmanager
def started(topology: Topology, *, keep: bool) -> Iterator[Starting]:
    """A lab under its own name. Leaving the block ends it, unless it was let go.

    Raises Conflict when a lab of this name is up.
    """
    place = place_of(topology.name)
    with places.taken(place) as lock:
        places.empty(place)
        place.workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs:
            process = _start(place, channel=theirs, lock=lock)
        starting = Starting(place, ours)
        try:
            ours.sendall(msgspec.json.encode(Order(topology, keep)) + b"\n")
            yield starting
        finally:
            starting.close()
            if starting.is_let_go:
                process.returncode = 0  # it is nobody's to wait for, and must not complain
            else:
                _wait_end(process)
                # What it could not remove itself, had it been killed.
                places.clear(place, lock)


def _start(place: Place, *, channel: socket.socket, lock: int) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    if places.ROOT_VARIABLE in environment:
        # It may be relative, and there this directory is not the supervisor's.
        environment[places.ROOT_VARIABLE] = str(places.root())
    with place.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "netlab.supervisor", place.name, str(lock)],
            stdin=channel.fileno(),
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
        )


def _wait_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
