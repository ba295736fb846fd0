"""What a zos node says of itself, shortened, and what of a change is news."""

from __future__ import annotations

import pytest

from netlab.supervisor.status import ZosHealth, ZosNetwork, ZosPeer, ZosStatus
from netlab.supervisor.tunnels import SILENT, changes, shorten
from tests.zos_core import situation


def peer(state: str = "idle", endpoint: str | None = None, *, rx_bytes: int = 0) -> ZosPeer:
    return ZosPeer("n2", state, "direct", endpoint, None, rx_bytes, 0)


def node(*peers: ZosPeer, health: tuple[ZosHealth, ...] = (), exit_: str = "") -> ZosStatus:
    network = ZosNetwork("net1x", "home", "up", "", None, None, peers, (), exit_)
    return ZosStatus("running", id="node1x", networks=(network,), health=health)


def test_a_status_is_shortened_without_loss_of_names() -> None:  # LAB-251
    full = situation.node_status(situation.network())
    short = shorten(full)
    assert short.id == full.node.id
    assert [each.name for each in short.networks] == [each.name for each in full.networks]
    assert [each.name for each in short.networks[0].peers] == [
        each.name for each in full.networks[0].peers
    ]


@pytest.mark.parametrize(
    ("before", "latest", "told"),
    [
        (SILENT, node(), [("program", "zos answers"), ("tunnel", "home is up")]),
        (node(), SILENT, [("program", "zos is silent")]),
        (node(peer()), node(peer(rx_bytes=99)), []),
        (
            node(peer()),
            node(peer("active", "192.0.2.1:51820")),
            [("tunnel", "home: n2 is active, path direct at 192.0.2.1:51820")],
        ),
        (
            node(peer()),
            node(ZosPeer("n2", "idle", "relay", None, None, 0, 0, relay="r1")),
            [("tunnel", "home: n2 is idle, path relay r1")],
        ),
        (node(exit_="e1"), node(exit_="e2"), [("tunnel", "home: it is left by e2")]),
        (node(exit_="e2"), node(), [("tunnel", "home: nothing leaves")]),
        (
            node(),
            node(health=(ZosHealth("slow", "warning", "it is slow", "wait"),)),
            [("health", "warning: it is slow")],
        ),
    ],
)
def test_news_are_states_ways_and_health(  # LAB-251
    before: ZosStatus, latest: ZosStatus, told: list[tuple[str, str]]
) -> None:
    assert list(changes(before, latest)) == told
    assert list(changes(latest, latest)) == []
