"""What one more peer costs, in counts that no busy machine can blur (bench/peer_delta.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from overlay.model import WgPublicKey
from overlay.peers.cache import Cache
from tests import fake_machine
from tests.fake_machine import FakeWireGuard
from tests.node_world import HOME, OWN, FakeRegistry, World, device, real_public, running

pytestmark = pytest.mark.blocking  # SQLite and key files

CROWD = [f"n{number}" for number in range(2, 34)]


async def test_one_more_peer_is_one_write_of_one_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_machine, "fake_public", real_public)
    written: list[tuple[set[WgPublicKey], set[WgPublicKey]]] = []
    commits: list[Cache] = []
    write, commit = FakeWireGuard.write, Cache._commit

    async def count(wireguard: FakeWireGuard, ref: Any, **options: Any) -> None:
        await write(wireguard, ref, **options)
        put, drop = options.get("put", ()), options.get("drop", ())
        written.append(({peer.public_key for peer in put}, {*drop}))

    def count_commit(cache: Cache) -> None:
        commit(cache)
        commits.append(cache)

    world, registry = World(), FakeRegistry()
    members = [world.member(name, index) for index, name in enumerate(CROWD, 2)]
    async with running(tmp_path, registry=registry) as node:
        registry.send(world.farm(OWN), world.network("own", *CROWD), *members[:-1])
        await node.until(lambda: len(node.peers()) == len(members) - 1, "all but one")
        await node.quiet()
        own_part = node.loop.loops[HOME].network_resource
        monkeypatch.setattr(FakeWireGuard, "write", count)
        monkeypatch.setattr(Cache, "_commit", count_commit)
        registry.send(members[-1])
        await node.until(lambda: len(node.peers()) == len(members), "the last one")
        await node.quiet()
        assert node.loop.loops[HOME].network_resource is own_part  # not worked out again
    assert written == [({device(CROWD[-1]).public_key}, set())]
    assert len(commits) == 2  # the document with its floor; how far the registry was followed
