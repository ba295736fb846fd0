"""What came out, as plain values: from verdicts, and from what the lab says of itself (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from netlab.supervisor.journal import Event
from netlab.supervisor.status import LabStatus, ZosPeer

SCHEMA = 1
SERVICE = "web-"  # what workloads are called, before the name of their node

Verdict = Mapping[str, Any]
Row = dict[str, Any]


def compose(verdicts: Sequence[Verdict], status: LabStatus, happened: Sequence[Event]) -> Row:
    """build/demo.json."""
    return {
        "schema": SCHEMA,
        "reachability": list(_reachability(verdicts)),
        "isolation": list(_isolation(verdicts)),
        "timings_ms": _timings(verdicts, happened),
        "paths": list(_paths(status)),
        "exits": [each["via"] for each in verdicts if each["via"] and each["held"]],
        "workloads": list(_workloads(status, verdicts)),
        "expectations": [
            {"expect": each["expect"], "held": each["held"], "after_s": each["after_s"]}
            for each in verdicts
        ],
    }


def _reachability(verdicts: Iterable[Verdict]) -> Iterator[Row]:
    """Within each tenant's network."""
    for verdict in verdicts:
        if verdict["reached"] and not verdict["path"] and not verdict["via"]:
            for answer in verdict["answers"]:
                yield {
                    "tenant": _tenant(answer),
                    "from": _short(answer["from"]),
                    "to": _short(answer["to"]),
                    "family": answer["family"],
                    "ok": answer["reached"],
                    "rtt_ms": answer["rtt_ms"],
                }


def _isolation(verdicts: Iterable[Verdict]) -> Iterator[Row]:
    """Across tenants."""
    for verdict in verdicts:
        for answer in verdict["answers"] if not verdict["reached"] else ():
            yield {key: answer[key] for key in ("from", "to", "family", "reached")}


def _paths(status: LabStatus) -> Iterator[Row]:
    """How each node says that it reaches each other one."""
    for tenant in status.tenants:
        ids = {network.id for network in tenant.networks}
        for node in status.nodes:
            for network in node.zos.networks if node.zos is not None else ():
                for peer in network.peers if network.id in ids else ():
                    if not _is_device(status, peer):
                        yield {
                            "tenant": tenant.name,
                            "from": node.name,
                            "to": peer.name,
                            "path": _way(peer),
                        }


def _is_device(status: LabStatus, peer: ZosPeer) -> bool:
    return any(node.name == peer.name and node.role == "client" for node in status.nodes)


def _way(peer: ZosPeer) -> str:
    """In the words of `zos status`."""
    return {"lan": "direct lan", "relay": f"via relay {peer.relay}"}.get(peer.path, peer.path)


def _workloads(status: LabStatus, verdicts: Iterable[Verdict]) -> Iterator[Row]:
    """Whatever answers inside a network; a device's addresses are those at which it was asked."""
    for tenant in status.tenants:
        ids = {network.id for network in tenant.networks}
        for node in status.nodes:
            for network in node.zos.networks if node.zos is not None else ():
                for each in network.workloads if network.id in ids else ():
                    yield {
                        "tenant": tenant.name,
                        "name": each.name,
                        "at": node.name,
                        "netns": each.netns.rpartition("/")[2],
                        "v4": each.ipv4,
                        "v6": each.ipv6,
                    }
    devices: dict[str, Row] = {}
    for answer in (each for verdict in verdicts for each in verdict["answers"]):
        tenant_name, _, name = answer["to"].rpartition("/")
        if tenant_name and any(node.name == name for node in status.nodes):
            row = {"tenant": _tenant(answer), "name": name, "at": name, "netns": ""}
            devices.setdefault(name, row)[f"v{answer['family']}"] = answer["address"]
    yield from devices.values()


def _timings(verdicts: Iterable[Verdict], happened: Sequence[Event]) -> dict[str, float]:
    """Of each phase of the build, of the answers, and of the other exit."""
    marks = [each for each in happened if each.kind == "ready" or "total" in each.detail]
    taken = {before.text: after.lab_s - before.lab_s for before, after in pairwise(marks)}
    judged: dict[str, list[float]] = {}
    for verdict in verdicts:
        key = "failover" if verdict["via"] and verdict["at_s"] else "questions"
        judged.setdefault(key, []).append(verdict["after_s"])
    taken |= {key: max(seconds) for key, seconds in judged.items()}
    return {key: round(seconds * 1000, 1) for key, seconds in taken.items()}


def _tenant(answer: Row) -> str:
    """A device asks under its own name, and is asked as one of the network."""
    inside = next(end for end in (answer["from"], answer["to"]) if "/" in end)
    return str(inside.partition("/")[0])


def _short(name: str) -> str:
    return name.rpartition("/")[2].removeprefix(SERVICE)
