"""Two tenants with the same addresses, five nodes, a laptop, exits: who reaches whom, and how.

Every step is a command a person would type, run by the shipped `zos` on a machine of a lab. Ends
with a table, build/demo.json and a picture beside it; exit code 0 when every expected pair is
reached and no other, hidden nodes meet, and the internet is reached by one exit, then by the next.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

from demo import internet, picture
from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet, Person, until_granted, until_says
from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.nat import NATS
from netlab.pictures.live import Live, Tunnel
from netlab.pictures.svg import draw_svg
from netlab.topology import Link, Node, Router, Topology
from overlay.errors import OverlayError
from zos_core.status import Status

OUT, PICTURE = Path("build/demo.json"), Path("build/demo.svg")
ROOT = Path(__file__).resolve().parent.parent
EXIT_PATIENCE_S = 20.0
RANGE = "10.1.0.0/16"  # both tenants, on purpose
NAMED = ("n1", "n2", "n3")
INVITED = "n4"
HIDDEN = "n5"  # behind a NAT that cannot be opened, and without IPv6
RELAY = "n1"
EXITS = ("n2", "n3")
LAPTOP = "laptop"
TENANTS = {"alice": "home", "bob": "office"}  # and what each calls their network

TOPOLOGY = Topology(
    name="demo",
    nodes=(
        Node("registry"),
        Node("desk"),  # where the operator and the tenants type
        *(Node(name) for name in NAMED),
        Node(INVITED, links=(Link(to="flat"),)),
        Node(HIDDEN, links=(Link(to="hotel", ipv6=False),)),
        Node(LAPTOP, links=(Link(to="cafe"),)),
    ),
    routers=(
        Router("flat", nat=NATS["port-restricted"], firewall="stateful"),
        Router("hotel", nat=NATS["symmetric"], firewall="stateful"),
        Router("cafe", nat=NATS["port-restricted"], firewall="stateful"),
    ),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """Something of a tenant's that answers with its name."""

    tenant: str
    at: str
    netns: str  # "" on the laptop, which is a workload itself
    v4: str
    v6: str

    @property
    def name(self) -> str:
        return f"{self.tenant}/{self.at}"


@dataclass(slots=True)
class Demo:
    """What was built and measured."""

    fleet: Fleet
    farm: str = ""
    workloads: list[Workload] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    reachability: list[dict[str, object]] = field(default_factory=list)
    isolation: list[dict[str, object]] = field(default_factory=list)
    paths: list[dict[str, str]] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)  # by which the internet answered, in turn

    @contextmanager
    def step(self, key: str, words: str) -> Iterator[None]:
        print(f"\n{words}", flush=True)
        began = time.monotonic()
        yield
        self.timings_ms[key] = round((time.monotonic() - began) * 1000, 1)

    @property
    def holds(self) -> bool:
        return (
            bool(self.reachability and self.isolation)
            and all(pair["ok"] for pair in self.reachability)
            and not any(pair["reached"] for pair in self.isolation)
            and all(path["path"] != "none" for path in self.paths)
            and {p["path"] for p in self.paths if HIDDEN in (p["from"], p["to"])}
            == {"direct", "via relay r1"}
            and self.exits == list(EXITS)
        )


async def play(workdir: Path) -> Demo:
    """The whole story, in one lab."""
    began = time.monotonic()
    async with Lab.create(TOPOLOGY, workdir=workdir) as lab:
        demo = Demo(Fleet(lab, on_command=_narrate))
        demo.timings_ms["lab"] = round((time.monotonic() - began) * 1000, 1)
        await _start(demo)
        tenants = await _sign_networks(demo)
        await _join_by_token(demo, tenants)
        await _meet_at_a_relay(demo, tenants["alice"])
        await _attach_workloads(demo)
        await _connect_laptop(demo, tenants["alice"])
        with demo.step("questions", "Everybody asks everybody"):
            await _ask_everybody(demo)
            await _look_at_paths(demo)
        await _leave(demo, tenants["alice"])
        return demo


async def _start(demo: Demo) -> None:
    fleet, farm = demo.fleet, "basement"
    with demo.step("registry", "A registry, which stores and forwards and is trusted with nothing"):
        await fleet.start_registry()
    with demo.step("nodes", "An operator with a farm, and nodes that are started for it"):
        operator, farm_id = await fleet.operator(farm=farm)
        demo.farm = farm_id
        await asyncio.gather(
            *(fleet.start_node(name, "--farm", farm_id, *_declared(fleet, name)) for name in NAMED)
        )
        await fleet.start_node(INVITED)
    with demo.step("enrolment", "The operator enrols the nodes"):
        for name in NAMED:
            await operator.zos("farm", "add-node", farm, fleet.node_ids[name], "--as", name)


async def _sign_networks(demo: Demo) -> dict[str, Person]:
    fleet = demo.fleet
    tenants: dict[str, Person] = {}
    with demo.step("networks", f"Two tenants sign networks, both with {RANGE}"):
        for name, network in TENANTS.items():
            tenant = tenants[name] = await fleet.tenant(name)
            await tenant.zos(
                "network", "create", network, "--range", RANGE, "--owner", name,
                "--registry", fleet.registry,
            )  # fmt: skip
            for node in NAMED:
                await tenant.zos("network", "add-node", network, fleet.node_ids[node], "--as", node)
    with demo.step("joined", "The nodes join by themselves"):
        for node, network in product(NAMED, TENANTS.values()):
            await fleet.zos(node, "wait", network, "--timeout", "30s")
    return tenants


async def _join_by_token(demo: Demo, tenants: dict[str, Person]) -> None:
    with demo.step("token", "A fourth node, behind a home router, joins with invitation tokens"):
        for name, network in TENANTS.items():
            made = await tenants[name].zos("network", "invite", network, "edge", "--uses", "1")
            await demo.fleet.zos(INVITED, "join", "-", input=made["token"].encode())
            await demo.fleet.zos(INVITED, "wait", network, "--timeout", "30s")


async def _meet_at_a_relay(demo: Demo, alice: Person) -> None:
    fleet, network = demo.fleet, TENANTS["alice"]
    with demo.step("relay", "A node behind a hotel's NAT, and a relay that cannot read"):
        operator = fleet.person("operator", at="desk")
        await fleet.start_node(HIDDEN, "--farm", demo.farm)
        await operator.zos("farm", "add-node", "basement", fleet.node_ids[HIDDEN], "--as", HIDDEN)
        await alice.zos("network", "add-node", network, fleet.node_ids[HIDDEN], "--as", HIDDEN)
        at = fleet.lab.node(RELAY)
        endpoints = [word for a in (at.ipv4, at.ipv6) for word in ("--endpoint", str(a))]
        await operator.zos("relay", "offer", "basement", RELAY, *endpoints)
        argv = ("network", "relay", "add", network, fleet.node_ids[RELAY], "--as", "r1")
        await until_granted(lambda: alice.zos(*argv))
        await fleet.zos(HIDDEN, "wait", network, "--timeout", "30s")


async def _look_at_paths(demo: Demo) -> None:
    """How each node says that it reaches each other one in alice's network."""
    ids = {id_: name for name, id_ in demo.fleet.node_ids.items()}
    for name in sorted(demo.fleet.node_ids):
        said = await node_socket.ask(demo.fleet.lab.node(name), "/v1/status", Status)
        for network in said.networks:
            for peer in network.peers if network.name == TENANTS["alice"] else ():
                if peer.node is not None:
                    path = {"tenant": "alice", "from": name, "to": ids[peer.node], "path": peer.way}
                    demo.paths.append(path)


async def _leave(demo: Demo, alice: Person) -> None:
    fleet = demo.fleet
    with demo.step("exit", "Two exits are offered and chosen: the internet answers"):
        operator = fleet.person("operator", at="desk")
        for n, name in enumerate(EXITS, start=11):
            at = fleet.lab.node(name)
            await internet.build(at)
            argv = (sys.executable, "-m", "demo.greeter", "serve", f"internet/{name}")
            await until_says(
                await at.spawn(*argv, log="internet", netns=internet.WAN, cwd=str(ROOT)), "ready"
            )
            await operator.zos("exit", "offer", "basement", name, *internet.offer_words(n))
        await alice.zos("network", "exit", "set", TENANTS["alice"], *EXITS)
        await _until_outside(demo, EXITS[0])
    with demo.step("failover", f"The uplink of {EXITS[0]} is unplugged: the next exit takes over"):
        await internet.unplug(fleet.lab.node(EXITS[0]))
        await _until_outside(demo, EXITS[1])


async def _until_outside(demo: Demo, exit_: str) -> None:
    """A workload of alice's reaches the internet of this exit in both families, or time is up."""
    asker = next(each for each in demo.workloads if each.name == f"alice/{INVITED}")
    deadline = time.monotonic() + EXIT_PATIENCE_S
    while time.monotonic() < deadline:
        answers = await _ask(demo, asker, [internet.HOST_V4, internet.HOST_V6])
        if {name for name, _ in answers} == {f"internet/{exit_}"}:
            demo.exits.append(exit_)
            return


async def _attach_workloads(demo: Demo) -> None:
    with demo.step("workloads", "Workloads are attached to each tenant's network"):
        for (tenant, network), node in product(TENANTS.items(), (*NAMED, INVITED)):
            await _attach(demo, tenant, network, node, "web")
        await _attach(demo, "alice", TENANTS["alice"], HIDDEN, "web")
        # An address that only bob uses: alice must not reach it by her routes either.
        await _attach(demo, "bob", TENANTS["bob"], "n1", "extra")


async def _attach(demo: Demo, tenant: str, network: str, node: str, name: str) -> None:
    at, netns = demo.fleet.lab.node(node), f"{tenant}-{name}"
    await at.add_namespace(netns)
    made = await demo.fleet.zos(node, "attach", network, name, "--netns", f"/run/netns/{netns}")
    attachment = made["attachment"]
    workload = Workload(
        tenant,
        node if name == "web" else f"{node}-{name}",
        netns,
        _host(attachment["address_v4"]),
        _host(attachment["address_v6"]),
    )
    await _greet(at, workload)
    demo.workloads.append(workload)


async def _greet(at: LabNode, workload: Workload) -> None:
    argv = (sys.executable, "-m", "demo.greeter", "serve", workload.name)
    log = f"greeter-{workload.netns}" if workload.netns else "greeter"
    process = await at.spawn(*argv, log=log, netns=workload.netns, cwd=str(ROOT))
    await until_says(process, "ready")


async def _connect_laptop(demo: Demo, alice: Person) -> None:
    fleet, laptop = demo.fleet, demo.fleet.lab.node(LAPTOP)
    with demo.step("laptop", "A laptop joins with a plain wg-quick file"):
        path = f"{alice.home}/laptop.conf"
        made = await alice.zos(
            "network", "access", TENANTS["alice"], LAPTOP, "--via", "n1", "-o", path
        )
        conf = alice.at.path(path).read_text()
        inside = laptop.path("/etc/wireguard")
        inside.mkdir(mode=0o700, exist_ok=True)
        (inside / "home.conf").write_text(conf)
        (inside / "home.conf").chmod(0o600)
        fleet.on_command("laptop", ("wg-quick", "up", "home"))
        await laptop.run("wg-quick", "up", "home", timeout_s=20)
        v4, v6 = map(_host, made["addresses"])
        workload = Workload("alice", LAPTOP, "", v4, v6)
        await _greet(laptop, workload)
        demo.workloads.append(workload)


async def _ask_everybody(demo: Demo) -> None:
    for asker in demo.workloads:
        targets = [
            (to, family, address)
            for to in demo.workloads
            if to != asker
            for family, address in ((4, to.v4), (6, to.v6))
        ]
        answers = await _ask(demo, asker, [address for _, _, address in targets])
        for (to, family, _), (name, rtt_ms) in zip(targets, answers, strict=True):
            _note(demo, asker, to, family, reached=name == to.name, rtt_ms=rtt_ms)


async def _ask(
    demo: Demo, asker: Workload, addresses: list[str]
) -> list[tuple[str | None, float | None]]:
    at = demo.fleet.lab.node(asker.at.partition("-")[0])
    argv = (sys.executable, "-m", "demo.greeter", "ask", *addresses)
    asked = await at.run(*argv, netns=asker.netns, cwd=str(ROOT), timeout_s=60)
    answers = map(json.loads, asked.text.splitlines())
    return [(answer["name"], answer["rtt_ms"]) for answer in answers]


def _note(
    demo: Demo, asker: Workload, to: Workload, family: int, *, reached: bool, rtt_ms: float | None
) -> None:
    if asker.tenant != to.tenant:
        demo.isolation.append(
            {"from": asker.name, "to": to.name, "family": family, "reached": reached}
        )
        return
    demo.reachability.append(
        {
            "tenant": asker.tenant,
            "from": asker.at,
            "to": to.at,
            "family": family,
            "ok": reached,
            "rtt_ms": rtt_ms if reached else None,
        }
    )


def _declared(fleet: Fleet, name: str) -> list[str]:
    addresses = fleet.lab.node(name).addresses
    return [word for address in addresses for word in ("--endpoint", str(address))]


def _host(interface_address: str) -> str:
    return interface_address.partition("/")[0]


def _narrate(speaker: str, argv: tuple[str, ...]) -> None:
    words = (f"{word[:20]}..." if len(word) > 48 else word for word in argv)
    program = () if argv[0] == "wg-quick" else ("zos",)
    print(f"  {speaker:>8}$ {' '.join((*program, *words))}", flush=True)


def _save(demo: Demo) -> None:
    OUT.parent.mkdir(exist_ok=True)
    result = {
        "schema": 1,
        "reachability": demo.reachability,
        "isolation": demo.isolation,
        "timings_ms": demo.timings_ms,
        "paths": demo.paths,
        "exits": demo.exits,
        "workloads": [asdict(workload) for workload in demo.workloads],
    }
    OUT.write_text(json.dumps(result, indent=2) + "\n")
    tunnels = {tuple(sorted((path["from"], path["to"]))): path["path"] for path in demo.paths}
    live = Live(
        tunnels=tuple(
            Tunnel((near, far), "alice/home", path) for (near, far), path in tunnels.items()
        )
    )
    PICTURE.write_text(draw_svg(TOPOLOGY, live=live))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="zos-demo-") as scratch:
        try:
            demo = asyncio.run(play(Path(scratch) / "lab"))
        except OverlayError as exc:
            print(f"\nThe demo stopped: {exc}", file=sys.stderr)
            return 1
    _save(demo)
    print(picture.tables(demo.reachability, demo.isolation))
    print(picture.paths(demo.paths))
    print(f"To the internet, in turn: {', '.join(demo.exits) or 'nobody'}")
    print(picture.timings(demo.timings_ms))
    verdict = "All as it should be" if demo.holds else "NOT as it should be"
    print(f"\n{verdict}: see {OUT} and {PICTURE}")
    return 0 if demo.holds else 1


if __name__ == "__main__":
    sys.exit(main())
