"""What the way out and an exit that drains ask of flows and devices (EXIT-060). Pure."""

from __future__ import annotations

from overlay.model import CandidateKind, WgPeer, WgPublicKey
from overlay.netns.resource import Drain, flow_mark
from overlay.reconcile.goals import PeerGoals


def mark_of(goals: PeerGoals, exit_: WgPublicKey | None) -> int:
    """The mark of flows that leave by this peer."""
    member = goals.selection.member_at(exit_) if exit_ is not None else None
    return 0 if member is None else flow_mark(member.index)


def shared_peers(goals: PeerGoals) -> dict[WgPublicKey, WgPeer]:
    """All peers but the one that drains, as they are now."""
    draining = goals.draining
    return {key: peer for key, peer in goals.peers.items() if key != draining}


def select_drain(goals: PeerGoals) -> Drain | None:
    """What the device of the peer that drains needs."""
    draining = goals.draining
    if draining is None or (peer := goals.peers.get(draining)) is None:
        return None
    return Drain(mark_of(goals, draining), peer, goals.selection.peers[draining].allowed_ips)


def can_drain(goals: PeerGoals, key: WgPublicKey) -> bool:
    """Whether this peer hears us from another port as well: it is where it says to be.

    A NAT or a relay in between knows the port of wg0 alone, and a replaced key hears nobody.
    """
    path = goals.path(key)
    if path is None or path.endpoint is None or goals.takeovers.bears_for(key) != key:
        return False
    return path.known_as(path.endpoint) in (CandidateKind.DECLARED, CandidateKind.LOCAL)
