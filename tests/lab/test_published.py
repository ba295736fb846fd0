"""A workload is reached from the internet by a port of an exit, and by nobody else's."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest

from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet, Person
from netlab.fleet.greeter import GREETING_BYTES_MAX, PORT
from netlab.nat import NATS
from netlab.topology import Link, Node, Router, Tenant, TenantNetwork, Topology, Workload
from overlay import addressing
from tests.lab.leaving import SITE, egresses, exit_node, offer, provider, with_exits
from tests.lab.scene import SILENCE_S, measured, until
from zos_core.status import PublishedStatus, Status

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]

WEB, SHOP = "alice/home/web", "bob/shop/till"
TRY_S = 0.5
FAMILIES = (4, 6)


def topology() -> Topology:
    home = TenantNetwork("home", nodes=("e1", "n1"), workloads=(Workload("web", "n1"),))
    shop = TenantNetwork("shop", nodes=("e1",), workloads=(Workload("till", "e1"),))
    return Topology(
        nodes=(
            Node("registry", role="registry"),
            Node(SITE),
            exit_node("e1"),
            Node("n1", (Link("basement"),), role="node"),
        ),
        routers=(
            Router("basement", nat=NATS["port-restricted"], firewall="stateful"),
            provider("e1"),
        ),
        tenants=(Tenant("alice", (home,)), Tenant("bob", (shop,))),
    )


def by_family(addresses: Iterable[str]) -> dict[int, str]:
    return {6 if ":" in address else 4: address for address in addresses}


EXIT = by_family(egresses(topology())["e1"].seen_as)


async def test_who_has_a_port_keeps_it_and_nobody_else_gets_it(lab):
    # PUB-010, PUB-011, PUB-020, PUB-021, PUB-025
    async with with_exits(await lab(topology())) as fleet:
        client = by_family(map(str, fleet.lab.node(SITE).addresses))
        alice, bob = (fleet.person(name, at="registry") for name in ("alice", "bob"))
        await offer(fleet, "e1", publish="tcp/8000-8099")
        for person, net in ((alice, "home"), (bob, "shop")):
            await tenant(person, "exit", "set", net, "e1")
        web = {n: f"{WEB} {each}" for n, each in gateways(fleet, "alice/home").items()}
        began = time.monotonic()
        await tenant(alice, "service", "add", "home", "tcp/8080", f"web.n1:{PORT}")
        await until_served(fleet, 8080, web)
        measured(published_s=round(time.monotonic() - began, 2))
        at = await until_said(alice, "home", "tcp/8080", "open")
        assert at["endpoints"] == [f"{EXIT[4]}:8080", f"[{EXIT[6]}]:8080"]

        # The same port again, and one that is not offered.
        for port in ("tcp/8080", "tcp/9000"):
            await tenant(bob, "service", "add", "shop", port, f"till.e1:{PORT}")
        taken = await until_said(bob, "shop", "tcp/8080", "taken")
        assert "another network holds" in taken["reason"]
        refused = await until_said(bob, "shop", "tcp/9000", "not-offered")
        assert "does not offer" in refused["reason"]
        expected = {
            ("home", 8080, "web.n1:7007", "open"),
            ("shop", 8080, "till.e1:7007", "taken"),
            ("shop", 9000, "till.e1:7007", "not-offered"),
        }
        assert {outcome(each) for each in await status(fleet)} == expected
        for family in FAMILIES:
            assert await greeting(fleet, family, 8080) == web[family]
            assert await is_silent(fleet, family, 9000)

        # Who holds it is no matter of who is first after a start.
        await fleet.stop_node("e1")
        await fleet.start("e1")
        await until(lambda: has(fleet, expected), "the same holders", every_s=0.1)
        await until_served(fleet, 8080, web)

        # Taken back it is the other's, and then nobody's.
        await tenant(alice, "service", "remove", "home", "tcp/8080")
        await until_served(fleet, 8080, {n: f"{SHOP} {each}" for n, each in client.items()})
        await tenant(bob, "service", "remove", "shop", "tcp/8080")
        await until(
            lambda: has(fleet, {("shop", 9000, "till.e1:7007", "not-offered")}), "no holder"
        )
        for family in FAMILIES:
            # Who holds what is known before the exit has acted on it.
            await until(partial(is_silent, fleet, family, 8080), f"silence by IPv{family}")


async def tenant(person: Person, *argv: str) -> dict[str, Any]:
    """`zos network` of a tenant."""
    return await person.zos("network", *argv, "--registry", person.fleet.registry)


def outcome(each: PublishedStatus) -> tuple[str, int, str, str]:
    return each.name, each.port, each.to, each.state


async def status(fleet: Fleet) -> tuple[PublishedStatus, ...]:
    found = await node_socket.ask(fleet.lab.node("e1"), "/v1/status", Status)
    return found.exit.published if found.exit is not None else ()


async def has(fleet: Fleet, expected: set[tuple[str, int, str, str]]) -> bool:
    return {outcome(each) for each in await status(fleet)} == expected


async def until_said(person: Person, net: str, port: str, state: str) -> dict[str, Any]:
    """What the tenant is told of a port, once it is this."""

    async def look() -> dict[str, Any] | None:
        shown = await tenant(person, "service", "list", net)
        rows = (row for row in shown["published"] if f"{row['protocol']}/{row['port']}" == port)
        return next((row for row in rows if row["state"] == state), None)

    found: dict[str, Any] = await until(look, f"{port} of {net} is {state}", every_s=0.2)
    return found


def gateways(fleet: Fleet, network: str) -> dict[int, str]:
    """As whom e1, the first member, asks workloads on other nodes."""
    v6 = addressing.subnet_v6(addressing.ula_range(fleet.network_ids[network]), 1)
    return {4: "10.1.1.1", 6: addressing.address_of(addressing.host_address(v6, 1))}


async def until_served(fleet: Fleet, port: int, greetings: dict[int, str]) -> None:
    """Who asks gets this answer, by family."""
    for family, expected in greetings.items():

        async def served(family: int = family, expected: str = expected) -> bool:
            return await greeting(fleet, family, port) == expected

        await until(served, f"{expected} by IPv{family} at {port}")


async def is_silent(fleet: Fleet, family: int, port: int) -> bool:
    deadline = time.monotonic() + SILENCE_S
    while time.monotonic() < deadline:
        if await greeting(fleet, family, port) is not None:
            return False
    return True


async def greeting(fleet: Fleet, family: int, port: int) -> str | None:
    """Who answers somebody in the internet at the exit's public address, and whom they see."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with fleet.lab.node(SITE).in_netns():
        sock = socket.socket(kind, socket.SOCK_STREAM)
    loop = asyncio.get_running_loop()
    with sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(TRY_S):
                await loop.sock_connect(sock, (EXIT[family], port))
                return (await loop.sock_recv(sock, GREETING_BYTES_MAX)).decode().strip() or None
        except (OSError, TimeoutError):
            return None
