from __future__ import annotations

from typing import Any

import msgspec

from netlab.supervisor.status import LabStatus
from netlab.watch.rates import compare

ROWS = 10


def lab(lab_s: float, **counted: tuple[int, int]) -> LabStatus:
    """Links by name: bytes out and in; one tunnel that carries as much as all of them."""
    total = sum(map(sum, counted.values()))
    peer = {
        "name": "n2", "state": "active", "path": "direct", "endpoint": None,
        "handshake_age_s": 1, "rx_bytes": total, "tx_bytes": 0,
    }  # fmt: skip
    network: dict[str, Any] = {
        "id": "i", "name": "home", "state": "up", "message": "", "gateway_ipv4": None,
        "gateway_ipv6": None, "peers": [peer], "workloads": [],
    }  # fmt: skip
    node = {
        "name": "n1", "role": "node", "state": "running", "addresses": [], "links": [], "part": 0,
        "zos": {"state": "running", "networks": [network]},
    }  # fmt: skip
    links = [
        {
            "name": name, "end": f"{name}:eth0", "of": name, "to": "internet", "lan": "",
            "up": True,
            "mtu_bytes": 1500, "ipv4": None, "ipv6": None, "impaired": None, "back_end": "",
            "counters": {
                "rx_packets": 1, "rx_bytes": came, "rx_drops": 2,
                "tx_packets": 1, "tx_bytes": left, "tx_drops": 1,
            },
        }
        for name, (left, came) in counted.items()
    ]  # fmt: skip
    return msgspec.convert(
        {
            "schema": 1, "name": "told", "state": "ready", "build": None, "seed": 0,
            "began_at": 0.0, "ready_after_s": 1.0, "at": 0.0, "lab_s": lab_s, "last_event": 0,
            "pid": 1, "keeper_pid": 2, "workdir": "", "registry": "", "partition": [],
            "regions": ["internet"], "latencies": [], "routers": [], "lans": [],
            "nodes": [node], "links": links, "tenants": [],
        },
        LabStatus,
    )  # fmt: skip


def test_rates_are_bits_by_the_lab_s_own_clock_and_the_busiest_come_first():  # LAB-344
    rates = compare(lab(10.0, a=(0, 0), b=(100, 100)), lab(12.0, a=(0, 50), b=(1100, 300)), rows=2)
    assert [(each.name, each.out_bit_s, each.in_bit_s) for each in rates.links] == [
        ("b", 4000.0, 800.0),
        ("a", 0.0, 200.0),
    ]
    assert rates.links[0].dropped == 3
    (tunnel,) = rates.tunnels
    assert (tunnel.name, tunnel.network, tunnel.bit_s) == ("n1 - n2", "home", 5000.0)


def test_rates_keep_to_the_rows_asked_for():
    now = lab(1.0, **{f"n{n}": (n, 0) for n in range(5)})
    assert len(compare(now, now, rows=3).links) == 3


def test_rates_of_what_began_again_or_is_new_are_nothing():
    first = compare(lab(0.0, a=(900, 900)), lab(1.0, a=(5, 5), b=(7, 7)), rows=ROWS)
    assert [(each.name, each.out_bit_s) for each in first.links] == [("a", 0.0), ("b", 0.0)]
    assert first.tunnels[0].bit_s == 0.0
