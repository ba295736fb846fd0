"""kill -9 of a node at random moments while documents change: every restart converges."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from contextlib import suppress
from typing import Any

import pytest

from netlab.fleet.fleet import REGISTRY_PORT, Fleet
from netlab.lab_node import LabNode
from overlay.addressing import netns_name
from overlay.documents.schema import (
    AccessDevice,
    EndpointCandidate,
    Farm,
    Member,
    NamedMember,
    Network,
    Owners,
    Rule,
)
from overlay.keys.identity import Kind
from overlay.keys.wireguard import WireGuardKey, format_key
from overlay.model import CandidateKind, NetworkId
from overlay.registry import serve
from tests.lab import scene
from tests.lab.scene import measured, until
from tests.overlay.registry import hostile, kit
from tests.overlay.registry.hostile import Hostile

KILLS = 100
SEED = int(os.environ.get("ZOS_TEST_SEED") or random.SystemRandom().randrange(2**32))
NETWORKS = ("red", "green", "blue")
FAKES = tuple(f"fake{n}" for n in range(6))
WORKLOADS = ("w0", "w1")
CHANGING_S = 0.4  # within this time after changes the running node is killed
STARTING_S = 1.5  # and within this one after its start
CONVERGED_WITHIN_S = 120.0  # ends a hang


class World:
    """What is signed, and by whom. Documents reach the node by a registry in this process."""

    def __init__(self, registry: Hostile, node: str, chance: random.Random) -> None:
        self.node = node
        self.networks: dict[str, Network] = {}
        self._registry = registry
        self._chance = chance
        self._tenant = kit.tenant("alice")
        self._farm = kit.farm("basement")
        farm = Farm(farm=self._farm.id, version=1, name="basement", nodes=(node,))
        registry.hold(kit.sign(farm, self._farm))
        for n, name in enumerate(NETWORKS):
            self._publish(self._new(name, range=f"10.{n}.0.0/16"))
            for fake in FAKES:
                self._join(name, fake)

    def id(self, name: str) -> NetworkId:
        return NetworkId(kit.network_id(self.networks[name]))

    @property
    def present(self) -> dict[str, int]:
        """Networks that the node must have, and in which version."""
        return {
            str(self.id(name)): network.version
            for name, network in self.networks.items()
            if any(member.node == self.node for member in network.members)
        }

    def change(self) -> None:
        """One network becomes another in one way."""
        network = self.networks[self._chance.choice(NETWORKS)]
        change = self._chance.choice(
            [self._come_or_go, self._come_or_go, self._other_peers, self._other_rest]
        )
        fields = {**_fields(network), **change(network), "version": network.version + 1}
        self._publish(Network(**fields))

    def _new(self, name: str, *, range: str) -> Network:
        members = (NamedMember("n1", self.node, 1), *_fakes(FAKES[:2]))
        owners = Owners(1, (self._tenant.id,))
        return Network(name=name, version=1, owners=owners, range=range, members=members)

    def _publish(self, network: Network) -> None:
        self.networks[network.name] = network
        self._registry.hold(kit.sign(network, self._tenant))

    def _join(self, name: str, fake: str) -> None:
        device = kit.device(f"{name} {fake}")
        where = EndpointCandidate(
            CandidateKind.DECLARED, f"198.18.99.{FAKES.index(fake) + 1}:51820"
        )
        member = Member(
            network=self.id(name),
            node=kit.node(fake).id,
            version=1,
            name=fake,
            index=FAKES.index(fake) + 10,
            device=device.id,
            joined=kit.UNIX,
            endpoints=(where,),
        )
        self._registry.hold(kit.sign(member, kit.node(fake), device))

    def _come_or_go(self, network: Network) -> dict[str, Any]:
        others = tuple(member for member in network.members if member.node != self.node)
        is_in = len(others) < len(network.members)
        me = () if is_in else (NamedMember("n1", self.node, 1),)
        return {"members": (*me, *others), **({"access": ()} if is_in else {})}

    def _other_peers(self, network: Network) -> dict[str, Any]:
        me = tuple(member for member in network.members if member.node == self.node)
        some = self._chance.sample(FAKES, self._chance.randrange(len(FAKES) + 1))
        return {"members": (*me, *_fakes(some)), "policy": ()}

    def _other_rest(self, network: Network) -> dict[str, Any]:
        key = format_key(WireGuardKey(self._chance.randbytes(32)).public_key)
        laptop = AccessDevice("laptop", key, 200, self.node)
        rule = Rule(source=("*",), to=("*",), protocol="tcp", ports=("80",))
        is_in = any(member.node == self.node for member in network.members)
        return {
            "access": (laptop,) if is_in and not network.access else (),
            "policy": () if network.policy else (rule,),
        }


def _fakes(names: list[str] | tuple[str, ...]) -> tuple[NamedMember, ...]:
    return tuple(NamedMember(n, kit.node(n).id, FAKES.index(n) + 10) for n in sorted(names))


def _fields(network: Network) -> dict[str, Any]:
    return {name: getattr(network, name) for name in Network.__struct_fields__}


@pytest.mark.timeout(1800)
async def test_node_killed_at_any_moment_converges_and_leaves_nothing_over(lab):
    # ARC-006, NODE-007, NODE-011, NODE-012
    print(f"ZOS_TEST_SEED={SEED}")  # noqa: T201 - to run the same again
    chance = random.Random(SEED)
    running = await lab(scene.topology("n1"))
    node = running.node("n1")
    for workload in WORKLOADS:
        await node.add_namespace(workload)
    at = running.node("registry")
    with at.in_netns():
        sockets = serve.bind(tuple(map(str, at.addresses)), REGISTRY_PORT)
    async with hostile.running(kit.key(Kind.REGISTRY, "r"), sockets=sockets) as here:
        fleet = Fleet(running, registry=here.reference(str(at.addresses[0])))
        await fleet.start_node("n1", "--farm", kit.farm("basement").id)
        world = World(here.hostile, fleet.node_ids["n1"], chance)
        await _converged(node, world, "at first")
        took: list[float] = []
        kills = 0
        while kills < KILLS:
            await _attach_or_detach(node, world, chance)
            kills += await _kill_while_changing(fleet, node, world, chance)
            await _start(fleet)
            if chance.random() < 0.5:
                kills += await _kill_while_starting(fleet, world, chance)
                await _start(fleet)
            began = time.monotonic()
            await _converged(node, world, f"after {kills} kills, seed {SEED}")
            took.append(time.monotonic() - began)
        middle, longest = sorted(took)[len(took) // 2], max(took)
        measured(kills=kills, restarts_checked=len(took))
        measured(converged_p50_s=round(middle, 2), converged_max_s=round(longest, 2))
    await asyncio.get_running_loop().shutdown_default_executor()


async def _start(fleet: Fleet) -> None:
    await fleet.start_node("n1", "--farm", kit.farm("basement").id, wait=False)


async def _kill_while_changing(
    fleet: Fleet, node: LabNode, world: World, chance: random.Random
) -> int:
    for _ in range(chance.randrange(1, 4)):
        world.change()
    asking = asyncio.ensure_future(_attach_or_detach(node, world, chance))  # noqa: TID251 - awaited below
    await asyncio.sleep(chance.uniform(0, CHANGING_S))
    await fleet.stop_node("n1")
    with suppress(OSError):
        await asking
    return 1


async def _kill_while_starting(fleet: Fleet, world: World, chance: random.Random) -> int:
    world.change()
    await asyncio.sleep(chance.uniform(0, STARTING_S))
    await fleet.stop_node("n1")
    return 1


async def _attach_or_detach(node: LabNode, world: World, chance: random.Random) -> None:
    """Whatever comes of it: the node may not be in the network, or die before it answers."""
    workload, network = chance.choice(WORKLOADS), chance.choice(NETWORKS)
    body = {"network": str(world.id(network)), "name": workload}
    if chance.random() < 0.7:
        # A link of its own for each network: a workload may be in several.
        body |= {"netns": f"/run/netns/{workload}", "link": network}
        await scene.ask_socket(node, "POST", "/v1/attach", body)
    else:
        await scene.ask_socket(node, "POST", "/v1/detach", body)


async def _converged(node: LabNode, world: World, when: str) -> None:
    """Up, in the newest versions, with an empty plan; and nothing there that should not be."""

    async def is_up() -> bool:
        status = await scene.ask_socket(node, "GET", "/v1/status")
        found = {n["id"]: (n["version"], n["state"]) for n in status.get("networks", ())}
        return bool(status) and found == {id_: (v, "up") for id_, v in world.present.items()}

    try:
        await until(is_up, when, within_s=CONVERGED_WITHIN_S, every_s=0.05)
        await until(lambda: _has_nothing_to_do(node), f"empty plan {when}", every_s=0.05)
        await until(lambda: _is_clean(node, world), when, every_s=0.05)
    except AssertionError as exc:
        status = await scene.ask_socket(node, "GET", "/v1/status")
        states = [
            (n["id"], n["version"], n["state"], n["message"]) for n in status.get("networks", ())
        ]
        raise AssertionError(
            f"{exc}\nshould: {world.present}\nis: {states}\n{await _extra(node, world)}"
        ) from exc


async def _has_nothing_to_do(node: LabNode) -> bool:
    plan = await scene.ask_socket(node, "GET", "/v1/plan")
    return plan.get("changes") == []


async def _is_clean(node: LabNode, world: World) -> bool:
    return not await _extra(node, world)


async def _extra(node: LabNode, world: World) -> list[str]:
    """What is there, and belongs to no network that the node is in; what a network lacks."""
    expected = {netns_name(NetworkId(id_)) for id_ in world.present}
    births = {name.replace("n-", "w-", 1) for name in expected}
    with node.in_netns():
        links = {name for _, name in socket.if_nameindex()}
    processes = [argv.rpartition(" ")[2] for argv in scene.wireguard_processes(node).values()]
    listed = {
        "links": (links, {"lo", "eth0"}),
        "netns": (_names(node, "/run/netns"), expected | set(WORKLOADS)),
        "processes": (set(processes), births),
        "sockets": (_names(node, "/run/wireguard"), {f"{birth}.sock" for birth in births}),
        "names": (_names(node, "/run/zos-dns"), expected),
        "name servers": (set(servers := scene.name_servers(node)), expected),
        "keys": (_names(node, "/var/lib/zos/keys/devices"), {f"{name}.key" for name in expected}),
    }
    found = [f"{what}: {has ^ should}" for what, (has, should) in listed.items() if has != should]
    twice = [each for all_ in (processes, servers) for each in all_ if all_.count(each) > 1]
    return found + [f"a process twice: {each}" for each in twice]


def _names(node: LabNode, directory: str) -> set[str]:
    with suppress(FileNotFoundError):
        return {path.name for path in node.path(directory).iterdir()}
    return set()
