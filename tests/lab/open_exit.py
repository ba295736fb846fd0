"""An exit on the lab's own internet, where registry, relay, members and strangers are as well.

The lab gives IPv4 addresses of a special place (RFC 2544), which an exit refuses anyhow; here the
machines have others beside.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from netlab.fleet.fleet import Fleet
from netlab.fleet.greeter import GREETING_BYTES_MAX, PORT
from netlab.fleet.opening import bring_up
from netlab.lab import Lab
from netlab.topology import Node, Tenant, TenantNetwork, Topology, Workload
from tests.lab.scene import until
from tests.lan_servers import giving

CORE, REGISTRY_NAME = "internet", "registry.test"
GLOBAL_4 = {
    "registry": "198.51.100.21",
    "r": "198.51.100.22",
    "n1": "198.51.100.23",
    "host": "198.51.100.24",
}
UPLINK = {4: "192.0.2.2", 6: "2001:db8:113::2"}
GATEWAY = {4: "192.0.2.1", 6: "fe80::1"}
TRY_S = 0.2


def topology() -> Topology:
    home = TenantNetwork(
        "home", nodes=("n1", "e1"), relays=("r",), workloads=(Workload("web", "n1"),)
    )
    nodes = (Node("n1", role="node"), Node("e1", role="node"), Node("r", role="node", relay=True))
    return Topology(
        nodes=(Node("registry", role="registry"), Node("host"), *nodes),
        tenants=(Tenant("alice", (home,)),),
    )


@asynccontextmanager
async def with_open_exit(lab: Lab) -> AsyncIterator[Fleet]:
    """Everything runs, everybody answers; the exit's cable carries addresses that it may use."""
    for name, address in GLOBAL_4.items():
        at = lab.node(name)
        await at.run("ip", "addr", "add", f"{address}/32", "dev", "lo")
        in_core(lab, f"ip route add {address} via {at.ipv4} dev {port_of(lab, name)} onlink")
    port = port_of(lab, "e1")
    in_core(lab, f"ip addr add {GATEWAY[4]}/24 dev {port}")
    in_core(lab, f"ip -6 route add {UPLINK[6]}/64 dev {port}".replace("::2/64", "::/64"))
    async with bring_up(lab, progress=lambda *_: None, tell=lambda *_: None) as fleet:
        # As systemd has it.
        ping = "net.ipv4.ping_group_range=0 2147483647"
        for name in ("e1", "n1"):
            await lab.node(name).run("sysctl", "-qw", ping)
        # What the node itself would learn there is not the exit's.
        await lab.node("e1").run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=0")
        for name in GLOBAL_4:
            await fleet.greeter.listen(lab.node(name), name)
        yield fleet


def in_core(lab: Lab, command: str) -> str:
    """What a command printed in the netns that is the internet."""
    with lab.in_netns(CORE):
        done = subprocess.run(command.split(), check=True, capture_output=True, text=True)
    return done.stdout


def port_of(lab: Lab, name: str) -> str:
    """The internet's end of the node's cable."""
    words = in_core(lab, f"ip route get {lab.node(name).ipv4}").split()
    return words[words.index("dev") + 1]


async def rename_registry(fleet: Fleet, *, at: str) -> None:
    """The node is started anew, and knows the registry by a name that leads to both families."""
    node, address = fleet.lab.node(at), str(fleet.lab.node("registry").ipv4)
    hosts = node.path("/etc/hosts")
    more = (GLOBAL_4["registry"], str(fleet.lab.node("registry").ipv6))
    hosts.write_text(hosts.read_text() + "".join(f"{a} {REGISTRY_NAME}\n" for a in more))
    await fleet.stop_node(at)
    before = fleet.registry
    fleet.registry = before.replace(address, REGISTRY_NAME)
    await fleet.start(at)
    fleet.registry = before


@contextmanager
def giving_addresses(lab: Lab) -> Iterator[None]:
    """The exit's cable leads to somebody who gives out addresses."""
    port = port_of(lab, "e1")
    in_core(lab, f"ip addr add 2001:db8:113::1/64 dev {port} nodad")
    first, last = (f"192.0.2.{n}" for n in (130, 140))
    with giving(lab.in_netns(CORE), port, first=first, last=last, router=GATEWAY[4]):
        yield


async def offer(fleet: Fleet, *more: str, uplink: str = "macvlan", at: str = "e1") -> None:
    operator, host = fleet.person("operator", at="registry"), fleet.lab.node("host")
    addresses = (f"{UPLINK[4]}/24", f"{UPLINK[6]}/64")
    kind = "macvlan" if uplink == "learnt" else uplink
    words = ["--uplink", f"{kind}:eth0", "--beacon", GLOBAL_4["host"]]
    words += ["--beacon", str(host.ipv6), *more]
    if uplink == "learnt":
        words += ["--ipv4", "dhcp", "--ipv6", "slaac"]
    if uplink == "macvlan":
        for option, values in (("--address", addresses), ("--gateway", GATEWAY.values())):
            words += [word for value in values for word in (option, value)]
    await operator.zos("exit", "offer", "farm", at, *words)


async def reached(fleet: Fleet, address: str) -> list[str]:
    """Who answers the workload at this address, once somebody does, and as whom it is seen."""

    async def look() -> str:
        return await ask(fleet, address)

    return str(await until(look, f"an answer from {address}")).split()


async def ask(fleet: Fleet, address: str) -> str:
    """The greeting of whoever answers, once the workload connects; "" when nobody does."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    web = fleet.inside["alice/home/web"]
    with fleet.lab.node("n1").in_netns(web.netns):
        tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    loop = asyncio.get_running_loop()
    with tcp, suppress(TimeoutError, OSError):
        async with asyncio.timeout(TRY_S):
            await loop.sock_connect(tcp, (address, PORT))
            return (await loop.sock_recv(tcp, GREETING_BYTES_MAX)).decode().strip()
    return ""
