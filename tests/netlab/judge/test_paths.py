"""How the overlay gets from one node to another, by what a node says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from netlab.judge.paths import lan_addresses, path_of
from netlab.topology import Link, Node, Router, Topology
from netlab.wiring.wirer import wire
from zos_core.status import PeerStatus

WIRING = wire(
    Topology(
        nodes=(
            Node("a", (Link("home"),)),
            Node("b", (Link("home"),)),
            Node("c", (Link("flat"),)),
            Node("d"),
        ),
        routers=(Router("home"), Router("flat")),
    )
)


def peer(endpoint: str | None, *, met: bool = True) -> PeerStatus:
    """A peer of which nothing matters but where it is."""
    words = dict.fromkeys(PeerStatus.__struct_fields__)
    words |= {"endpoint": endpoint, "latest_handshake": datetime.now(UTC) if met else None}
    return PeerStatus(**words)


def test_only_what_both_are_on_is_a_lan():
    # LAB-310
    near = lan_addresses(WIRING, "a", "b")
    assert {str(each) for each in near} == {"192.168.1.11", "2001:db8:1:1::b"}
    assert lan_addresses(WIRING, "a", "c") == lan_addresses(WIRING, "a", "d") == frozenset()


@pytest.mark.parametrize(
    ("found", "path"),
    [
        (peer("192.168.1.11:51820"), "lan"),
        (peer("[2001:db8:1:1::b]:51820"), "lan"),
        (peer("198.19.1.1:51820"), "direct"),
        (peer("192.168.1.11:51820", met=False), ""),
        (peer(None), ""),
        (None, ""),
    ],
)
def test_a_path_is_where_a_tunnel_leads(found, path):
    # LAB-310
    assert path_of(found, on_lan=lan_addresses(WIRING, "a", "b")) == path
