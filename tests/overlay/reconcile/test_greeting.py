"""Two nodes that greet each other at the same moment (decision 0005)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from overlay.model import WgDevice, WgPublicKey
from tests import fake_machine
from tests.fake_machine import FakeWireGuard
from tests.node_world import HOME, OWN, FakeRegistry, World, device, real_public, running

pytestmark = pytest.mark.blocking  # SQLite and key files

CROWD = [f"n{number}" for number in range(2, 12)]
LOOKS = 3


async def test_who_has_the_lower_key_greets_once_more_when_nobody_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_machine, "fake_public", real_public)
    dropped: Counter[WgPublicKey] = Counter()
    looks = 0
    write, read = FakeWireGuard.write, FakeWireGuard.read

    async def count_drops(wireguard: FakeWireGuard, ref: Any, **options: Any) -> None:
        dropped.update(options.get("drop", ()))
        await write(wireguard, ref, **options)

    async def count_looks(wireguard: FakeWireGuard, ref: Any) -> WgDevice | None:
        nonlocal looks
        looks += 1
        return await read(wireguard, ref)

    monkeypatch.setattr(FakeWireGuard, "write", count_drops)
    world, registry = World(), FakeRegistry()
    members = [world.member(name, index) for index, name in enumerate(CROWD, 2)]
    keys = {device(name).public_key for name in CROWD}
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", *CROWD), *members)
        await node.until(lambda: node.peers() == keys, "the peers")
        own = node.loop.loops[HOME].device_key.public_key
        lower_than = {key for key in keys if own < key}
        await node.until(lambda: dropped.keys() >= lower_than, "another greeting")
        await node.until(lambda: node.peers() == keys, "the peers again")
        monkeypatch.setattr(FakeWireGuard, "read", count_looks)
        await node.until(lambda: looks >= LOOKS, "more looks")
        assert node.peers() == keys
        assert not node.loop.journal.repairs
    assert dropped == dict.fromkeys(lower_than, 1)
