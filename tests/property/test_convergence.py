"""The convergence law on the fake machine (NET-050 .. NET-053)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.model import WgPublicKey
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
)
from tests.fake_machine import WIPE, FakeMachine, fake_public


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
