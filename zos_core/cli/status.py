"""`zos status`: networks, peers and paths at a glance, then what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import click
import msgspec

from zos_core.cli import local, output
from zos_core.cli.command import command
from zos_core.cli.completion import complete_networks
from zos_core.cli.exits import Exit
from zos_core.cli.relay_offer import format_relay
from zos_core.status import (
    ExitStatus,
    HealthItem,
    KeyStatus,
    NamesStatus,
    NetworkStatus,
    PeerStatus,
    Status,
    WayOutStatus,
)

WATCH_TIMEOUT_S = 60.0
MAX_REPAIRS_SHOWN = 5
_COLOURS = {"up": "green", "refused": "red", "waiting": "yellow"}


@command("status")
@click.argument("net", metavar="[NET]", required=False, shell_complete=complete_networks)
@click.option("--watch", is_flag=True, help="Show it again at every change.")
@click.pass_context
def status(ctx: click.Context, net: str | None, watch: bool) -> None:
    """Show the networks of this node, their peers, and what is wrong.

    Exit code 1 when the node does not run or something is wrong that needs somebody.

    \b
    Examples:
      zos status
      zos status home --json
    """
    found = _chosen(local.fetch_status(), net)
    _show(found)
    while watch:
        found = _chosen(_wait_change(found), net)
        click.echo()
        _show(found)
    if any(item.severity == "error" for item in found.health):
        ctx.exit(Exit.NOT_HEALTHY)


def format_status(status: Status) -> Iterator[str]:
    """The whole answer as lines."""
    node = status.node
    yield f"node {node.name}  {node.id}  WireGuard: {node.backend}"
    yield f"registry {status.registry.reference or 'none'}  {_registry(status)}"
    for network in status.networks:
        yield ""
        yield from _network(network, status.at)
    if status.relay is not None:
        yield ""
        yield from format_relay(status.relay)
    if status.exit is not None:
        yield ""
        yield _exit(status.exit)
        yield from _published(status.exit)
    if not status.networks and status.relay is None and status.exit is None:
        yield ""
        yield "in no network; ask a tenant to name this node, or: zos join TOKEN"
    if status.repairs:
        yield ""
        yield "# Repaired:"
        yield from (
            f"#  {output.rfc3339(r.at)}  {_name(status, r.network)}  {r.what}  ({r.by})"
            for r in status.repairs[-MAX_REPAIRS_SHOWN:]
        )
    refusals = [*status.refusals, *(r for n in status.networks for r in n.refusals)]
    if refusals:
        yield ""
        yield "# Refused documents:"
        yield from (f"#  {r.key}  {r.reason}" for r in refusals)
    if status.health:
        yield ""
        yield "# Health check:"
        yield from (_health(item, status) for item in status.health)


def format_peer_state(peer: PeerStatus) -> str:
    """`active; direct 192.0.2.1:51820, tx 120 rx 88`"""
    traffic = f", tx {peer.tx_bytes} rx {peer.rx_bytes}"
    match peer.state:
        case "active":
            return f"active; {peer.way} {peer.endpoint}{traffic}"
        case "idle":
            return f"idle{_age(peer)}"
        case "connecting":
            return f"no handshake yet; trying {peer.endpoint or 'no endpoint known'}"
        case _:
            return f"silent{_age(peer)}{traffic}"


def _chosen(found: Status, net: str | None) -> Status:
    if net is None:
        return found
    return msgspec.structs.replace(found, networks=(local.choose_network(found, net),))


def _show(found: Status) -> None:
    # The document is the node's own answer: a superset of what is printed.
    value = {key: item for key, item in msgspec.to_builtins(found).items() if key != "schema"}
    output.show(value, *format_status(found))


def _wait_change(seen: Status) -> Status:
    while True:
        found = local.get("/v1/wait", Status, generation=seen.generation, timeout_s=WATCH_TIMEOUT_S)
        if found.generation != seen.generation:
            return found


def _network(network: NetworkStatus, now: datetime) -> Iterator[str]:
    state = output.mark(network.state, _COLOURS.get(network.state, "yellow"))
    yield f"{network.name}  {network.id}  version {network.version}  {state}"
    if network.message:
        yield f"  {network.message}" + (f" ({network.remedy})" if network.remedy else "")
    rows = [_self(network), *(_peer(peer) for peer in network.peers)]
    yield from output.table(("  ADDRESS", "IPV6", "NAME", "STATE"), rows)
    if network.attachments:
        yield from output.table(
            ("  WORKLOAD", "ADDRESS", "IPV6", "NETNS"),
            (
                (
                    f"  {a.name}",
                    a.address_v4.partition("/")[0],
                    a.address_v6.partition("/")[0],
                    a.netns,
                )
                for a in network.attachments
            ),
        )
    for relay in network.relays:
        heard = f"hears us at {relay.hears_us_at}" if relay.hears_us_at else "does not hear us"
        if relay.over_tcp:
            heard = "reached over TCP, the last resort where UDP is blocked"
        elif relay.tcp_message:
            heard += f"; not over TCP either: {relay.tcp_message}"
        yield f"  relay {relay.name} at {', '.join(relay.endpoints)}, {heard}"
    if network.key is not None and network.public_key is not None:
        yield f"  {_key(network.key, network.public_key)}"
    if network.way_out is not None:
        yield f"  {_way_out(network.way_out)}"
    if network.names is not None:
        yield f"  {_names(network.names)}"
    if network.last_change_at is not None:
        yield f"  last change {_seconds(network.last_change_at, now)} ago"


def _key(key: KeyStatus, public_key: str) -> str:
    """`key 3fOT9Bz1 of 2026-01-01, the next one from 2026-01-29 on`"""
    made = f"key {public_key[:8]} of {output.rfc3339(key.made_at)}"
    if key.takes_over_at is not None and key.next_public_key is not None:
        at = output.rfc3339(key.takes_over_at)
        return f"{made}, {key.next_public_key[:8]} takes over at {at}"
    if key.held_back:
        return f"{made}, not replaced: {key.held_back}"
    if key.rotates_at is None:
        return f"{made}, replaced when asked: zos node rotate"
    return f"{made}, replaced after {output.rfc3339(key.rotates_at)}"


def _exit(exit_: ExitStatus) -> str:
    """`exit: serving 2 networks, draining until 2026-01-01 10:00:00`"""
    what = f" {len(exit_.networks)} networks" if exit_.networks else ""
    because = f": {exit_.message}" if exit_.message else ""
    until = exit_.draining_until
    verb = "since" if exit_.state == "out of use" else "draining until"
    drains = f", {verb} {until:%Y-%m-%d %H:%M:%S}" if until is not None else ""
    return f"exit: {exit_.state}{what}{because}{drains}"


def _published(exit_: ExitStatus) -> Iterator[str]:
    if not exit_.published:
        return
    yield from output.table(
        ("  PORT", "NETWORK", "TO", "STATE"),
        (
            (
                f"  {each.protocol}/{each.port}",
                each.name or each.network,
                each.to,
                f"{each.state}: {each.reason}" if each.reason else each.state,
            )
            for each in exit_.published
        ),
    )


def _way_out(way: WayOutStatus) -> str:
    if way.is_here:
        return "way out: this node itself"
    because = f": {way.reason}" if way.reason else ""
    failed = f"; failed within a minute: {', '.join(way.failed)}" if way.failed else ""
    if way.exit is None:
        return f"way out: none{because}{failed}"
    draining = f"; what began at {way.draining} goes on there" if way.draining else ""
    return f"way out: {way.exit} for {way.since_s} s{because}{draining}{failed}"


def _names(names: NamesStatus) -> str:
    """`names: 5 in home.zos at 10.1.1.1 fd12::1, others by 9.9.9.9`"""
    if names.state != "serving":
        because = f": {names.message}" if names.message else ""
        return f"names: {names.state}{because}" + (f" ({names.remedy})" if names.remedy else "")
    others = f"by {' '.join(names.resolvers)}" if names.resolvers else "refused: no way out"
    return f"names: {names.names} in {names.domain} at {' '.join(names.servers)}, others {others}"


def _self(network: NetworkStatus) -> tuple[str, ...]:
    address = network.gateway_v4 or "-"
    return (f"  {address}", network.gateway_v6 or "-", network.member_name or "-", "-")


def _peer(peer: PeerStatus) -> tuple[str, ...]:
    return (f"  {peer.gateway_v4}", peer.gateway_v6, peer.name, format_peer_state(peer))


def _age(peer: PeerStatus) -> str:
    return f", handshake {peer.handshake_age_s} s ago" if peer.handshake_age_s is not None else ""


def _registry(status: Status) -> str:
    registry = status.registry
    verified = registry.verified_at
    current = f", verified {_seconds(verified, status.at)} ago" if verified is not None else ""
    trouble = f": {registry.error}" if registry.error else ""
    return f"{registry.state}{trouble}{current}"


def _health(item: HealthItem, status: Status) -> str:
    where = f"{_name(status, item.network)}: " if item.network is not None else ""
    remedy = f" ({item.remedy})" if item.remedy else ""
    return f"#  {item.severity}: {where}{item.text}{remedy}"


def _name(status: Status, network: str) -> str:
    return next((n.name for n in status.networks if n.id == network), network)


def _seconds(then: datetime, now: datetime) -> str:
    return f"{max(0, round((now - then).total_seconds()))} s"
