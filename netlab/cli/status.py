"""`zos lab status`: a lab at a glance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from netlab.cli.which import choose, lab_argument
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.status import LabStatus, LinkStatus, NodeStatus, ZosPeer

_NODES = ("NODE", "ROLE", "STATE", "ADDRESSES", "LINKS")
_ROUTERS = ("ROUTER", "TO", "NAT", "FIREWALL", "LAN")
_LINKS = ("LINK", "STATE", "BY", "RX PACKETS", "TX PACKETS", "DROPS")
_TUNNELS = ("ON", "NETWORK", "PEER", "STATE", "PATH", "ENDPOINT")
_EXITS = ("NODE", "NETWORK", "LEFT BY", "FAILED")
_COLOURS = {"running": "green", "paused": "yellow", "dead": "red"}


@command("status")
@lab_argument
@click.option("--counters", is_flag=True, help="Also what has crossed every link.")
def status(lab: str | None, counters: bool) -> None:
    """Show the nodes of a lab, links that are cut or impaired, and tunnels with their path.

    With --json everything that is known of the lab.

    \b
    Examples:
      zos lab status
      zos lab status two-homes --counters --json
    """
    import msgspec

    from netlab.supervisor import asking
    from netlab.supervisor.status import LabStatus

    counted = "yes" if counters else "no"
    found = asking.get(choose(lab), "/v1/lab", LabStatus, fresh="yes", counters=counted)
    value = {key: item for key, item in msgspec.to_builtins(found).items() if key != "schema"}
    output.show(value, *format_status(found, counters=counters))


def format_status(lab: LabStatus, *, counters: bool) -> Iterator[str]:
    """The whole answer as lines."""
    yield f"{lab.name}  {_state(lab)}  since {output.rfc3339_unix(lab.began_at)}"
    if lab.partition:
        yield f"apart: {' | '.join(','.join(part) for part in lab.partition)}"
    yield ""
    yield from output.table(_NODES, map(_node_row, lab.nodes))
    yield from _below(output.table(_ROUTERS, _routers(lab)))
    changed = [link for link in lab.links if not link.up or link.impaired or link.back_end]
    yield from _below(output.table(_LINKS, map(_link_row, lab.links if counters else changed)))
    yield from _below(output.table(_TUNNELS, _tunnels(lab)))
    yield from _below(output.table(_EXITS, _exits(lab)))
    for node in lab.nodes:
        for item in node.zos.health if node.zos is not None else ():
            yield f"# {node.name}: {item.severity}: {item.text} ({item.remedy})"


def _below(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == 0:
            yield ""
        yield line


def _state(lab: LabStatus) -> str:
    if lab.build is None:
        return lab.state
    return f"{lab.state}: {lab.build.phase} {lab.build.done}/{lab.build.total}"


def _node_row(node: NodeStatus) -> tuple[str, ...]:
    state = output.mark(node.state, _COLOURS[node.state])
    if node.zos is not None and node.zos.state == "silent":
        state += ", zos silent"
    role = ", ".join(
        (node.role, *(["relay"] if node.relay else []), *(["exit"] if node.uplink else []))
    )
    return node.name, role, state, " ".join(node.addresses), " ".join(node.links)


def _routers(lab: LabStatus) -> Iterator[tuple[str, ...]]:
    for router in lab.routers:
        nat = "none" if router.nat is None else f"{router.nat.mapping}, {router.nat.filtering}"
        yield router.name, router.to, nat, router.firewall, " ".join(router.lan)


def _link_row(link: LinkStatus) -> tuple[str, ...]:
    counted = link.counters
    figures = ("-", "-", "-")
    if counted is not None:
        drops = counted.rx_drops + counted.tx_drops
        figures = (str(counted.rx_packets), str(counted.tx_packets), str(drops))
    return link.name, "up" if link.up else "cut", link.back_end or "-", *figures


def _exits(lab: LabStatus) -> Iterator[tuple[str, ...]]:
    for node in lab.nodes:
        for network in node.zos.networks if node.zos is not None else ():
            if network.exit:
                yield node.name, network.name, network.exit, " ".join(network.failed_exits) or "-"


def _tunnels(lab: LabStatus) -> Iterator[tuple[str, ...]]:
    for node in lab.nodes:
        for network in node.zos.networks if node.zos is not None else ():
            for peer in network.peers:
                yield node.name, network.name, *_peer(peer)


def _peer(peer: ZosPeer) -> tuple[str, ...]:
    return peer.name, peer.state, f"{peer.path} {peer.relay}".strip(), peer.endpoint or "-"
