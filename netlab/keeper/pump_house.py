"""The keeper's side of the pump: starts it, opens its sockets in the lab's namespaces, talks to it.

There is no pump until a link needs one.
"""

from __future__ import annotations

import os
import sys

from netlab.keeper import bare_socket as socket
from netlab.keeper import cell as cells
from netlab.keeper import control, linux, marks, packets
from netlab.keeper import rtnetlink as nl
from netlab.keeper.suppress import suppress

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from typing import Any

REPLACED_MAX = 20  # one that cannot live here must not keep the keeper busy for ever

_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# -I and -S: nothing of the environment, and none of the time that site-packages would take.
_PUMP = (
    "-I",
    "-S",
    "-c",
    f"import sys; sys.path.append({_PACKAGES!r}); import netlab.keeper.pump as p; p.main()",
)


class _Carried:
    """What the pump was told of a direction, to be told again to the one that takes its place."""

    __slots__ = ("cell", "is_up", "link", "seed", "terms")

    def __init__(
        self, *, seed: int, terms: dict[str, Any], is_up: bool, cell: cells.Cell, link: str
    ) -> None:
        self.seed = seed
        self.terms = terms
        self.is_up = is_up
        self.cell = cell
        self.link = link


class PumpHouse:
    """Ends in whatever namespace it was last in. A pump that ends is replaced, REPLACED_MAX times.

    What the one that ended held is lost, and packets are counted from nothing.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.replaced = 0
        self._channel: socket.socket | None = None
        self._listening: dict[tuple[str, str], cells.Cell] = {}
        self._carried: dict[int, _Carried] = {}

    def listen(self, name: str, cell: cells.Cell, link: str) -> None:
        """What comes in on this link of a namespace goes to the pump, if its mark says so.

        Done once for all; safe to repeat.
        """
        if (name, link) in self._listening:
            return
        if link == marks.CUT_END:
            nl.send(cell.route_socket, _cut_pair(cell.netns))
        with _reader(cell, link) as reader:
            self._ask(("read",), reader.fileno())
        self._listening[name, link] = cell

    def carry(
        self,
        number: int,
        seed: int,
        terms: dict[str, Any],
        is_up: bool,
        cell: cells.Cell | None,
        link: str,
    ) -> None:
        """`cell` and `link`: where packets of this direction go on; None when the pump knows."""
        if cell is None:
            self._carried[number].terms = terms
            self._ask(("carry", number, seed, terms, is_up))
            return
        carried = _Carried(seed=seed, terms=terms, is_up=is_up, cell=cell, link=link)
        with _writer(carried) as writer:
            self._ask(("carry", number, seed, terms, is_up), writer.fileno())
        self._carried[number] = carried

    def counts(self, *numbers: int) -> Any:
        """See pump.Pump; nothing at all before the first link."""
        return self._ask(("counts", *numbers)) if self._channel is not None else (0, {})

    def forget(self, cell: cells.Cell) -> None:
        """It is about to be closed."""
        self._listening = {key: each for key, each in self._listening.items() if each is not cell}
        self._carried = {
            number: each for number, each in self._carried.items() if each.cell is not cell
        }

    def replace(self) -> None:
        """The pump has ended: another one does what it did. Raises ConnectionResetError."""
        while self.replaced < REPLACED_MAX:
            self.replaced += 1
            self.close()
            if self._is_told_again(self._start()):
                return
        raise ConnectionResetError(
            f"the pump of the impaired links has ended {self.replaced} times"
        )

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _is_told_again(self, channel: socket.socket) -> bool:
        """Whether the pump has lived to hear it all. What is on no link any more is left out."""
        for (_, link), cell in self._listening.items():
            with suppress(OSError), _reader(cell, link) as reader:
                if _exchange(channel, ("read",), reader.fileno()) is None:
                    return False
        for number, each in self._carried.items():
            request = ("carry", number, each.seed, each.terms, each.is_up)
            with suppress(OSError), _writer(each) as writer:
                if _exchange(channel, request, writer.fileno()) is None:
                    return False
        return True

    def _ask(self, request: control.Message, *fds: int) -> Any:
        answer = _exchange(self._channel or self._start(), request, *fds)
        if answer is None:
            self.replace()
            answer = _exchange(self._channel, request, *fds) if self._channel else None
        if answer is None:
            raise ConnectionResetError("the pump of the impaired links has ended")
        return answer[0]

    def _start(self) -> socket.socket:
        ours, theirs = control.pair()
        with theirs:
            self.pid = os.posix_spawn(
                sys.executable,
                (sys.executable, *_PUMP),
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), control.KEEPER_FD)],
                setsid=True,
                setsigmask=(),
            )
        self._channel = ours
        return ours


def _exchange(
    channel: socket.socket, request: control.Message, *fds: int
) -> control.Message | None:
    """The pump's answer; None when it has ended."""
    try:
        control.send(channel, control.encode(request), fds)
        answer = control.receive(channel)
    except (BrokenPipeError, ConnectionResetError):
        return None
    return answer[0] if answer is not None else None


def _reader(cell: cells.Cell, link: str) -> socket.socket:
    linux.setns(cell.netns, linux.CLONE_NEWNET)
    return packets.open_reader(link, mark=marks.TO_PUMP)


def _writer(carried: _Carried) -> socket.socket:
    linux.setns(carried.cell.netns, linux.CLONE_NEWNET)
    return packets.open_writer(carried.link, mark=0 if carried.is_up else marks.FROM_PUMP)


def _cut_pair(netns_fd: int) -> bytes:
    """The pair in which segments are told apart, both ends here and up."""
    return b"".join(
        (
            nl.veth(
                name=marks.CUT,
                ifindex=marks.CUT_IFINDEX,
                mac=b"\x02\x6c\xff\xff\x00\x00",
                peer_name=marks.CUT_END,
                peer_ifindex=marks.CUT_END_IFINDEX,
                peer_mac=b"\x02\x6c\xff\xff\x00\x01",
                peer_netns_fd=netns_fd,
                mtu_bytes=65_535,
            ),
            nl.segments_at_once(marks.CUT_IFINDEX, count=1),
            *(
                message
                for ifindex in (marks.CUT_IFINDEX, marks.CUT_END_IFINDEX)
                for message in (nl.no_generated_addresses(ifindex), nl.link_up(ifindex))
            ),
        )
    )
