"""What has crossed every link of a lab, read when somebody asks, at most once a second.

Read where cables lead to: one look at each router and LAN, however many nodes there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from netlab.lab import Lab
from netlab.supervisor.status import Counters
from netlab.wiring.wiring import Cable

EVERY_S = 1.0
_TABLE = "dev"


class LinkCounters:
    """Of one lab that is built."""

    def __init__(self, lab: Lab, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lab = lab
        self._monotonic = monotonic
        self._read_at = float("-inf")
        self._counters: Mapping[str, Counters] = {}

    def read(self) -> Mapping[str, Counters]:
        """By the link's name."""
        now = self._monotonic()
        if now - self._read_at >= EVERY_S:
            self._counters = dict(self._observe())
            self._read_at = now
        return self._counters

    def _observe(self) -> Iterator[tuple[str, Counters]]:
        far: dict[str, list[Cable]] = {}
        for cable in self._lab.wiring.cables:
            far.setdefault(cable.far.netns, []).append(cable)
        for netns, cables in far.items():
            with self._lab.open_statistics(netns, _TABLE) as table_file:
                table = parse_table(table_file.read())
            for cable in cables:
                if cable.far.name in table:
                    yield cable.name, table[cable.far.name]


def parse_table(text: str) -> dict[str, Counters]:
    """/proc/net/dev of the far ends: what they receive is what the near ends have sent."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, columns = line.partition(":")
        numbers = [int(column) for column in columns.split()]
        rx_bytes, rx_packets, _, rx_drops = numbers[0:4]
        tx_bytes, tx_packets, _, tx_drops = numbers[8:12]
        found[name.strip()] = Counters(
            rx_packets=tx_packets,
            rx_bytes=tx_bytes,
            rx_drops=tx_drops,
            tx_packets=rx_packets,
            tx_bytes=rx_bytes,
            tx_drops=rx_drops,
        )
    return found
