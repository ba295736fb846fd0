"""Expectations that say nothing, or of nobody. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

from netlab.refusals.impairments import RATE_BIT_S_MAX
from netlab.refusals.words import out_of_bounds, unknown
from netlab.topology import Draft, Expect, Family, Via
from overlay.errors import Rejected

TIME_S_MAX = 86_400.0  # a day is longer than any lab
EVERY = "*"

Workloads = Mapping[str, Mapping[str, frozenset[str]]]  # by tenant and network


def find(topology: Draft) -> Iterator[Rejected]:
    """Every fault of what is expected."""
    if not topology.expects:
        return
    nodes = frozenset(node.name for node in topology.nodes)
    workloads = {
        tenant.name: {
            network.name: frozenset(workload.name for workload in network.workloads)
            for network in tenant.networks
        }
        for tenant in topology.tenants
    }
    exits = {
        f"{tenant.name}/{network.name}": frozenset(each.node for each in network.exits)
        for tenant in topology.tenants
        for network in tenant.networks
    }
    for position, expect in enumerate(topology.expects):
        path = f"expect[{position}]"
        for key in ("source", "target"):
            yield from _end_faults(getattr(expect, key), nodes, workloads, path=f"{path}.{key}")
        yield from _word_faults(expect, path=path)
        if expect.via:
            yield from _via_faults(expect, exits, path=f"{path}.via")
        yield from _time_faults(expect, path=path)
        yield from _rate_faults(expect, path=path)


def _end_faults(
    end: str, nodes: frozenset[str], workloads: Workloads, *, path: str
) -> Iterator[Rejected]:
    if "/" not in end:
        if end != EVERY:
            yield from unknown(end, known=nodes, what="node", path=path)
        return
    parts = end.split("/")
    if len(parts) != 3:
        yield Rejected(
            f"{end!r} is no end", field=path, remedy="write NODE or TENANT/NETWORK/WORKLOAD"
        )
        return
    tenant, network, workload = parts
    if tenant not in workloads:
        yield from unknown(tenant, known=workloads, what="tenant", path=path)
    elif network not in workloads[tenant]:
        yield from unknown(network, known=workloads[tenant], what="network", path=path)
    elif workload != EVERY:
        known = workloads[tenant][network]
        yield from unknown(workload, known=known, what="workload", path=path)
    elif not workloads[tenant][network]:
        yield Rejected(f"{tenant}/{network} has no workload", field=path, remedy="add one")


def _word_faults(expect: Expect, *, path: str) -> Iterator[Rejected]:
    yield from unknown(expect.family, known=get_args(Family), path=f"{path}.family")
    yield from unknown(expect.path, known=get_args(Via), path=f"{path}.path")
    if expect.source == expect.target and not expect.source.endswith(EVERY):
        yield Rejected("is the source too", field=f"{path}.target", remedy="name another one")
    is_inside = "/" in expect.source and ("/" in expect.target or expect.via)
    if expect.path and not is_inside:
        yield Rejected(
            "only workloads have a path between them",
            field=f"{path}.path",
            remedy="name workloads, as TENANT/NETWORK/WORKLOAD, or leave path out",
        )
    if not expect.reached and (
        expect.path or expect.via or expect.at_least_bit_s or expect.at_most_bit_s
    ):
        yield Rejected(
            "who is not reached has neither path, exit nor rate",
            field=f"{path}.reached",
            remedy="leave these out",
        )


def _via_faults(
    expect: Expect, exits: Mapping[str, frozenset[str]], *, path: str
) -> Iterator[Rejected]:
    """Somebody inside leaves by an exit of the network, to somebody outside."""
    network = expect.source.rpartition("/")[0]
    if not network or "/" in expect.target:
        yield Rejected(
            "an exit is between a workload and somebody outside",
            field=path,
            remedy="write from = TENANT/NETWORK/WORKLOAD and to = NODE, or leave via out",
        )
    elif network in exits:
        yield from unknown(expect.via, known=exits[network], what="exit", path=path)


def _time_faults(expect: Expect, *, path: str) -> Iterator[Rejected]:
    for key in ("within_s", "at_s"):
        time_s = getattr(expect, key)
        if time_s is not None:
            yield from out_of_bounds(
                time_s, lowest=0, highest=TIME_S_MAX, unit="seconds", path=f"{path}.{key}"
            )


def _rate_faults(expect: Expect, *, path: str) -> Iterator[Rejected]:
    for key in ("at_least_bit_s", "at_most_bit_s"):
        yield from out_of_bounds(
            getattr(expect, key),
            lowest=0,
            highest=RATE_BIT_S_MAX,
            unit="bit/s",
            path=f"{path}.{key}",
        )
    if expect.at_most_bit_s and expect.at_least_bit_s > expect.at_most_bit_s:
        yield Rejected(
            "at least is more than at most",
            field=f"{path}.at_least_bit_s",
            remedy="exchange them, or leave one out",
        )
