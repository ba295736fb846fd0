"""`zos ping`: an answer from inside the network, and the path it came by."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import click

from overlay.errors import Refused, Rejected
from overlay.model import Address
from overlay.netns import namespaces
from zos_core import icmp, why
from zos_core.cli import local, output
from zos_core.cli.command import command
from zos_core.cli.completion import complete_networks, complete_peers
from zos_core.cli.exits import Exit
from zos_core.cli.inputs import find_inputs
from zos_core.cli.types import DURATION
from zos_core.icmp import Pong
from zos_core.status import NetworkStatus, WhyInputs
from zos_core.why import Party, Step

INTERVAL_S = 1.0


@command("ping")
@click.argument("peer", shell_complete=complete_peers)
@click.option("--network", metavar="NET", shell_complete=complete_networks, help="Where to look.")
@click.option("-c", "--count", type=click.IntRange(1), default=3, show_default=True)
@click.option("-4", "family", flag_value="4", help="Over IPv4 (the default for names).")
@click.option("-6", "family", flag_value="6", help="Over IPv6.")
@click.option("--timeout", type=DURATION, default="3s", show_default=True, help="For each answer.")
@click.pass_context
def ping(
    ctx: click.Context,
    peer: str,
    network: str | None,
    count: int,
    family: str | None,
    timeout: timedelta,
) -> None:
    """Ask a peer for an answer from inside the network, and say which path it came by.

    PEER is a name, a node id, or any address of the network. Exit code 1 when nothing came back;
    the last line then says what refuses.

    \b
    Examples:
      sudo zos ping n2
      sudo zos ping 10.1.2.5 -c 1 --network home
    """
    inputs = find_inputs(network, peer)
    party = why.find_party(inputs, peer)
    target = _target(party, family)
    if os.geteuid() != 0:
        raise Refused("ping needs root to enter the network", remedy=f"sudo zos ping {peer}")
    pongs: list[Pong] = []
    path = ""
    for sequence in range(1, count + 1):
        pong = _ask(inputs.network, target, sequence, timeout.total_seconds())
        pongs.append(pong)
        path = _path(inputs.network.id, party)
        if not output.asked_for_json():
            output.show_line(_line(party, target, pong, path))
        if sequence < count:
            time.sleep(INTERVAL_S)
    answered = sum(pong.rtt_ms is not None for pong in pongs)
    refusal = None if answered else _refusal(inputs, party)
    value = {
        "network": inputs.network.id,
        "peer": party.member.name,
        "node": party.member.node,
        "address": target,
        "path": path,
        "sent": len(pongs),
        "received": answered,
        "pongs": [pong._asdict() for pong in pongs],
        "refusal": refusal,
    }
    output.show(value)
    if not answered:
        remedy = f" ({refusal.remedy})" if refusal and refusal.remedy else ""
        reason = (
            f": {refusal.evidence}{remedy}" if refusal else f"; ask: zos why {_own(inputs)} {peer}"
        )
        output.say(f"no answer from {party.member.name}{reason}")
        ctx.exit(Exit.NOT_HEALTHY)


def _target(party: Party, family: str | None) -> Address:
    if party.address is None:
        return party.addresses[1 if family == "6" else 0]
    if family is not None and (":" in party.address) != (family == "6"):
        raise Rejected(f"{party.address} is not an IPv{family} address", field="PEER")
    return party.address


def _ask(network: NetworkStatus, target: Address, sequence: int, timeout_s: float) -> Pong:
    source = network.gateway_v6 if ":" in target else network.gateway_v4
    return icmp.ping(
        lambda family, kind, protocol: namespaces.open_socket(
            network.netns_path, family, kind, protocol
        ),
        target,
        source=Address(source) if source is not None else None,
        sequence=sequence,
        timeout_s=timeout_s,
    )


def _path(network: str, party: Party) -> str:
    """Where packets to the far end leave to, as WireGuard sees it now."""
    resource = local.choose_network(local.fetch_status(), network)
    if party.member.index == resource.index:
        return "this node"
    peer = why.carrier(resource, party)
    if peer is None or peer.endpoint is None:
        return "no endpoint"
    through = "" if peer.index == party.member.index else f" through {peer.name}"
    return f"{peer.endpoint} {peer.way}{through}"


def _line(party: Party, target: Address, pong: Pong, path: str) -> str:
    name = party.member.name
    if pong.rtt_ms is None:
        return f"no pong from {name} ({target}): {pong.reason}"
    return f"pong from {name} ({target}) via {path} in {pong.rtt_ms:.1f} ms"


def _refusal(inputs: WhyInputs, party: Party) -> Step | None:
    """What refuses, when this node can tell."""
    fresh = local.get("/v1/why", WhyInputs, network=inputs.network.id)
    return why.walk(fresh, _own(inputs), party.text, why.Traffic("icmp")).refusal


def _own(inputs: WhyInputs) -> str:
    return inputs.network.gateway_v4 or inputs.node
