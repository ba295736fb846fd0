"""Two tenants with the same addresses, four nodes, a laptop: who reaches whom.

Every step is a command a person would type, run by the shipped `zos` on a machine of a lab. Ends
with a table and build/demo.json; exit code 0 when every expected pair is reached and no other.
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

from demo import picture
from netlab.fleet.fleet import Fleet, Person, until_says
from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.nat import NATS
from netlab.topology import Link, Node, Router, Topology
from overlay.errors import OverlayError

OUT = Path("build/demo.json")
ROOT = Path(__file__).resolve().parent.parent
RANGE = "10.1.0.0/16"  # both tenants, on purpose
NAMED = ("n1", "n2", "n3")
INVITED = "n4"
LAPTOP = "laptop"
TENANTS = {"alice": "home", "bob": "office"}  # and what each calls their network

TOPOLOGY = Topology(
    name="demo",
    nodes=(
        Node("registry"),
        Node("desk"),  # where the operator and the tenants type
        *(Node(name) for name in NAMED),
        Node(INVITED, links=(Link(to="flat"),)),
        Node(LAPTOP, links=(Link(to="cafe"),)),
    ),
    routers=(
        Router("flat", nat=NATS["port-restricted"], firewall="stateful"),
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
    workloads: list[Workload] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    reachability: list[dict[str, object]] = field(default_factory=list)
    isolation: list[dict[str, object]] = field(default_factory=list)

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
        await _attach_workloads(demo)
        await _connect_laptop(demo, tenants["alice"])
        with demo.step("questions", "Everybody asks everybody"):
            await _ask_everybody(demo)
        return demo


async def _start(demo: Demo) -> None:
    fleet, farm = demo.fleet, "basement"
    with demo.step("registry", "A registry, which stores and forwards and is trusted with nothing"):
        await fleet.start_registry()
    with demo.step("nodes", "An operator with a farm, and nodes that are started for it"):
        operator, farm_id = await fleet.operator(farm=farm)
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


async def _attach_workloads(demo: Demo) -> None:
    with demo.step("workloads", "Workloads are attached to each tenant's network"):
        for (tenant, network), node in product(TENANTS.items(), (*NAMED, INVITED)):
            await _attach(demo, tenant, network, node, "web")
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
        "workloads": [asdict(workload) for workload in demo.workloads],
    }
    OUT.write_text(json.dumps(result, indent=2) + "\n")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="zos-demo-") as scratch:
        try:
            demo = asyncio.run(play(Path(scratch) / "lab"))
        except OverlayError as exc:
            print(f"\nThe demo stopped: {exc}", file=sys.stderr)
            return 1
    _save(demo)
    print(picture.tables(demo.reachability, demo.isolation))
    print(picture.timings(demo.timings_ms))
    print(f"\n{'All as it should be' if demo.holds else 'NOT as it should be'}: details in {OUT}")
    return 0 if demo.holds else 1


if __name__ == "__main__":
    sys.exit(main())
