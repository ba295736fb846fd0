"""From a signed document to packets: nodes join by name or by token, tenants never meet, nothing
is left of what is removed."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from netlab.fleet.fleet import ZOS, Person
from netlab.lab_node import LabNode
from overlay.keys.identity import Identity, Kind
from overlay.keys.store import generate
from tests.lab import scene
from tests.lab.scene import Scene, Workload, measured, until
from zos_core.token import Token, parse_token

NODES = ("n1", "n2", "n3")
TENANTS = {"alice": "home", "bob": "office"}
REFUSED = 4  # CLI-011


@pytest.mark.timeout(600)
@pytest.mark.parametrize("underlay", scene.UNDERLAYS)
async def test_tenants_with_the_same_range_reach_their_own_and_nobody_else(lab, underlay):
    stage = await Scene.open(await lab(scene.topology(*NODES, underlay=underlay)))
    await stage.enrol(*NODES)
    everybody: dict[str, list[Workload]] = {}
    for tenant, network in TENANTS.items():
        await stage.create_network(tenant, network, *NODES)
        everybody[tenant] = [await stage.attach(tenant, network, node) for node in NODES]
    # The same addresses, so that only names tell tenants apart.
    assert [w.v4 for w in everybody["alice"]] == [w.v4 for w in everybody["bob"]]
    # And one address that only bob uses: alice must not reach it by her routes either.
    extra = await stage.attach("bob", "office", "n1", netns="bob-extra")
    began = time.monotonic()
    pairs = [await stage.until_all_reach(workloads) for workloads in everybody.values()]
    in_s = round(time.monotonic() - began, 2)
    measured(underlay=underlay, pairs_reached=sum(pairs), in_s=in_s)
    assert sum(pairs) == 24
    crossed = await stage.reached_across(everybody["alice"], [*everybody["bob"], extra])
    crossed += await stage.reached_across([*everybody["bob"], extra], everybody["alice"])
    measured(reached_across=len(crossed))
    assert crossed == []
    await _remove_node(stage, everybody)
    await _delete_network(stage, everybody)


async def _remove_node(stage: Scene, everybody: dict[str, list[Workload]]) -> None:
    netns = (await stage.network_of("n3", "home"))["netns"]
    await stage.tenants["alice"].zos("network", "remove-node", "home", "n3")
    await until(lambda: _is_out(stage, "n3", "home"), "n3 is out of home")
    assert await stage.leftovers("n3", netns) == []
    await until(lambda: _has_peers(stage, "home", {"n1": {"n2"}, "n2": {"n1"}}), "peers without n3")
    gone = everybody["alice"].pop()
    await stage.until_all_reach(everybody["alice"])
    assert all([await stage.is_silent(w, gone.v4) for w in everybody["alice"]])
    await stage.until_all_reach(everybody["bob"])


async def _delete_network(stage: Scene, everybody: dict[str, list[Workload]]) -> None:
    left = {n: (await stage.network_of(n, "home"))["netns"] for n in ("n1", "n2")}
    await stage.tenants["alice"].zos("network", "delete", "home", "--yes")
    for node, netns in left.items():
        await until(lambda node=node: _is_out(stage, node, "home"), f"{node} is out of home")
        assert await stage.leftovers(node, netns) == []
        # What is left is bob's: one process, one netns of ours.
        assert len(scene.wireguard_processes(stage.lab.node(node))) == 1
    await stage.until_all_reach(everybody["bob"])


async def _is_out(stage: Scene, node: str, network: str) -> bool:
    status = await stage.read(node)
    return bool(status) and network not in {n["name"] for n in status["networks"]}


async def _has_peers(stage: Scene, network: str, expected: dict[str, set[str]]) -> bool:
    found = {n: await stage.network_of(n, network) for n in expected}
    return {n: {p["name"] for p in said["peers"]} for n, said in found.items()} == expected


@pytest.mark.timeout(600)
async def test_token_lets_in_as_many_as_it_says_and_nobody_else(lab):
    guests = ("e1", "e2", "e3")
    stage = await Scene.open(await lab(scene.topology("n1", *guests)))
    await stage.enrol("n1")
    # Guests belong to no farm: whoever holds the token and the machine decides.
    await asyncio.gather(*map(stage.fleet.start_node, guests))
    alice = await stage.create_network("alice", "home", "n1")
    token = await _invite(alice, "home", "edge")

    # Three redeem one single-use token at once (a token must not be used twice by a race).
    answers = await asyncio.gather(*(_redeem(stage, guest, token) for guest in guests))
    winners = [g for g, (code, _) in zip(guests, answers, strict=True) if code == 0]
    assert len(winners) == 1, answers
    winner = winners[0]
    for guest, (code, said) in zip(guests, answers, strict=True):
        if guest != winner:
            assert code == REFUSED, said
            assert "all 1 uses" in said["error"]["message"]
    await stage.wait_up("home", winner)
    inside = [await stage.attach("alice", "home", at) for at in ("n1", winner)]
    await stage.until_all_reach(inside)

    # Joining twice is joining once: same place, no ghost, sessions go on.
    before = (await stage.network_of(winner, "home"))["index"]
    code, again = await _redeem(stage, winner, token)
    assert (code, again["already"], again["index"]) == (0, True, before)
    assert await _has_peers(stage, "home", {"n1": {winner}, winner: {"n1"}})
    await stage.until_all_reach(inside)

    outsider = next(guest for guest in guests if guest != winner)
    await _refused_tokens(stage, alice, outsider, token)
    assert await _has_peers(stage, "home", {"n1": {winner}, winner: {"n1"}})


async def _refused_tokens(stage: Scene, alice: Person, outsider: str, good: str) -> None:
    """Expired, foreign, of another registry, damaged: each says what is wrong."""
    made = await alice.zos("network", "invite", "home", "late", "--expires", "2s")
    parsed = parse_token(made["token"])
    begun = time.time()
    # Counted in whole seconds, which the invitation's last one is part of.
    await until(lambda: _later_than(begun + 4), "the invitation is over")
    foreign = _token(parsed, invitation=generate(Kind.INVITE))
    elsewhere = _token(
        parsed, registry=parsed.registry.partition("#")[0] + "#" + generate(Kind.REGISTRY).id
    )
    for what, token in {
        "expired": made["token"],
        "foreign": foreign,
        "of another registry": elsewhere,
        "damaged": good[:-8],
    }.items():
        code, said = await _redeem(stage, outsider, token)
        measured(token=what, exit=code, says=said["error"]["message"])
        assert code in (2, REFUSED), (what, said)
        assert said["error"]["message"]
        assert "home" not in {n["name"] for n in (await stage.read(outsider))["networks"]}


def _token(like: Token, *, registry: str = "", invitation: Identity | None = None) -> str:
    return Token(
        registry=registry or like.registry,
        network=like.network,
        invitation=invitation or like.invitation,
    ).encode()


async def _invite(person: Person, network: str, name: str) -> str:
    made = await person.zos("network", "invite", network, name, "--uses", "1")
    return str(made["token"])


async def _redeem(stage: Scene, guest: str, token: str) -> tuple[int, scene.Answer]:
    node: LabNode = stage.lab.node(guest)
    done = await node.run(ZOS, "join", "-", "--json", input=token.encode(), check=False)
    return done.returncode, json.loads(done.stdout)


async def _later_than(moment: float) -> bool:
    return time.time() > moment
