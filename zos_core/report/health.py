"""What a person should know about this node, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

from overlay.reconcile import membership
from overlay.reconcile.following import DISK
from overlay.reconcile.node import NodeLoop
from overlay.reconcile.resource import ResourceLoop
from zos_core.report.facts import Facts
from zos_core.report.names import names_health
from zos_core.status import HealthItem, NetworkStatus, NodeStatus, RegistryStatus


def read_health(
    node: NodeLoop,
    facts: Facts,
    own: NodeStatus,
    registry: RegistryStatus,
    networks: Iterable[NetworkStatus],
) -> Iterable[HealthItem]:
    yield from _registry_health(node, registry)
    yield from _farm_health(node, own)
    if facts.backend_remedy is not None:
        yield HealthItem(
            "wireguard-slow",
            "WireGuard could be faster",
            "info",
            facts.backend_reason,
            facts.backend_remedy,
        )
    for network in networks:
        yield from _network_health(network)
        yield from _udp_health(network)
        yield from names_health(network)
    for loop in node.loops.values():
        yield from _workload_health(loop)
    for refusal in node.journal.refusals:
        if refusal.key == DISK:
            remedy = refusal.remedy or "check the disk of the state directory"
            yield HealthItem("disk", "The disk takes nothing", "error", refusal.reason, remedy)
        if refusal.key.startswith("task/"):
            yield HealthItem(
                "fault", "A fault in zos", "error", refusal.reason, "report it with the log"
            )


def _registry_health(node: NodeLoop, registry: RegistryStatus) -> Iterable[HealthItem]:
    match registry.state:
        case "none":
            yield HealthItem(
                "registry-none",
                "No registry",
                "info" if node.loops else "warning",
                "this node knows no registry, so it hears of no network",
                "set registry in /etc/zos/node.toml, or run: zos join TOKEN",
                since=registry.since,
            )
        case "unreachable":
            yield HealthItem(
                "registry-unreachable",
                "The registry does not answer",
                "warning",
                f"{registry.error}; networks keep running as they are",
                f"check that {registry.reference} runs and can be reached",
                since=registry.since,
            )
        case _:
            pass


def _farm_health(node: NodeLoop, own: NodeStatus) -> Iterable[HealthItem]:
    """A farm is pinned and does not list this node: until it does, tenants cannot use it."""
    if own.farm_state == "waiting":
        gate = membership.select_gate(
            node.id, farm=node.settings.farm, listed=node.farm, joined=False
        )
        yield HealthItem(
            "farm-waiting", "Not in the farm yet", "warning", gate.message, gate.remedy
        )


def _network_health(network: NetworkStatus) -> Iterable[HealthItem]:
    if network.state in ("waiting", "refused", "joining") or (
        network.state == "converging" and network.message
    ):
        yield HealthItem(
            f"network-{network.state}",
            f"{network.name} is {network.state}",
            "warning" if network.state == "waiting" else "error",
            network.message,
            network.remedy,
            network=network.id,
        )
    if network.refusals:
        first = network.refusals[0]
        yield HealthItem(
            "documents-refused",
            f"{len(network.refusals)} documents of {network.name} were refused",
            "warning",
            f"{first.key}: {first.reason}",
            first.remedy or f"zos status {network.name} lists them",
            network=network.id,
        )


def _udp_health(network: NetworkStatus) -> Iterable[HealthItem]:
    over_tcp = [relay.name for relay in network.relays if relay.over_tcp]
    if over_tcp:
        yield HealthItem(
            "udp-blocked",
            "UDP is blocked here",
            "warning",
            f"no relay of {network.name} answers over UDP; {', '.join(over_tcp)} reached over TCP,"
            " the last resort: slower, and no peer straight but on the same LAN",
            f"let UDP from port {network.listen_port} out; zos goes back to it by itself",
            network=network.id,
        )


def _workload_health(loop: ResourceLoop) -> Iterable[HealthItem]:
    nr = loop.network_resource
    if nr is None:
        return
    for it in loop.workloads(nr):
        if it.port in loop.passes.unreachable:
            yield HealthItem(
                "workload-unreachable",
                f"{it.name} is not attached",
                "warning",
                f"{it.name} is not attached: {it.netns} is gone, or has another link {it.link}",
                f"zos detach {nr.name} {it.name}",
                network=loop.network,
            )
