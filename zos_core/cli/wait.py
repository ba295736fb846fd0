"""`zos wait`: until networks are up, or a peer has answered a handshake."""

from __future__ import annotations

import time
from datetime import timedelta

import click

from zos_core.cli import local, output
from zos_core.cli.command import command
from zos_core.cli.completion import complete_networks, complete_peers
from zos_core.cli.exits import NotConverged, NotRunning
from zos_core.cli.types import DURATION
from zos_core.status import NetworkStatus, Status

RETRY_S = 0.2  # while there is no node to ask
HANDSHAKE_POLL_S = 1.0  # handshakes are no change of configuration: nobody announces them


@command("wait")
@click.argument("net", metavar="[NET]", required=False, shell_complete=complete_networks)
@click.option(
    "--peer", metavar="NAME", shell_complete=complete_peers, help="And this peer is there."
)
@click.option("--timeout", type=DURATION, default="30s", show_default=True)
def wait(net: str | None, peer: str | None, timeout: timedelta) -> None:
    """Wait until the node runs and its networks are up. Exit code 3 when time runs out.

    With --peer it waits until the peer is known to the device; `zos ping` then makes the handshake.

    \b
    Examples:
      zos wait home --timeout 10s
      zos wait home --peer n2 && sudo zos ping n2
    """
    deadline = time.monotonic() + timeout.total_seconds()
    missing = "no node runs on this machine"
    generation: int | None = None
    with output.progress("waiting"):
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                status = _next_status(generation, left_s)
            except NotRunning:
                time.sleep(min(RETRY_S, left_s))
                continue
            generation = status.generation
            if not (missing := _missing(status, net, peer)):
                networks = [n for n in status.networks if net in (None, n.name, n.id)]
                value = [{"network": n.id, "name": n.name, "state": n.state} for n in networks]
                return output.show({"networks": value}, *(f"{n.name} is up" for n in networks))
    raise NotConverged(f"{missing}, after {timeout.total_seconds():g} s", remedy="see: zos status")


def _next_status(generation: int | None, left_s: float) -> Status:
    if generation is None:
        return local.fetch_status()
    try:
        return local.get("/v1/wait", Status, generation=generation, timeout_s=left_s)
    except local.Slow:
        return local.fetch_status()


def _missing(status: Status, net: str | None, peer: str | None) -> str:
    """What is not as it should be; empty when all is."""
    networks = [n for n in status.networks if net in (None, n.name, n.id)]
    if not networks:
        return f"this node has no network {net}" if net else "this node is in no network"
    for network in networks:
        if network.state != "up":
            why = f": {network.message}" if network.message else ""
            return f"{network.name} is {network.state}{why}"
    if peer is not None and not any(_has(network, peer) for network in networks):
        return f"no network here has a peer {peer}"
    return ""


def _has(network: NetworkStatus, peer: str) -> bool:
    return any(peer in (p.name, p.node) for p in network.peers)
