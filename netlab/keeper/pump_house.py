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

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from typing import Any

_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# -I and -S: nothing of the environment, and none of the time that site-packages would take.
_PUMP = (
    "-I",
    "-S",
    "-c",
    f"import sys; sys.path.append({_PACKAGES!r}); import netlab.keeper.pump as p; p.main()",
)


class PumpHouse:
    """Ends in whatever namespace it was last in."""

    def __init__(self) -> None:
        self.pid = 0
        self._channel: socket.socket | None = None
        self._listening: set[tuple[str, str]] = set()

    def listen(self, name: str, cell: cells.Cell, link: str) -> None:
        """What comes in on this link of a namespace goes to the pump, if its mark says so.

        Done once for all; safe to repeat.
        """
        if (name, link) in self._listening:
            return
        if link == marks.CUT_END:
            nl.send(cell.route_socket, _cut_pair(cell.netns))
        linux.setns(cell.netns, linux.CLONE_NEWNET)
        with packets.open_reader(link, mark=marks.TO_PUMP) as reader:
            self._ask(("read",), reader.fileno())
        self._listening.add((name, link))

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
            self._ask(("carry", number, seed, terms, is_up))
            return
        linux.setns(cell.netns, linux.CLONE_NEWNET)
        with packets.open_writer(link, mark=0 if is_up else marks.FROM_PUMP) as writer:
            self._ask(("carry", number, seed, terms, is_up), writer.fileno())

    def counts(self, *numbers: int) -> Any:
        """See pump.Pump; nothing at all before the first link."""
        return self._ask(("counts", *numbers)) if self._channel is not None else (0, {})

    def _ask(self, request: control.Message, *fds: int) -> Any:
        channel = self._channel or self._start()
        control.send(channel, control.encode(request), fds)
        answer = control.receive(channel)
        if answer is None:
            raise ConnectionResetError("the pump of the impaired links has ended")
        return answer[0][0]

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
