"""What the tests on several nodes share: a fleet on an underlay, tenants, workloads with names.

Everything that is promised to people is done by the shipped `zos`. Looking on is done from here,
because a process for every look would take longer than what is looked at.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import aiohttp

from netlab.fleet.fleet import Fleet, Person, until_says
from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.topology import Link, Node, Topology
from tests.lab import greeter

ROOT = Path(__file__).resolve().parents[2]
# Far more than anything here takes: it ends a hang and measures nothing.
PATIENCE_S = 60.0
LOOK_S = 0.01
TRY_S = 0.25  # for one connection, before another is tried
# To say that nobody answers. A path that works takes milliseconds.
SILENCE_S = 1.5
RANGE = "10.1.0.0/16"

UNDERLAYS = {"ipv4": Link(ipv6=False), "ipv6": Link(ipv4=False), "dual": Link()}

Answer = dict[str, Any]


def topology(*nodes: str, underlay: str = "dual") -> Topology:
    """A registry, somewhere to type, and nodes, all on the internet."""
    link = UNDERLAYS[underlay]
    return Topology(nodes=tuple(Node(name, (link,)) for name in ("registry", "desk", *nodes)))


def measured(**figures: object) -> None:
    """Figures for whoever runs the suite with -s or reads its report."""
    print(*(f"{name}={value}" for name, value in figures.items()))  # noqa: T201


async def until(
    look: Callable[[], Awaitable[Any]],
    what: str,
    *,
    within_s: float = PATIENCE_S,
    every_s: float = LOOK_S,
) -> Any:
    """What `look` finds, once it finds something. AssertionError naming `what` when time is up."""
    deadline = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(every_s)
    return found


@dataclass(frozen=True, slots=True)
class Workload:
    """Something of a tenant's that answers with its name; `netns` is "" on a machine of its own."""

    tenant: str
    at: str
    netns: str
    v4: str
    v6: str

    @property
    def name(self) -> str:
        return f"{self.tenant}/{self.at}/{self.netns}"

    @property
    def addresses(self) -> tuple[str, str]:
        return self.v4, self.v6


@dataclass(slots=True)
class Scene:
    """A fleet with an operator whose farm it is."""

    fleet: Fleet
    operator: Person
    farm: str
    tenants: dict[str, Person] = field(default_factory=dict)

    @classmethod
    async def open(cls, lab: Lab, *, registry_ref: str = "") -> Scene:
        """A registry (unless there is one) and a farm without nodes."""
        fleet = Fleet(lab, registry=registry_ref)
        if not registry_ref:
            await fleet.start_registry()
        operator, farm = await fleet.operator()
        return cls(fleet, operator, farm)

    @property
    def lab(self) -> Lab:
        return self.fleet.lab

    # Nodes.

    async def run(self, name: str, *, wait: bool = True) -> None:
        """`zos node run` of this farm, with its underlay addresses declared."""
        declared = (w for a in self.lab.node(name).addresses for w in ("--endpoint", str(a)))
        await self.fleet.start_node(name, "--farm", self.farm, *declared, wait=wait)

    async def enrol(self, *names: str) -> None:
        """They run, and the farm lists them."""
        await asyncio.gather(*map(self.run, names))
        for name in names:
            id_ = self.fleet.node_ids[name]
            await self.operator.zos("farm", "add-node", "basement", id_, "--as", name)

    async def read(self, name: str, path: str = "/v1/status") -> Answer:
        """What the node answers on its socket; empty while there is no node."""
        return await ask_socket(self.lab.node(name), "GET", path)

    async def network_of(self, name: str, network: str) -> Answer:
        """What a node says of one network; empty when it is not in it."""
        status = await self.read(name)
        return next((n for n in status.get("networks", ()) if n["name"] == network), {})

    async def wait_up(self, network: str, *names: str, within: str = "60s") -> None:
        await asyncio.gather(
            *(self.fleet.zos(n, "wait", network, "--timeout", within) for n in names)
        )

    # Tenants.

    async def create_network(self, tenant: str, network: str, *names: str) -> Person:
        """Signed, published, with these nodes in it, and they have joined."""
        if tenant not in self.tenants:
            self.tenants[tenant] = await self.fleet.tenant(tenant)
        person = self.tenants[tenant]
        registry = ("--registry", self.fleet.registry)
        await person.zos(
            "network", "create", network, "--range", RANGE, "--owner", tenant, *registry
        )
        for name in names:
            id_ = self.fleet.node_ids[name]
            await person.zos("network", "add-node", network, id_, "--as", name)
        await self.wait_up(network, *names)
        return person

    async def attach(self, tenant: str, network: str, at: str, *, netns: str = "") -> Workload:
        """A workload of the tenant on a node, which answers with its name."""
        netns = netns or f"{tenant}-{network}"
        node = self.lab.node(at)
        await node.add_namespace(netns)
        made = await self.fleet.zos(at, "attach", network, netns, "--netns", f"/run/netns/{netns}")
        workload = self.workload(tenant, at, netns, made["attachment"])
        await serve(node, workload)
        return workload

    def workload(self, tenant: str, at: str, netns: str, attachment: Answer) -> Workload:
        v4, v6 = (attachment[key].partition("/")[0] for key in ("address_v4", "address_v6"))
        return Workload(tenant, at, netns, v4, v6)

    # Who reaches whom.

    async def name_at(self, asker: Workload, address: str, *, within_s: float) -> str | None:
        """Who answers the asker at `address`; None when nobody does in time."""
        return await _name_at(self.lab.node(asker.at), asker.netns, address, within_s=within_s)

    async def is_silent(self, asker: Workload, address: str) -> bool:
        return await self.name_at(asker, address, within_s=SILENCE_S) is None

    async def until_reached(self, asker: Workload, target: Workload) -> None:
        """Both families, by identity."""
        for address in target.addresses:
            found = await self.name_at(asker, address, within_s=PATIENCE_S)
            assert found == target.name, f"{asker.name} at {address}: {found}"

    async def until_all_reach(self, workloads: Iterable[Workload]) -> int:
        """Every ordered pair, both families; how many that were."""
        pairs = list(permutations(workloads, 2))
        await asyncio.gather(*(self.until_reached(*pair) for pair in pairs))
        return 2 * len(pairs)

    async def reached_across(self, askers: list[Workload], others: list[Workload]) -> list[str]:
        """Where an asker got an answer from one of `others`, which must be nowhere."""
        names = {other.name for other in others}
        questions = [(a, t) for a in askers for o in others for t in o.addresses]
        found = await asyncio.gather(
            *(self.name_at(a, t, within_s=SILENCE_S) for a, t in questions)
        )
        return [
            f"{a.name} got {name} at {t}"
            for (a, t), name in zip(questions, found, strict=True)
            if name in names
        ]

    # What is on a node.

    async def shell(self, name: str, script: str, *, netns: str = "", check: bool = True) -> str:
        """A few commands on a node, in one of its netns when that is given."""
        enter = ("nsenter", f"--net=/run/netns/{netns}") if netns else ()
        done = await self.lab.node(name).run(*enter, "sh", "-c", script, check=check)
        return done.text

    async def dump(self, name: str, netns: str) -> str:
        """All that decides about packets in a tenant netns."""
        return await self.shell(name, _DUMP.format(netns.removeprefix("n-")), netns=netns)

    async def leftovers(self, name: str, netns: str) -> list[str]:
        """What is there of a network resource: nothing, when it is removed."""
        node, birth = self.lab.node(name), netns.replace("n-", "w-", 1)
        links = await self.shell(name, "ip -o link | cut -d: -f2")
        found = [f"link {birth}"] if birth in links.split() else []
        for path in (
            f"/run/netns/{netns}",
            f"/run/wireguard/{birth}.sock",
            f"/run/zos-dns/{netns}",
        ):
            found += [path] if node.path(path).exists() else []
        argvs = (argv for argv in wireguard_processes(node).values() if argv.endswith(birth))
        return [*found, *argvs]


# Numbers that the kernel gives out anew, and addresses that it makes up itself, are left out.
_DUMP = r"""
ip -o link | sed -e 's/^[0-9]*: //; s/@if[0-9]*//; s/link-netnsid [0-9]*//; s/qlen [0-9]*//' \
    -e '/^p-/s/ether [0-9a-f:]*//' | sort
ip -o addr | sed 's/^[0-9]*: //' | grep -v fe80: | sort
ip route show table all | sort; ip -6 route show table all | grep -v -e fe80: -e ff00: | sort
ip rule; ip -6 rule
nft -s list ruleset
wg showconf w-{0}
grep . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding
"""


def wireguard_processes(node: LabNode) -> dict[int, str]:
    """wireguard-go on a node: pid as we see it, and its command line."""
    own = node.netns_path.stat().st_ino
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().strip() != "wireguard-go":
                continue
            if (process / "ns/net").stat().st_ino == own:
                argv = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                found[int(process.name)] = b" ".join(argv).decode()
    return found


def name_servers(node: LabNode) -> list[str]:
    """Which tenant netns have a dnsmasq on a node: once for each process."""
    return sorted(name_server_processes(node).values())


def name_server_processes(node: LabNode) -> dict[int, str]:
    """dnsmasq on a node: pid as we see it, and which tenant netns it is for."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            argv = (process / "cmdline").read_bytes().decode().split("\0")
            for word in argv:
                if word.startswith("--pid-file=/run/zos-dns/") and _is_on(process, node):
                    found[int(process.name)] = word.split("/")[3]
    return found


def _is_on(process: Path, node: LabNode) -> bool:
    """Every node has a /run of its own."""
    return (process / "root/run").samefile(node.path("/run"))


def bound(address: str, port: int) -> socket.socket:
    """A TCP socket of the calling thread's netns."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    return sock


def faults(directory: Path) -> list[str]:
    """Exceptions that nobody expected, in the logs of labs below: none, whatever a test does."""
    return [
        f"{log.parent.name}: {fault[:4000]}"
        for log in sorted(directory.glob("**/*.log"))
        for fault in log.read_text().split("Traceback (most recent call last)")[1:]
    ]


async def serve(node: LabNode, workload: Workload) -> None:
    argv = (sys.executable, "-m", "tests.lab.greeter", workload.name)
    log = f"greeter-{workload.netns or 'machine'}"
    process = await node.spawn(*argv, log=log, netns=workload.netns, cwd=str(ROOT))
    await until_says(process, "ready")


async def ask_socket(node: LabNode, method: str, path: str, body: Answer | None = None) -> Answer:
    """One question to the socket of a node; empty while nobody listens."""
    connector = aiohttp.UnixConnector(str(node.path("/run/zos/node.sock")))
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://node{path}", json=body) as response,
        ):
            found: Answer = await response.json()
            return found
    except (aiohttp.ClientError, OSError):
        return {}


async def _name_at(node: LabNode, netns: str, address: str, *, within_s: float) -> str | None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if (name := await _try(node, netns, address)) is not None:
            return name
    return None


async def _try(node: LabNode, netns: str, address: str) -> str | None:
    """One connection. Many short tries: a lost first packet would cost TCP a whole second."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with node.in_netns(netns):
        sock = socket.socket(family, socket.SOCK_STREAM)
    began = time.monotonic()
    with sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(TRY_S):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, (address, greeter.PORT))
                return (await loop.sock_recv(sock, greeter.MAX_NAME_BYTES)).decode() or None
        except (OSError, TimeoutError):
            # An unreachable address refuses at once.
            await asyncio.sleep(max(0.0, LOOK_S - (time.monotonic() - began)))
            return None
