"""Which modules there are, and which are shell. What is not listed in a pure package is pure."""

from __future__ import annotations

from pathlib import Path

from tests.arch.rules import Source

TREE = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("overlay", "zos_core", "netlab")

# Packages that are pure, but for SHELL. A seeded generator is no chance: it is passed in.
PURE = ("overlay", "netlab.sim")

# Modules of these that talk to the outside; they decide nothing.
SHELL = frozenset(
    {
        "netlab.sim.__main__",
        "netlab.sim.corpus",
        "netlab.sim.run",
        "overlay.exitnode.converge",
        "overlay.exitnode.probe",
        "overlay.exitnode.processes",
        "overlay.keys.store",
        "overlay.keys.tls",
        "overlay.netns.apply",
        "overlay.netns.attach",
        "overlay.netns.backend",
        "overlay.netns.converge",
        "overlay.netns.dnsmasq",
        "overlay.netns.kernel",
        "overlay.netns.lean_pyroute2",
        "overlay.netns.mounts",
        "overlay.netns.namespaces",
        "overlay.netns.nft",
        "overlay.netns.observe",
        "overlay.netns.passing",
        "overlay.netns.pins",
        "overlay.netns.spawn",
        "overlay.netns.control",
        "overlay.netns.uapi",
        "overlay.netns.udp",
        "overlay.netns.waiting",
        "overlay.netns.watch",
        "overlay.netns.wg_kernel",
        "overlay.netns.wg_trial",
        "overlay.peers.cache",
        "overlay.peers.lean_aiohttp",
        "overlay.peers.pinning",
        "overlay.peers.registry",
        "overlay.reconcile.acceptance",
        "overlay.reconcile.answering",
        "overlay.reconcile.description",
        "overlay.reconcile.devices",
        "overlay.reconcile.exiting",
        "overlay.reconcile.feed",
        "overlay.reconcile.following",
        "overlay.reconcile.guarding",
        "overlay.reconcile.heard",
        "overlay.reconcile.intake",
        "overlay.reconcile.leaving",
        "overlay.reconcile.joining",
        "overlay.reconcile.lastresort",
        "overlay.reconcile.shim",
        "overlay.reconcile.keyring",
        "overlay.reconcile.links",
        "overlay.reconcile.looking",
        "overlay.reconcile.machine",
        "overlay.reconcile.naming",
        "overlay.reconcile.networks",
        "overlay.reconcile.node",
        "overlay.reconcile.packets",
        "overlay.reconcile.passes",
        "overlay.reconcile.peering",
        "overlay.reconcile.preview",
        "overlay.reconcile.publisher",
        "overlay.reconcile.publishing",
        "overlay.reconcile.record",
        "overlay.reconcile.relaying",
        "overlay.reconcile.resource",
        "overlay.reconcile.restoring",
        "overlay.reconcile.results",
        "overlay.reconcile.rotating",
        "overlay.reconcile.schedule",
        "overlay.reconcile.workloads",
        "overlay.registry.app",
        "overlay.registry.metrics",
        "overlay.registry.serve",
        "overlay.registry.service",
        "overlay.registry.store.sqlite",
        "overlay.registry.watchers",
        "overlay.relay.server",
        "overlay.relay.streams",
        "overlay.relay.websocket",
    }
)

# Modules that may start processes (rule 5).
PROCESS_STARTERS = frozenset(
    {
        "netlab.keeper.gate",
        "netlab.keeper.keeper",
        "netlab.keeper.machine",
        "netlab.keeper.pump_house",
        "netlab.owner",
        "netlab.sim.run",
        "netlab.supervisor.start",
        "overlay.netns.spawn",
    }
)

# The one module that puts private keys into text: it writes the key files.
KEY_WRITER = "overlay.keys.keyfile"

# Packages that consume networks, and all they may know of them (rule 3).
CONSUMERS = ("zos_core.storage", "zos_core.compute", "zos_core.blueprints")
VOCABULARY = "overlay.model"


def read_sources() -> list[Source]:
    return [
        Source(dotted_name(path), path.read_text())
        for package in PACKAGES
        for path in sorted((TREE / package).rglob("*.py"))
    ]


def dotted_name(path: Path) -> str:
    parts = path.relative_to(TREE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = read_sources()
