"""The convergence law on the fake machine (NET-050 .. NET-053)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.model import Prefix, WgPeer, WgPublicKey
from overlay.netns.changes import DropPeer, PutPeer
from overlay.netns.plan import plan_peers
from overlay.netns.ports import Shell
from overlay.ports import Secret
from tests.convergence import (
    BLOWS,
    NETNS,
    WORKLOADS,
    Goal,
    blows,
    check_law,
    goals,
    network_resource,
    peers,
)
from tests.fake_machine import WIPE, FakeMachine, fake_public, put_peer


class FakeSecret:
    def __init__(self, n: int) -> None:
        self._n = n

    def reveal(self) -> bytes:
        return bytes([100 + self._n]) * 32


class Fake:
    """The fake machine as the law sees machines."""

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.machine.workloads |= {name: self.machine.new_netns() for name in WORKLOADS}

    @property
    def shell(self) -> Shell:
        return self.machine.shell

    def key(self, n: int) -> tuple[Secret, WgPublicKey]:
        return FakeSecret(n), fake_public(FakeSecret(n))

    def workload(self, name: str) -> str:
        return name

    def unpin(self, netns: str) -> None:
        self.machine.pinned.pop(netns, None)

    def wipe(self) -> str:
        return WIPE

    def restart(self) -> None:
        self.machine.held.clear()
        self.machine.bury()


@given(before=goals, done=blows, after=goals, dies_after=st.integers(0, 60))
@settings(max_examples=300)
def test_converge_reaches_any_goal_from_anywhere(
    before: Goal, done: Sequence[str], after: Goal, dies_after: int
) -> None:  # NET-050, NET-051, NET-052
    fake = Fake()
    asyncio.run(check_law(fake, before=before, done=done, after=after, dies_after=dies_after))
    assert NETNS not in fake.machine.held
    assert set(fake.machine.underlay.links) == {"lo"}
    assert all(set(w.links) <= {"lo", "stray"} for w in fake.machine.workloads.values())


@pytest.mark.parametrize("blow", sorted(BLOWS))
def test_converge_repairs_each_blow(blow: str) -> None:  # NET-053
    goal = Goal(
        present=True,
        key=0,
        resource=network_resource(),
        peers=(),
        hosts=((2, "wa"), (3, "wb")),
        devices=(),
    )
    asyncio.run(check_law(Fake(), before=goal, done=[blow], after=goal, dies_after=1000))


@given(before=peers(), after=peers(), steps=st.integers(0, 30))
def test_no_prefix_is_given_to_a_peer_while_another_still_holds_it(
    before: tuple[WgPeer, ...], after: tuple[WgPeer, ...], steps: int
) -> None:  # NET-045
    held = {peer.public_key: peer for peer in before}
    desired = {peer.public_key: peer for peer in after}
    changes = tuple(plan_peers(desired=desired, actual=held, now=0))
    now: dict[WgPublicKey, WgPeer] = dict(held)
    for change in changes[:steps]:
        if isinstance(change, DropPeer):
            del now[change.public_key]
        elif isinstance(change, PutPeer):
            # Nothing is taken from a peer by giving it to another: it was let go of before.
            key = change.peer.public_key
            others = owners(peer for peer in now.values() if peer.public_key != key)
            assert not others.keys() & owners([change.peer]).keys()
            put_peer(now, change.peer)
    if steps >= len(changes):
        assert owners(now.values()) == owners(after)


def owners(found: Iterable[WgPeer]) -> dict[Prefix, WgPublicKey]:
    return {prefix: peer.public_key for peer in found for prefix in peer.allowed_ips}
