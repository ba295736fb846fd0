"""A fault planted in the shipped code by hand is found, and can be made small (LAB-109)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from netlab.sim.run import live, scenario_of, smallest
from overlay.documents import trust
from overlay.model import WgPeer, WgPublicKey
from overlay.peers import candidates, paths, selection
from overlay.peers.paths import Path
from overlay.peers.selection import PeerDelta
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


def stay(path: Path, *_: Any, **__: Any) -> Path:
    return path


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
    assert live(dict(read_all())["proven-endpoint"]).faults
