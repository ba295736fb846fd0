"""A fault planted in the shipped code by hand is found, and can be made small (LAB-109)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest

from netlab.sim.run import live, scenario_of, smallest
from overlay.documents import trust
from overlay.documents.schema import Member
from overlay.exitnode import health, policy
from overlay.model import WgPeer, WgPublicKey
from overlay.peers import candidates, paths, selection
from overlay.peers.paths import Path
from overlay.peers.selection import PeerDelta, Selection
from overlay.reconcile import goals, membership
from overlay.reconcile.goals import PeerGoals

log = logging.getLogger(__name__)

SEEDS, NODES = 60, 24

Peers = Mapping[WgPublicKey, WgPeer]
_diff = selection.diff_peers


def keep_departed(*, desired: Peers, actual: Peers) -> PeerDelta:
    return PeerDelta(put=_diff(desired=desired, actual=actual).put)


def forget_allowed_ips(*, desired: Peers, actual: Peers) -> PeerDelta:
    delta = _diff(desired=desired, actual=actual)
    return PeerDelta(tuple(p for p in delta.put if p.public_key not in actual), delta.drop)


def write_over_what_is_proven(self: PeerGoals, peer: WgPeer) -> None:
    path = self._paths.get(peer.public_key)
    whole = peer if path is None else goals._with_path(peer, path)
    self._peers[peer.public_key] = self._unwritten[peer.public_key] = whole


def write_over_by_the_second_document(self: PeerGoals, peer: WgPeer) -> None:
    """As it was: see netlab/sim/seeds/proven-endpoint.json."""
    key, path = peer.public_key, self._paths.get(peer.public_key)
    whole = peer if path is None else goals._with_path(peer, path)
    is_known = key in self._peers and self._unwritten.get(key) is None
    self._peers[key] = whole
    is_proven = path is not None and path.alive and is_known
    self._unwritten[key] = msgspec.structs.replace(whole, endpoint=None) if is_proven else whole


_failures = policy._failures


def forgive_who_was_no_exit(*args: Any, now: float) -> Any:
    """As it was: see netlab/sim/seeds/forgiven-exit.json."""
    return {node: at for node, at in _failures(*args, now=now).items() if node in args[1]}


def stay(path: Path, *_: Any, **__: Any) -> Path:
    return path


_set_way_out, _with_own = PeerGoals.set_way_out, PeerGoals._with_allowed_ips


def give_without_taking(self: PeerGoals, key: WgPublicKey | None, **_: Any) -> None:
    """The one before still has it wherever it is written next."""
    self._way_out = key
    if key in self._peers:
        self._set_peer(self._peers[key])


def move_ipv4_alone(self: PeerGoals, peer: WgPeer) -> WgPeer:
    """IPv6 stays with whoever had it first."""
    right = _with_own(self, peer)
    outside = {prefix for prefix in self.selection.outside() if ":" in prefix}
    holder = next((k for k, p in self._peers.items() if outside & {*p.allowed_ips}), None)
    if holder is None or self.way_out is None:
        return right
    allowed = {*right.allowed_ips} - outside
    if peer.public_key == holder:
        allowed |= outside
    return msgspec.structs.replace(right, allowed_ips=tuple(sorted(allowed)))


def keep_the_last(self: PeerGoals, key: WgPublicKey | None, **draining: Any) -> None:
    if key is not None:
        _set_way_out(self, key, **draining)


def believe_whoever_says_so(chosen: Selection) -> Iterator[tuple[Member, int]]:
    """Named or not."""
    named = chosen.roster.network.exits if chosen.roster is not None else ()
    orders = {each.node: each.order for each in named}
    for member in chosen.members.values():
        if member.exit is not None and chosen.peer_of(member.node):
            yield member, orders.get(member.node, 0)


PLANTED: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "a departed member stays a peer": (selection, "diff_peers", keep_departed),
    "a delta forgets allowed IPs": (selection, "diff_peers", forget_allowed_ips),
    "an older version counts as news": (trust, "is_news", lambda *_: True),
    "who was removed is admitted": (trust.Roster, "admit", lambda *_: None),
    "a handshake proves nothing": (paths, "_proven", stay),
    "a proven endpoint is written over": (PeerGoals, "_set_peer", write_over_what_is_proven),
    "a path that fails is never left": (paths, "_next", stay),
    "a path is tried once in a year": (paths, "_patience_s", lambda _: 3e7),
    "a path never counts as failed": (paths, "HANDSHAKE_FRESH_S", 10**9),
    "what a peer offers now is ignored": (paths, "with_candidates", stay),
    "the hidden send no keepalives": (paths, "_keepalive_s", lambda *_: 0),
    "everybody sends keepalives": (paths, "_keepalive_s", lambda *_: paths.KEEPALIVE_S),
    "nobody says where it is now": (membership, "says_the_same", lambda old, _: old is not None),
    "a port is offered that nobody forwards": (
        candidates,
        "_candidate",
        lambda kind, address, port, made=candidates._candidate: made(kind, address, port + 1),
    ),
    "an exit switch leaves the one before its part": (
        PeerGoals,
        "set_way_out",
        give_without_taking,
    ),
    "an exit switch moves one family": (PeerGoals, "_with_allowed_ips", move_ipv4_alone),
    "an election flaps": (policy, "STEADY_S", 0.0),
    "an election ignores order": (policy, "_preference", lambda contender: contender.node),
    "an election never ends": (health, "SILENT_S", 1e9),
    "an exit that was withdrawn keeps the way out": (PeerGoals, "set_way_out", keep_the_last),
    "an exit is whoever says so": (health, "ready_exits", believe_whoever_says_so),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, attribute, fault = PLANTED[name]
    monkeypatch.setattr(module, attribute, fault)
    for seed in range(SEEDS):
        if faults := live(scenario_of(seed, nodes=NODES)).faults:
            log.info("%s: found by seed %d: %s", name, seed, faults[0])
            return
    pytest.fail(f"not found by {SEEDS} seeds")


def test_a_failing_world_is_made_small_and_still_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "diff_peers", forget_allowed_ips)
    seed = next(s for s in range(SEEDS) if live(scenario_of(s, nodes=NODES)).faults)
    whole = scenario_of(seed, nodes=NODES)
    small = smallest(whole)
    assert live(small).faults
    assert len(small.transitions) == 1
    assert len(small.networks) == 1
    assert len(small.nodes) < len(whole.nodes)
    monkeypatch.undo()
    assert live(small).faults == []


def test_the_corpus_would_find_what_it_was_found_by(monkeypatch: pytest.MonkeyPatch) -> None:
    from netlab.sim.corpus import read_all

    monkeypatch.setattr(PeerGoals, "_set_peer", write_over_by_the_second_document)
    monkeypatch.setattr(policy, "_failures", forgive_who_was_no_exit)
    corpus = dict(read_all())
    assert live(corpus["proven-endpoint"]).faults
    assert live(corpus["forgiven-exit"]).faults
