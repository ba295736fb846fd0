"""Which exit is in use after a start (EXIT-065); elections are in tests/overlay/exitnode."""

from __future__ import annotations

import msgspec
import pytest

from overlay.documents.exits import Exit, ExitService
from overlay.keys.wireguard import DeviceKey
from overlay.model import WgDevice, WgPeer
from overlay.reconcile.goals import PeerGoals
from overlay.reconcile.leaving import Leaving
from tests.overlay.reconcile.test_goals import OTHER, OWN, UNDERLAY, network, node, other, seed

WALL, NOW = 1_000_000.0, 50.0
SECOND = DeviceKey.from_seed(seed("device second"))


def known(*, draining_until: int | None = 1_000_060) -> PeerGoals:
    """Two exits: other (2), which drains, and second (3)."""
    base = network(1)
    both = (
        *base.members,
        msgspec.structs.replace(base.members[1], name="second", node=node("second"), index=3),
    )
    exits = (Exit(node("other"), 0), Exit(node("second"), 1))
    goals = PeerGoals(node("own"), own_key=OWN.public_key, underlay=UNDERLAY)
    goals.put_network(msgspec.structs.replace(base, members=both, exits=exits), now=0.0)
    service = ExitService(("198.51.100.1",), (4,), draining_until=draining_until)
    first = msgspec.structs.replace(other(1), exit=service)
    second = msgspec.structs.replace(
        first,
        node=node("second"),
        name="second",
        index=3,
        device=SECOND.id,
        exit=msgspec.structs.replace(service, draining_until=None),
    )
    for member in (first, second):
        goals.put_member(member, now=0.0)
    return goals


def device(goals: PeerGoals, *, out: DeviceKey | None, but: DeviceKey | None = None) -> WgDevice:
    """As it was left: with a peer that takes what leaves the network."""
    peers = {
        key: WgPeer(key, peer.allowed_ips)
        for key, peer in goals.peers.items()
        if but is None or key != but.public_key
    }
    if out is not None:
        peer = peers[out.public_key]
        allowed = tuple(sorted((*peer.allowed_ips, *goals.selection.outside())))
        peers[out.public_key] = msgspec.structs.replace(peer, allowed_ips=allowed)
    return WgDevice(OWN.public_key, 51820, peers)


def alone(goals: PeerGoals, key: DeviceKey) -> WgDevice:
    whole = device(goals, out=key)
    return msgspec.structs.replace(whole, peers={key.public_key: whole.peers[key.public_key]})


def test_the_exits_of_before_are_in_use_again() -> None:  # EXIT-065
    goals, leaving = known(), Leaving()
    shared = device(goals, out=SECOND, but=OTHER)
    leaving.adopt(goals, shared, alone(goals, OTHER), wall=WALL, now=NOW)
    it = leaving.election
    assert (it.elected, it.since, it.draining) == (node("second"), NOW, node("other"))
    assert it.draining_until == pytest.approx(NOW + 60)
    assert (goals.way_out, goals.draining) == (SECOND.public_key, OTHER.public_key)


def test_what_drains_no_more_is_a_peer_like_others() -> None:  # EXIT-061
    goals, leaving = known(draining_until=None), Leaving()
    shared = device(goals, out=SECOND, but=OTHER)
    leaving.adopt(goals, shared, alone(goals, OTHER), wall=WALL, now=NOW)
    assert (goals.way_out, goals.draining) == (SECOND.public_key, None)


def test_with_nobody_in_use_nobody_is_adopted() -> None:  # EXIT-065
    goals, leaving = known(), Leaving()
    leaving.adopt(goals, device(goals, out=None), None, wall=WALL, now=NOW)
    assert (leaving.election.elected, goals.way_out) == (None, None)


def test_who_is_no_exit_any_more_is_not_adopted() -> None:  # EXIT-065
    goals, leaving = known(), Leaving()
    shared = device(goals, out=SECOND)
    goals.put_network(network(2), now=NOW)
    leaving.adopt(goals, shared, None, wall=WALL, now=NOW)
    assert (leaving.election.elected, goals.way_out) == (None, None)
