"""From a workload the internet is reached by way of the exit, and nothing that overlays need."""

from __future__ import annotations

import pytest

from tests.lab.open_exit import (
    GATEWAY,
    GLOBAL_4,
    UPLINK,
    ask,
    giving_addresses,
    offer,
    reached,
    rename_registry,
    topology,
    with_open_exit,
)

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]


@pytest.mark.parametrize("uplink", ["macvlan", "interface"])
async def test_what_overlays_stand_on_is_not_reached_by_way_of_the_exit(lab, uplink):
    # EXIT-020, EXIT-042, EXIT-043, EXIT-044, EXIT-045
    async with with_open_exit(await lab(topology())) as fleet:
        nodes = {name: fleet.lab.node(name) for name in (*GLOBAL_4, "e1")}
        await rename_registry(fleet, at="e1")
        alice = fleet.person("alice", at="registry")
        await alice.zos("network", "exit", "set", "home", "e1", "--registry", fleet.registry)
        await offer(fleet, uplink=uplink)
        node = {4: str(nodes["e1"].ipv4), 6: str(nodes["e1"].ipv6)}
        seen_as = node if uplink == "interface" else UPLINK
        for address in (GLOBAL_4["host"], str(nodes["host"].ipv6)):
            family = 6 if ":" in address else 4
            assert await reached(fleet, address) == ["host", seen_as[family]]
        guarded = [
            GLOBAL_4["registry"],
            *(str(nodes[name].ipv6) for name in ("registry", "r", "n1", "e1")),
            *(str(nodes[name].ipv4) for name in ("registry", "r", "n1", "e1")),
            GATEWAY[4],
            UPLINK[4],
            "169.254.169.254",
        ]
        answers = {address: await ask(fleet, address) for address in guarded}
        assert not any(answers.values()), answers
        # Whoever is there does answer: it is the guard that refuses, and an operator may allow it.
        allowed = {
            f"{GLOBAL_4['registry']}/32": "registry",
            f"{nodes['registry'].ipv6}/128": "registry",
            f"{nodes['r'].ipv6}/128": "r",
        }
        words = [word for prefix in allowed for word in ("--allow", prefix)]
        await offer(fleet, *words, uplink=uplink)
        for prefix, name in allowed.items():
            assert (await reached(fleet, prefix.partition("/")[0]))[0] == name


async def test_an_exit_leaves_with_what_its_network_gives_it(lab):
    # EXIT-047, EXIT-048
    built = await lab(topology())
    async with with_open_exit(built) as fleet:
        alice = fleet.person("alice", at="registry")
        await alice.zos("network", "exit", "set", "home", "e1", "--registry", fleet.registry)
        await offer(fleet, uplink="learnt")
        assert not await ask(fleet, GLOBAL_4["host"])
        with giving_addresses(built):
            for address in (GLOBAL_4["host"], str(built.node("host").ipv6)):
                who, source = await reached(fleet, address)
                assert who == "host"
                assert source.startswith(("192.0.2.1", "2001:db8:113:"))
