"""Counters of links: what the far end receives is what the near end has sent."""

from __future__ import annotations

from netlab.supervisor.counters import parse_table
from netlab.supervisor.status import Counters

TABLE = """\
Inter-|   Receive                                         |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls
    lo:   0     0    0    0    0     0     0         0         0      0    0    0    0     0
   p10: 1034   11    0    1    0     0     0         0      2068     22    0    3    0     0
"""


def test_the_table_is_read_from_the_other_side() -> None:  # LAB-243
    assert parse_table(TABLE)["p10"] == Counters(
        rx_packets=22, rx_bytes=2068, rx_drops=3, tx_packets=11, tx_bytes=1034, tx_drops=1
    )
