"""A registry that lies changes nothing in any kernel, and what it tried is shown."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import msgspec
import pytest

from netlab.fleet.fleet import REGISTRY_PORT, REGISTRY_STATE, Person
from netlab.lab import Lab
from overlay.documents import envelope as dsse
from overlay.documents import schema
from overlay.documents.schema import Document, EndpointCandidate, Member, NamedMember, Network
from overlay.keys import store
from overlay.keys.identity import Identity, Kind
from overlay.model import CandidateKind
from overlay.registry import serve
from tests.lab import scene
from tests.lab.scene import Scene, Workload, measured, until
from tests.overlay.registry import hostile, kit
from tests.overlay.registry.hostile import Hostile

NODES = ("n1", "n2")
# More than the longest wait between two tries (NODE-025), and after a refusal.
RECOVERED_WITHIN_S = 180


@dataclass(frozen=True, slots=True)
class Plot:
    """A network that runs over a registry of ours, and what its documents say."""

    stage: Scene
    liar: Hostile
    alice: Person
    workloads: list[Workload]
    network: str  # id
    netns: str

    @property
    def network_key(self) -> str:
        return f"network/{self.network}"

    def member_key(self, node: str) -> str:
        return f"member/{self.network}/{self.stage.fleet.node_ids[node]}"

    def envelope(self, key: str) -> bytes:
        return self.liar._versions[key][-1]

    def document(self, key: str) -> Document:
        envelope = dsse.parse_envelope(self.envelope(key))
        return schema.parse_document(envelope.payload, envelope.payload_type)

    def network_document(self, **changes: object) -> Network:
        document = self.document(self.network_key)
        assert isinstance(document, Network)
        return msgspec.structs.replace(document, **changes)

    def member_document(self, of: str, /, **changes: object) -> Member:
        document = self.document(self.member_key(of))
        assert isinstance(document, Member)
        return msgspec.structs.replace(document, **changes)

    def alices_key(self) -> Identity:
        """A lie needs no key; a fork needs the tenant's own."""
        path = self.alice.at.path(f"{self.alice.home}/keys/tenant-alice.key")
        return store.load(path, Kind.TENANT)


def _in_disguise(plot: Plot, key: str, document: Document) -> str:
    """Another document under the signatures of the real one."""
    forged = json.loads(plot.envelope(key))
    forged["payload"] = base64.b64encode(schema.encode(document)).decode()
    plot.liar.hold_json(forged, key=key)
    return key


def _stranger(plot: Plot) -> str:
    """Somebody who is not in the network says that they are, with signatures that hold."""
    node, device = kit.node("stranger"), kit.device("stranger")
    member = plot.member_document("n2", node=node.id, device=device.id, index=77, name="stranger")
    return plot.liar.hold(kit.sign(member, node, device))


def _victims_index(plot: Plot) -> str:
    """The same stranger takes the place of n2."""
    node, device = kit.node("thief"), kit.device("thief")
    here = (EndpointCandidate(CandidateKind.DECLARED, "198.18.1.1:51820"),)
    member = plot.member_document("n2", node=node.id, device=device.id, endpoints=here)
    return plot.liar.hold(kit.sign(member, node, device))


def _forged_member(plot: Plot) -> str:
    """A stranger signs in the name of n2."""
    member = plot.member_document("n2", version=99, device=kit.device("thief").id)
    signed = kit.sign(member, kit.node("thief"), kit.device("thief"))
    return plot.liar.hold(signed, key=plot.member_key("n2"))


def _swapped_key(plot: Plot) -> str:
    """n2's signatures over another WireGuard key."""
    member = plot.member_document("n2", version=99, device=kit.device("thief").id)
    return _in_disguise(plot, plot.member_key("n2"), member)


def _forged_network(plot: Plot) -> str:
    """The tenant's signature over one more member."""
    network = plot.network_document(version=99)
    more = NamedMember("stranger", kit.node("stranger").id, 77)
    network = msgspec.structs.replace(network, members=(*network.members, more))
    return _in_disguise(plot, plot.network_key, network)


def _tombstone_of_another(plot: Plot) -> str:
    """Another tenant deletes the network."""
    network = plot.network_document(version=99, deleted=True)
    return plot.liar.hold(kit.sign(network, kit.tenant("mallory")), key=plot.network_key)


def _older_network(plot: Plot) -> str:
    """The first version, in which nobody was a member, as the newest."""
    plot.liar.replay(plot.network_key, 0)
    return plot.network_key


def _fork(plot: Plot) -> str:
    """The tenant's own key signs this version a second time, with other content."""
    network = plot.network_document(members=())
    return plot.liar.hold(kit.sign(network, plot.alices_key()))


def _misfiled(plot: Plot) -> str:
    """One node's document under the name of another."""
    key = plot.member_key("n2")
    return plot.liar.hold(plot.envelope(plot.member_key("n1")), key=key)


# What is tried, and a word of why it is refused.
LIES: dict[Callable[[Plot], str], str] = {
    _stranger: "is not in home",
    _victims_index: "is not in home",
    _forged_member: "signature",
    _swapped_key: "signature",
    _forged_network: "signature",
    _tombstone_of_another: "may not sign",
    _older_network: "is older than",
    _fork: "fork",
    _misfiled: "the document is member/",
}


def _again_and_in_disorder(plot: Plot) -> None:
    keys = [plot.network_key, *map(plot.member_key, NODES)]
    for key in keys:
        plot.liar.repeat(key, times=20)
    plot.liar.reorder(keys)


def _nothing_left(plot: Plot) -> None:
    """ "This is all there is": nothing; and the documents are dropped without a word."""
    plot.liar.snapshot(keys=[])


def _half_a_snapshot(plot: Plot) -> None:
    plot.liar.snapshot(keys=[plot.network_key], count=5)
    plot.liar.bookmark()


def _malformed(plot: Plot) -> None:
    plot.liar.malformed()


def _oversized(plot: Plot) -> None:
    plot.liar.oversized()


def _noise(plot: Plot) -> None:
    plot.liar.noise(size=1 << 20)


NOISES = (_again_and_in_disorder, _nothing_left, _half_a_snapshot, _malformed, _oversized, _noise)


@pytest.mark.timeout(900)
async def test_registry_that_lies_changes_no_kernel_and_is_named(lab):
    # NODE-002, NODE-004, NODE-006, NODE-011, DOC-004
    running = await lab(scene.topology(*NODES))
    async with _plot(running) as plot:
        before = await _kernels(plot)
        for lie, word in LIES.items():
            honest = {key: versions[-1] for key, versions in plot.liar._versions.items()}
            key = lie(plot)
            for node in NODES:
                look = partial(_refusal, plot, node, key, word)
                refused = await until(look, f"{word!r} on {node}")
            await _unchanged(plot, before)
            measured(lie=lie.__name__.strip("_"), refused=refused)
            if key in honest:  # and the truth again, as the newest
                plot.liar.hold(honest[key], key=key)
        await _named_by_the_command(plot)
        for noise in NOISES:
            noise(plot)
            await _heard(plot)
            await _unchanged(plot, before)
            measured(noise=noise.__name__.strip("_"), kernel_changes=0)
    await _recover(plot, before)
    # The thread that made its certificate.
    await asyncio.get_running_loop().shutdown_default_executor()


@asynccontextmanager
async def _plot(lab: Lab) -> AsyncIterator[Plot]:
    """Everything is set up by way of the liar, who does not lie yet."""
    node = lab.node("registry")
    key_file = node.path(f"{REGISTRY_STATE}/registry.key")
    identity = store.load_or_create(key_file, Kind.REGISTRY)
    with node.in_netns():
        sockets = serve.bind(tuple(map(str, node.addresses)), REGISTRY_PORT)
    async with hostile.running(identity, sockets=sockets) as here:
        stage = await Scene.open(lab, registry_ref=here.reference(str(node.addresses[0])))
        await stage.enrol(*NODES)
        alice = await stage.create_network("alice", "home", *NODES)
        workloads = [await stage.attach("alice", "home", node) for node in NODES]
        await stage.until_all_reach(workloads)
        said = await stage.network_of("n1", "home")
        yield Plot(stage, here.hostile, alice, workloads, said["id"], said["netns"])


async def _kernels(plot: Plot) -> list[str]:
    return [await plot.stage.dump(node, plot.netns) for node in NODES]


async def _unchanged(plot: Plot, before: list[str]) -> None:
    assert await _kernels(plot) == before
    for node in NODES:
        assert (await plot.stage.read(node))["repairs"] == []
        assert (await plot.stage.read(node, "/v1/plan"))["changes"] == []
    await plot.stage.until_all_reach(plot.workloads)


def _all_refusals(status: scene.Answer) -> dict[str, str]:
    lists = [status["refusals"], *(network["refusals"] for network in status["networks"])]
    return {refusal["key"]: refusal["reason"] for found in lists for refusal in found}


async def _refusal(plot: Plot, node: str, key: str, word: str) -> str:
    """What the node says of the lie; empty while it does not say that."""
    reason = _all_refusals(await plot.stage.read(node)).get(key, "")
    return reason if word in reason else ""


async def _named_by_the_command(plot: Plot) -> None:
    key = _stranger(plot)
    refused = _all_refusals(await plot.stage.fleet.status("n1"))
    assert "is not in home" in refused[key]


async def _heard(plot: Plot) -> None:
    """Both nodes are on the line (again) and have taken everything that was sent."""
    began = time.monotonic()
    plot.liar.revision += 1

    async def caught_up() -> bool:
        if plot.liar.listeners >= len(NODES):
            plot.liar.bookmark()
        said = [(await plot.stage.read(node))["registry"] for node in NODES]
        return all((r["state"], r["revision"]) == ("connected", plot.liar.revision) for r in said)

    await until(caught_up, "nodes are back", within_s=120)
    measured(back_after_s=round(time.monotonic() - began, 2))


async def _recover(plot: Plot, before: list[str]) -> None:
    """An honest registry with the same key, and nothing stored: people publish, nodes follow."""
    reference = plot.stage.fleet.registry
    assert await plot.stage.fleet.start_registry() == reference
    await plot.stage.operator.zos("farm", "publish", "basement")
    await plot.alice.zos("network", "publish", "home")
    version = (await plot.alice.zos("network", "invite", "home", "guest"))["version"]

    async def recovered() -> bool:
        said = [await plot.stage.network_of(node, "home") for node in NODES]
        return all(
            (n["version"], n["state"], n["member_accepted"]) == (version, "up", True) for n in said
        )

    await until(recovered, "both act on the new version", within_s=RECOVERED_WITHIN_S)
    assert await _kernels(plot) == before
    await plot.stage.until_all_reach(plot.workloads)
