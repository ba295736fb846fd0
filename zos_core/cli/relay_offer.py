"""`zos relay offer|withdraw|status`: an operator's nodes as relays for tenants."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from overlay import addressing
from overlay.documents.fields import MAX_RATE_MBIT, check_endpoint
from overlay.documents.relays import DEFAULT_RELAY_PORT, DEFAULT_TLS_PORT
from overlay.model import Endpoint
from zos_core.cli import local, output
from zos_core.cli.command import Command
from zos_core.cli.completion import complete_farms, complete_nodes
from zos_core.cli.directory import registry_option
from zos_core.cli.exits import Exit
from zos_core.cli.home import Home
from zos_core.cli.publishing import FarmEdit, finish_farm
from zos_core.files import farm as farm_files
from zos_core.status import RelayStatus

_FARM = click.argument("farm_name", metavar="FARM", shell_complete=complete_farms)
_NODE = click.argument("node", shell_complete=complete_nodes)
_no_publish = click.option("--no-publish", is_flag=True, help="Edit the file only.")
rate_option = click.option(
    "--rate-mbit",
    type=click.IntRange(0, MAX_RATE_MBIT),
    default=0,
    show_default="no limit",
    metavar="MBIT",
    help="Mbit/s that each member, by its key, may send through it.",
)


@click.command("offer", cls=Command)
@_FARM
@_NODE
@click.option(
    "--endpoint",
    "endpoints",
    metavar="ADDRESS[:PORT]",
    multiple=True,
    required=True,
    help=f"Where everybody reaches the relay; one of each family. Port {DEFAULT_RELAY_PORT}.",
)
@click.option(
    "--tls-port",
    type=click.IntRange(1, 65_535),
    metavar="PORT",
    help=f"Also by TLS over TCP, for members where UDP is blocked; usually {DEFAULT_TLS_PORT}.",
)
@rate_option
@registry_option
@_no_publish
def offer(
    farm_name: str,
    node: str,
    endpoints: tuple[str, ...],
    tls_port: int | None,
    rate_mbit: int,
    registry: str | None,
    no_publish: bool,
) -> None:
    """Offer a node of the farm as a relay to any tenant who names it.

    The node opens the port, makes a key and publishes both; nobody can use it before a tenant
    names it in a network. Offering it again replaces all that was offered.

    \b
    Examples:
      zos relay offer basement n1 --endpoint 192.0.2.1
      zos relay offer basement n1 --endpoint 192.0.2.1:51819 --endpoint '[2001:db8::1]:51819'
      zos relay offer basement n1 --endpoint 192.0.2.1 --tls-port 443 --rate-mbit 100
    """
    found = tuple(str(_endpoint(text)) for text in endpoints)
    edit = FarmEdit(Home(), farm_name, registry=registry)
    edit.change(
        lambda text: farm_files.offer_relay(
            text, node, endpoints=found, tls_port=tls_port, rate_mbit=rate_mbit
        )
    )
    also = f", and by TLS on TCP port {tls_port}" if tls_port is not None else ""
    also += f", {rate_mbit} Mbit/s for each member" if rate_mbit else ""
    done = f"{node} is offered as a relay at {', '.join(found)}{also}"
    finish_farm(edit, no_publish=no_publish, done=done)


@click.command("withdraw", cls=Command)
@_FARM
@_NODE
@registry_option
@_no_publish
def withdraw(farm_name: str, node: str, registry: str | None, no_publish: bool) -> None:
    """Take an offer back. The node closes the port; its key stays, should it be offered again.

    \b
    Examples:
      zos relay withdraw basement n1
    """
    edit = FarmEdit(Home(), farm_name, registry=registry)
    edit.change(lambda text: farm_files.withdraw_relay(text, node))
    finish_farm(edit, no_publish=no_publish, done=f"{node} is no relay any more")


@click.command("status", cls=Command)
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show what the node of this machine does as a relay: for whom, and how much.

    Exit code 1 when the node is no relay, or the relay does not run.

    \b
    Examples:
      zos relay status
      zos relay status --json
    """
    found = local.fetch_status().relay
    if found is None:
        output.show({"relay": None}, "this node is no relay")
        output.say("its farm's operator runs: zos relay offer FARM NODE --endpoint ADDRESS")
        ctx.exit(Exit.NOT_HEALTHY)
    output.show({"relay": msgspec.to_builtins(found)}, *format_relay(found))
    if found.state == "failed":
        ctx.exit(Exit.NOT_HEALTHY)


def format_relay(relay: RelayStatus) -> Iterator[str]:
    """The role of a relay as lines."""
    yield f"relay at {', '.join(relay.endpoints)}  {relay.public_key or 'no key'}  {relay.state}"
    if relay.message:
        yield f"  {relay.message} ({relay.remedy})"
    yield (
        f"  {relay.registered} members registered, {relay.sessions} sessions,"
        f" {relay.forwarded_bytes} bytes forwarded"
    )
    if relay.rate_mbit:
        yield f"  each member may send {relay.rate_mbit} Mbit/s"
    if relay.tls_port is not None:
        yield f"  TLS on TCP port {relay.tls_port}: " + (
            relay.tls_message or f"{relay.connections} connections"
        )
        if relay.refused_connections:
            ended = ", ".join(f"{n} {why}" for why, n in relay.refused_connections.items())
            yield f"  connections refused or ended: {ended}"
    dropped = {
        fate: count
        for fate, count in relay.packets.items()
        if count and fate not in ("forwarded", "answered", "keepalive", "cookie")
    }
    if dropped:
        yield "  dropped: " + ", ".join(f"{count} {fate}" for fate, count in dropped.items())
    if relay.networks:
        rows = (
            (f"  {n.name}", f"{n.heard} of {n.members}", n.message or "-", n.id)
            for n in relay.networks
        )
        yield from output.table(("  NETWORK", "HEARD", "TROUBLE", "ID"), rows)


def _endpoint(text: str) -> Endpoint:
    """An address, or an address with a port."""
    if not (text.count(":") == 1 or "]:" in text):
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        address = addressing.parse_address(bare, field="--endpoint")
        text = str(Endpoint(address, DEFAULT_RELAY_PORT))
    return check_endpoint(text, "--endpoint")
