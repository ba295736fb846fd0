"""From a workload the internet is reached by way of the exit, and nothing that overlays need."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from overlay.documents.exits import Uplink
from overlay.exitnode.egress import select_prefixes
from overlay.model import NetworkId
from tests.lab.open_exit import (
    GATEWAY,
    GLOBAL_4,
    UPLINK,
    ask,
    giving_addresses,
    in_core,
    offer,
    port_of,
    reached,
    rename_registry,
    topology,
    with_open_exit,
)
from tests.lab.scene import until

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


async def test_a_workload_is_seen_as_itself_by_a_routed_prefix(lab):
    # EXIT-049
    built = await lab(topology())
    routed = "2001:db8:7::/48"
    in_core(built, f"ip -6 route add {routed} via {UPLINK[6]} dev {port_of(built, 'e1')} onlink")
    async with with_open_exit(built) as fleet:
        alice = fleet.person("alice", at="registry")
        await alice.zos("network", "exit", "set", "home", "e1", "--registry", fleet.registry)
        await offer(fleet)
        host = str(built.node("host").ipv6)
        assert await reached(fleet, host) == ["host", UPLINK[6]]
        await offer(fleet, "--ipv6-prefix", routed)
        web = fleet.inside["alice/home/web"]
        whole = fleet.network_ids["alice/home"]
        part = select_prefixes(Uplink("macvlan", "eth0", ipv6_prefix=routed), [NetworkId(whole)])[
            NetworkId(whole)
        ]
        rest = int(IPv6Address(web.v6)) & ((1 << 72) - 1)
        itself = str(IPv6Address(int(IPv6Network(part).network_address) | rest))

        async def seen_as_itself() -> bool:
            return await ask(fleet, host) == f"host {itself}"

        await until(seen_as_itself, f"the workload is seen as {itself}")
        assert await reached(fleet, GLOBAL_4["host"]) == ["host", UPLINK[4]]


async def test_a_local_offer_is_for_what_is_on_the_node_and_for_nobody_who_names_it(lab):
    # EXIT-066, EXIT-070
    async with with_open_exit(await lab(topology())) as fleet:
        alice = fleet.person("alice", at="registry")
        nodes = {name: fleet.lab.node(name) for name in (*GLOBAL_4, "e1")}
        hosts = {4: GLOBAL_4["host"], 6: str(nodes["host"].ipv6)}
        itself = {4: str(nodes["n1"].ipv4), 6: str(nodes["n1"].ipv6)}
        argv = ("network", "exit", "set", "home", "--registry", fleet.registry)
        # All members would leave by it: that is not what is offered.
        await alice.zos(*argv, "n1")
        await offer(fleet, "--local", uplink="interface", at="n1")
        assert not await ask(fleet, hosts[4])
        await alice.zos(*argv, "--local")
        for family, address in hosts.items():
            assert await reached(fleet, address) == ["host", itself[family]]
        for address in (str(nodes["r"].ipv6), str(nodes["e1"].ipv6), *itself.values()):
            assert not await ask(fleet, address), address
        shown = await alice.zos("network", "exit", "show", "home", "--registry", fleet.registry)
        assert (shown["local"], shown["exits"]) == (True, [])
        await alice.zos(*argv, "n1")

        async def is_silent() -> bool:
            return not await ask(fleet, hosts[4])

        await until(is_silent, "n1 lets nothing out")
