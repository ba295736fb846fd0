"""An IPv6 prefix that is routed to the uplink: members are seen as themselves (EXIT-049)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from overlay.addressing import address_of, host_address, subnet_v6, subprefix
from overlay.documents.exits import ROUTED_BITS
from overlay.exitnode.egress import select_prefixes
from overlay.exitnode.firewall import leg_counter
from overlay.model import Address, NetworkId, Prefix
from overlay.netns import namespaces
from tests.kernel.egress_world import HOST, OWN, UPLINK, WAN, World, client, opened, until
from tests.real_machine import RealMachine, run

ROUTED = msgspec.structs.replace(UPLINK, ipv6_prefix="2001:db8:7::/48")
MEMBER, FAR_MEMBER = 7, 256  # indexes


@pytest.fixture
async def world(machine: RealMachine) -> AsyncIterator[World]:
    """The operator's router sends the prefix to the exit; two workloads of each tenant are here."""
    async with opened(machine) as world:
        wan = namespaces.pin_path(WAN)
        route = f"ip -6 route add {ROUTED.ipv6_prefix} via {OWN[6]}"
        assert (await run(route, netns=wan)).code == 0
        for tenant in range(2):
            for index in (MEMBER, FAR_MEMBER):
                address = f"{workload(world, tenant, index)}/128"
                add = f"ip address add {address} dev lo nodad"
                assert (await run(add, netns=world.tenant(tenant))).code == 0
        yield world


def workload(world: World, tenant: int, index: int) -> Address:
    subnet = subnet_v6(world.legs[tenant].range_v6, index)
    return address_of(host_address(subnet, 2))


def moved(world: World, tenant: int) -> Address:
    """As whom the workload of the member is seen."""
    part = select_prefixes(ROUTED, [leg.network for leg in world.legs])[world.legs[tenant].network]
    return address_of(host_address(subprefix(part, MEMBER, bits=64), 2))


async def test_members_are_seen_as_themselves(world: World) -> None:
    await world.converge(uplink=ROUTED)
    assert await world.converge(uplink=ROUTED) == ()
    for tenant in (0, 1):
        mine, far = (workload(world, tenant, index) for index in (MEMBER, FAR_MEMBER))
        assert await world.reaches(HOST[6], tenant=tenant, source=mine) == moved(world, tenant)
        # There is no room for it in a /56; nor has the tenant netns itself an index.
        assert await world.reaches(HOST[6], tenant=tenant, source=far) == OWN[6]
        assert await world.reaches(HOST[6], tenant=tenant) == OWN[6]
        assert await world.reaches(HOST[4], tenant=tenant) == OWN[4]
    assert moved(world, 0) != moved(world, 1)


async def test_the_prefix_leads_to_no_tenant(world: World) -> None:  # EXIT-023, EXIT-024
    await world.converge(uplink=ROUTED)
    await world.is_refused(moved(world, 1), "refused_guard")
    before = world.counters()["refused_forward"]
    with client(namespaces.pin_path(WAN), moved(world, 0), 7777):
        await until(lambda: world.counters()["refused_forward"] > before)


async def test_a_member_speaks_for_its_own_network_only(world: World) -> None:  # EXIT-025
    await world.converge(uplink=ROUTED)
    others = workload(world, 1, MEMBER)
    add = f"ip address add {others}/128 dev lo nodad"
    assert (await run(add, netns=world.tenant(0))).code == 0
    name = leg_counter(world.legs[0], "source")
    before = world.counters()[name]
    with client(world.tenant(0), HOST[6], 7777, source=others):
        await until(lambda: world.counters()[name] > before)


async def test_a_prefix_comes_and_goes_live(world: World) -> None:  # EXIT-032
    mine = workload(world, 0, MEMBER)
    await world.converge()
    made = await world.converge(uplink=ROUTED)
    assert len(made) == 1  # another ruleset
    assert await world.reaches(HOST[6], source=mine) == moved(world, 0)
    assert len(await world.converge()) == 1
    assert await world.reaches(HOST[6]) == OWN[6]


def test_as_many_networks_have_a_part_as_there_are_parts() -> None:
    networks = [NetworkId(f"net1{n}") for n in range(300)]
    for text, count in (("2001:db8::/32", 300), ("2001:db8::/48", 256), ("2001:db8::/56", 1)):
        uplink = msgspec.structs.replace(UPLINK, ipv6_prefix=text)
        found = select_prefixes(uplink, reversed(networks))
        assert len(found) == len(set(found.values())) == count
        assert all(part.endswith(f"/{ROUTED_BITS}") for part in found.values())
        assert found == select_prefixes(uplink, networks)
    assert select_prefixes(UPLINK, networks) == {}
    assert found[min(networks)] == Prefix("2001:db8::/56")
