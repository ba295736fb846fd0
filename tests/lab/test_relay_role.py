"""A node as a relay, from an operator's offer to packets between hidden devices (NODE-060 ..).

Members are nodes that published themselves and then stopped; stock WireGuard with their keys goes
on, so that nothing but the relay is under test.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netlab.fleet.fleet import Person, until_granted
from netlab.lab import Lab
from netlab.nat import NATS
from netlab.topology import Link, Node, Router, Topology
from overlay.addressing import is_private, parse_endpoint
from overlay.documents.relays import DEFAULT_RELAY_PORT
from overlay.keys import store
from overlay.keys.wireguard import DeviceKey, parse_public_key
from overlay.model import NetworkId
from tests.lab.scene import Scene, until
from tests.stock_device import OVERLAY, Site, backends

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(300)]

KEYS = "/var/lib/zos/keys"
HIDDEN = Topology(
    nodes=(
        *(Node(name) for name in ("registry", "desk", "r")),
        *(Node(name, (Link(to=f"home-{name}"),)) for name in "ab"),
    ),
    routers=tuple(
        Router(f"home-{name}", nat=NATS["symmetric"], firewall="stateful") for name in "ab"
    ),
)


@dataclass
class Stage:
    scene: Scene
    alice: Person
    network: NetworkId

    def endpoint(self, family: str) -> str:
        node = self.scene.lab.node("r")
        host = f"[{node.ipv6}]" if family == "ipv6" else node.ipv4
        return f"{host}:{DEFAULT_RELAY_PORT}"

    async def relay(self) -> dict[str, Any]:
        """What node r says of its role."""
        return (await self.scene.read("r")).get("relay") or {}

    async def until_relay(self, **wanted: Any) -> dict[str, Any]:
        async def look() -> dict[str, Any]:
            found = await self.relay()
            networks = found.get("networks") or [{}]
            flat = {**found, **networks[0]} if len(networks) == 1 else found
            return flat if all(flat.get(key) == value for key, value in wanted.items()) else {}

        return await until(look, f"the relay says {wanted}")  # type: ignore[no-any-return]

    def site(self, name: str) -> Site:
        """The device of a node that has stopped."""
        node = self.scene.lab.node(name)
        path = store.device_key_path(Path(node.path(KEYS)), self.network)
        return Site(node, DeviceKey(store.load(path, store.Kind.WG)))

    async def stop(self, name: str) -> None:
        await self.scene.fleet.stop_node(name, signal.SIGTERM)
        await self.scene.fleet.zos(name, "node", "clean", "--yes")

    async def sees(self) -> dict[str, str]:
        """From where r hears whom, as the owner is told."""
        shown = await self.alice.zos("network", "relay", "list", "home")
        return {row["name"]: row["hears"] for row in shown["relays"]}

    async def is_open(self, family: socket.AddressFamily) -> bool:
        """Whether somebody has the relay's port at node r."""
        with self.scene.lab.node("r").in_netns():
            probe = socket.socket(family, socket.SOCK_DGRAM)
        with probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(("", DEFAULT_RELAY_PORT))
            except OSError:
                return True
        return False


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Node r is offered, alice names it; a and b are members and hidden from everybody."""
    async with Lab.create(HIDDEN, workdir=tmp_path / "lab") as lab:
        scene = await Scene.open(lab)
        farm = ("--farm", scene.farm)
        for name in "rab":
            await scene.fleet.start_node(name, *farm)
        for name in "rab":
            id_ = scene.fleet.node_ids[name]
            await scene.operator.zos("farm", "add-node", "basement", id_, "--as", name)
        alice = await scene.create_network("alice", "home", "a", "b")
        stage = Stage(scene, alice, NetworkId((await scene.network_of("a", "home"))["id"]))
        yield stage


async def offer(stage: Stage) -> None:
    node = stage.scene.lab.node("r")
    endpoints = [w for each in (node.ipv4, node.ipv6) for w in ("--endpoint", str(each))]
    await stage.scene.operator.zos("relay", "offer", "basement", "r", *endpoints)


async def name(stage: Stage) -> None:
    id_ = stage.scene.fleet.node_ids["r"]
    argv = ("network", "relay", "add", "home", id_, "--as", "r")
    await until_granted(lambda: stage.alice.zos(*argv))


async def start_devices(stage: Stage, named: str, *families: str) -> tuple[Site, Site]:
    found = await stage.relay()
    relay = parse_public_key(found["public_key"])
    a, b = stage.site("a"), stage.site("b")
    for site, peer, family in ((a, b, families[0]), (b, a, families[-1])):
        await site.start(named, relay=relay, endpoint=stage.endpoint(family), peer=peer)
    return a, b


@pytest.fixture(params=backends(), ids=lambda named: Path(named).name)
def named(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def reach(a: Site, b: Site) -> None:
    for site, other in ((a, "b"), (b, "a")):
        for address in OVERLAY[other]:
            await site.until_reached(address)


@pytest.mark.parametrize("families", [("ipv4", "ipv4"), ("ipv6", "ipv6"), ("ipv4", "ipv6")])
async def test_hidden_members_meet_at_a_node_that_is_offered_and_named(
    stage: Stage, named: str, families: tuple[str, str]
) -> None:
    # NODE-060, NODE-065, REG-070, REG-071
    await offer(stage)
    await stage.until_relay(state="serving")
    await name(stage)
    await stage.until_relay(members=2)
    for each in "ab":
        await stage.stop(each)
    a, b = await start_devices(stage, named, *families)
    await reach(a, b)
    found = await stage.until_relay(registered=2, heard=2, sessions=1)
    assert found["packets"]["forwarded"] > 0
    await until(_hears(stage, 2), "the owner is told")

    # Who is taken out by the tenant is out.
    await stage.alice.zos("network", "remove-node", "home", "b")
    await stage.until_relay(members=1, registered=1)
    assert not await a.reaches(OVERLAY["b"][0])
    await until(_hears(stage, 1), "the owner is told")

    # A member that runs is told where it is heard: at its router, not at its own address.
    await stage.scene.fleet.start_node("a", "--farm", stage.scene.farm)
    relay = await until(_heard_at(stage), "a is told")
    endpoint = parse_endpoint(relay["hears_us_at"])
    own = stage.scene.lab.node("a")
    assert (endpoint.address == own.ipv6) == (families[0] == "ipv6")
    assert endpoint.address != own.ipv4
    assert not is_private(endpoint.address)

    # And everybody when the operator takes the offer back: the port is closed.
    await stage.scene.operator.zos("relay", "withdraw", "basement", "r")
    for family in (socket.AF_INET, socket.AF_INET6):
        await until(_is_closed(stage, family), f"{family.name} is closed")
    assert not await stage.relay()


async def test_a_relay_that_starts_again_without_a_registry_serves_as_before(
    stage: Stage, named: str
) -> None:
    # NODE-010, NODE-065
    await offer(stage)
    await name(stage)
    await stage.until_relay(members=2)
    for each in "ab":
        await stage.stop(each)
    a, b = await start_devices(stage, named, "ipv4", "ipv6")
    await reach(a, b)
    key = (await stage.relay())["public_key"]
    await stage.scene.fleet.stop_registry()
    await stage.scene.fleet.stop_node("r")
    await stage.scene.fleet.start_node("r", "--farm", stage.scene.farm)
    assert (await stage.until_relay(members=2, state="serving"))["public_key"] == key
    # What stock WireGuard does when its session with the relay is two minutes old.
    for site, family in ((a, "ipv4"), (b, "ipv6")):
        endpoint = stage.endpoint(family)
        await site.node.run("wg", "set", "wg0", "peer", key, "remove")
        more = ("endpoint", endpoint, "persistent-keepalive", "1")
        await site.node.run("wg", "set", "wg0", "peer", key, *more)
    await stage.until_relay(heard=2)
    await reach(a, b)


async def test_a_node_that_is_named_and_not_offered_opens_nothing(stage: Stage) -> None:
    # NODE-060: alice wrote the relay into her file by hand
    key = await stage.scene.shell("desk", "wg genkey | wg pubkey")
    id_ = stage.scene.fleet.node_ids["r"]
    with stage.alice.file("networks/home.toml").open("a") as file:
        file.write(
            f'\n[relays.r]\nnode = "{id_}"\npublic_key = "{key.strip()}"\n'
            f'endpoints = ["{stage.endpoint("ipv4")}"]\n'
        )
    await stage.alice.zos("network", "publish", "home")
    version = (await stage.alice.zos("network", "show", "home"))["version"]

    async def has_version() -> bool:
        return (await stage.scene.network_of("a", "home")).get("version") == version

    await until(has_version, "members act on it")
    assert not await stage.relay()
    assert not await stage.is_open(socket.AF_INET)
    # Offered then, it is asked for a key that it does not have.
    await offer(stage)
    found = await stage.until_relay(state="serving", members=0)
    assert "another key" in found["networks"][0]["message"]
    await until_granted(lambda: stage.alice.zos("network", "relay", "update", "home"))
    await stage.until_relay(members=2)


def _hears(stage: Stage, count: int) -> Any:
    async def look() -> bool:
        return (await stage.sees()).get("r") == count

    return look


def _heard_at(stage: Stage) -> Any:
    async def look() -> Any:
        relays = (await stage.scene.network_of("a", "home")).get("relays") or ({},)
        return relays[0] if relays[0].get("hears_us_at") else None

    return look


def _is_closed(stage: Stage, family: socket.AddressFamily) -> Any:
    async def look() -> bool:
        await asyncio.sleep(0.05)
        return not await stage.is_open(family)

    return look
