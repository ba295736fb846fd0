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

    def __init__(
        self, place: Place, channel: socket.socket, process: subprocess.Popen[bytes]
    ) -> None:
        self.place = place
        self._process = process
        self._channel = channel
        self._lines = channel.makefile("rb")
        self.is_let_go = False

    def words(self) -> Iterator[Word]:
        """What the supervisor says until it has ended. Raises Unavailable when it crashed."""
        ended_well = False
        with suppress(ConnectionResetError):  # it ended before it had read all that we said
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
        """The lab has ended, unless it was let go."""
        self._lines.close()
        self._channel.close()
        if self.is_let_go:
            self._process.returncode = 0  # it is nobody's to wait for, and must not complain
            return
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

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
        starting = None
        try:
            places.empty(place)
            starting = _start(place, Order(topology, keep), lock=lock)
            yield starting
        finally:
            if starting is not None:
                starting.close()
            if starting is None or not starting.is_let_go:
                # What it could not remove itself, had it been killed.
                places.clear(place, lock)


def _start(place: Place, order: Order, *, lock: int) -> Starting:
    environment = dict(os.environ)
    if places.ROOT_VARIABLE in environment:
        # It may be relative, and there this directory is not the supervisor's.
        environment[places.ROOT_VARIABLE] = str(places.root())
    ours, theirs = socket.socketpair()
    try:
        place.workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with theirs, place.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "netlab.supervisor", place.name, str(lock)],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                pass_fds=(lock,),
                start_new_session=True,
            )
    except OSError as exc:
        ours.close()
        raise Unavailable(f"no supervisor starts: {exc}") from exc
    with suppress(BrokenPipeError):  # it has ended already: words() says so
        ours.sendall(msgspec.json.encode(order) + b"\n")
    return Starting(place, ours, process)
