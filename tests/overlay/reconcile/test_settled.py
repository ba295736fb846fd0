"""Settled means that it stands in the kernel, not that somebody has begun to write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import fake_machine
from tests.fake_machine import FakeKernel, FakeMachine, FakeWireGuard
from tests.node_world import HOME, OWN, FakeRegistry, World, real_public, running

pytestmark = pytest.mark.blocking  # SQLite and key files


async def test_a_pass_under_way_is_not_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_machine, "fake_public", real_public)
    machine, world, registry = FakeMachine(), World(), FakeRegistry()
    seen: list[bool] = []
    add_address, write = FakeKernel.add_address, FakeWireGuard.write

    async def look_then_add(kernel: FakeKernel, *what: Any) -> None:
        seen.append(node.loop.loops[HOME].passes.is_settled)
        await add_address(kernel, *what)

    async def look_then_write(wireguard: FakeWireGuard, ref: Any, **options: Any) -> None:
        seen.append(node.loop.loops[HOME].passes.is_settled)
        await write(wireguard, ref, **options)

    async with running(tmp_path, registry=registry, machine=machine) as node:
        registry.send(world.farm(OWN), world.network("own", "n2"))
        await node.until(node.device, "a device")
        await node.quiet()
        monkeypatch.setattr(FakeWireGuard, "write", look_then_write)
        registry.send(world.member("n2", 2))
        await node.until(node.peers, "a peer")
        await node.quiet()
        monkeypatch.setattr(FakeKernel, "add_address", look_then_add)
        registry.send(world.network("n2", "own", version=2))
        await node.until(lambda: len(seen) > 2, "other addresses")
        await node.quiet()
    assert not any(seen)
