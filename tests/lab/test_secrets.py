"""Private keys and tokens stay where they belong, also in logs that say everything."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from netlab.lab_node import LabNode
from overlay.keys import store
from overlay.keys.identity import Kind
from tests.lab import scene
from tests.lab.scene import Scene, measured
from zos_core.token import parse_token

GUEST = "e1"


@pytest.mark.timeout(600)
async def test_no_private_key_or_token_is_in_logs_the_registry_or_other_processes(lab):
    # ARC-008, NODE-052, CLI-015
    stage = await Scene.open(await lab(scene.topology("n1", GUEST)))
    await stage.enrol("n1")
    await stage.fleet.start_node(GUEST, "--log-level", "debug")
    alice = await stage.create_network("alice", "home", "n1")
    token = (await alice.zos("network", "invite", "home", "edge"))["token"]
    await stage.fleet.zos(GUEST, "join", "-", input=token.encode())
    await stage.wait_up("home", GUEST)
    workloads = [await stage.attach("alice", "home", node) for node in ("n1", GUEST)]
    await stage.until_all_reach(workloads)

    secrets = {"token": token.encode(), "invitation": parse_token(token).invitation.reveal()}
    keys = {"n1": Kind.NODE, GUEST: Kind.NODE}
    for node, kind in keys.items():
        directory = stage.lab.node(node).path("/var/lib/zos/keys")
        secrets[f"{node}'s key"] = store.load(directory / "node.key", kind).reveal()
        for path in (directory / "devices").iterdir():
            secrets[f"{node}'s seed"] = store.load(path, Kind.WG).reveal()
            netns = (await stage.network_of(node, "home"))["netns"]
            shown = await stage.shell(node, f"wg show {netns.replace('n-', 'w-', 1)} private-key")
            secrets[f"{node}'s WireGuard key"] = base64.b64decode(shown)
    home = stage.lab.node("desk").path(alice.home)
    secrets["alice's key"] = store.load(home / "keys/tenant-alice.key", Kind.TENANT).reveal()
    places = dict(_places(stage))
    found = [
        f"{name} is in {place}"
        for name, secret in secrets.items()
        for place, content in places.items()
        if any(form in content for form in _forms(secret))
    ]
    measured(secrets=len(secrets), places=len(places), found=len(found))
    assert found == []


def _forms(secret: bytes) -> tuple[bytes, ...]:
    plain = base64.b64encode(secret).rstrip(b"=")
    return secret, plain, plain.replace(b"+", b"-").replace(b"/", b"_"), secret.hex().encode()


def _places(stage: Scene) -> Iterator[tuple[str, bytes]]:
    """All that anybody else could read: logs, the registry's disk, processes, answers."""
    for log in stage.lab.workdir.glob("**/*.log"):
        yield str(log), log.read_bytes()
    for path in (stage.lab.workdir / "registry/state").rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
    for node in stage.lab.nodes.values():
        yield from _processes(node)


def _processes(node: LabNode) -> Iterator[tuple[str, bytes]]:
    own = node.netns_path.stat().st_ino
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "ns/net").stat().st_ino == own:
                for name in ("cmdline", "environ"):
                    yield str(process / name), (process / name).read_bytes()
