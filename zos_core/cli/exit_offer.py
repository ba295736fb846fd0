"""`zos exit`: an operator's nodes as ways to the internet for tenants."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

from overlay.documents.exits import (
    DEFAULT_CONNECTIONS,
    DEFAULT_CONNECTIONS_PER_S,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_S,
)
from overlay.documents.fields import MAX_RATE_MBIT
from zos_core.cli import output
from zos_core.cli.command import group
from zos_core.cli.completion import complete_exits, complete_farms, complete_nodes
from zos_core.cli.directory import registry_option
from zos_core.cli.home import Home
from zos_core.cli.publishing import FarmEdit, finish_farm
from zos_core.cli.types import DURATION
from zos_core.files import farm as farm_files
from zos_core.files.exit_entry import ExitEntry

_FARM = click.argument("farm_name", metavar="FARM", shell_complete=complete_farms)
_NODE = click.argument("node", shell_complete=complete_nodes)
_EXIT = click.argument("node", shell_complete=complete_exits)
_no_publish = click.option("--no-publish", is_flag=True, help="Edit the file only.")


def _list(*words: str, metavar: str, text: str, required: bool = False) -> Callable[..., Any]:
    """An option that may be given several times."""
    return click.option(*words, metavar=metavar, multiple=True, required=required, help=text)


@group("exit")
def exit_() -> None:
    """Let the traffic of tenants out to the internet.

    An operator offers nodes of a farm; a tenant names them: zos network exit set.

    What goes out has an address of the uplink as its source. It reaches public addresses only:
    neither the node nor its neighbours, nor other tenants.

    \b
    Examples:
      zos exit offer basement n1 --uplink macvlan:eth0 --address 192.0.2.2/24 \\
          --gateway 192.0.2.1 --beacon 198.51.100.1
      zos exit list basement
      zos exit drain basement n1 --for 10m
      zos exit withdraw basement n1
    """


@exit_.command("offer")
@_FARM
@_NODE
@click.option(
    "--uplink",
    metavar="KIND:LINK",
    required=True,
    help="How it is connected: macvlan:eth0, bridge:br0 or vlan:eth0:100 get addresses of their "
    "own; by interface:eth0 the node sends with its own (needs the package passt).",
)
@_list(
    "--address",
    "addresses",
    metavar="ADDRESS/LENGTH",
    text="An address of the uplink, which must be free: 192.0.2.2/24. An interface has none.",
)
@_list("--gateway", "gateways", metavar="ADDRESS", text="Where it sends; one of each family.")
@click.option(
    "--ipv4",
    type=click.Choice(["static", "dhcp"]),
    default="static",
    show_default=True,
    help="Whether the uplink asks for its IPv4 address (needs the package udhcpc).",
)
@click.option(
    "--ipv6",
    type=click.Choice(["static", "slaac"]),
    default="static",
    show_default=True,
    help="Whether the uplink takes IPv6 addresses that its network announces.",
)
@click.option(
    "--ipv6-prefix",
    metavar="PREFIX",
    help="Routed to the uplink, /32 to /56. A tenant network has a /56 of it, by which its members "
    "are seen as themselves.",
)
@_list(
    "--beacon",
    "beacons",
    metavar="ADDRESS",
    required=True,
    text="Answers ping while the internet can be reached.",
)
@_list(
    "--resolver", "resolvers", metavar="ADDRESS", text="A name server for tenants; else Quad9's."
)
@_list("--refuse", metavar="PREFIX", text="Where nobody gets to, beside what is refused anyway.")
@_list("--allow", metavar="PREFIX", text="Where tenants get to although it is refused otherwise.")
@click.option(
    "--local",
    is_flag=True,
    help="Only for what is on this node, of networks that say so (zos network exit set NET "
    "--local); for nobody who names it.",
)
@click.option("--smtp", is_flag=True, help="Let mail out (TCP port 25), too.")
@click.option(
    "--connections",
    type=click.IntRange(1, MAX_CONNECTIONS),
    default=DEFAULT_CONNECTIONS,
    show_default=True,
    help="Of one tenant network at a time.",
)
@click.option(
    "--connections-per-s",
    type=click.IntRange(1, MAX_CONNECTIONS_PER_S),
    default=DEFAULT_CONNECTIONS_PER_S,
    show_default=True,
    help="New ones of one tenant network.",
)
@click.option(
    "--rate-mbit",
    type=click.IntRange(0, MAX_RATE_MBIT),
    default=0,
    show_default="no limit",
    help="Bandwidth of one tenant network, each direction by itself.",
)
@_list(
    "--publish",
    "publish",
    metavar="PROTOCOL/PORTS",
    text="Ports of the addresses that tenants may publish: tcp/8000-8999.",
)
@registry_option
@_no_publish
def offer(
    farm_name: str, node: str, registry: str | None, no_publish: bool, **entry: object
) -> None:
    """Offer a node of the farm as an exit to any tenant who names it.

    Offering it again replaces all that was offered; an exit that drains goes on draining.

    \b
    Examples:
      zos exit offer basement n1 --uplink macvlan:eth0 --address 192.0.2.2/24 \\
          --gateway 192.0.2.1 --beacon 198.51.100.1
      zos exit offer basement n1 --uplink vlan:eth0:100 --rate-mbit 100 \\
          --address 192.0.2.2/24 --gateway 192.0.2.1 --beacon 198.51.100.1 \\
          --address 2001:db8::2/64 --gateway fe80::1 --beacon 2001:db8:1::1 \\
          --publish tcp/8000-8999 --publish udp/8000-8999
      zos exit offer basement n1 --uplink macvlan:eth0 --ipv4 dhcp --ipv6 slaac \\
          --beacon 198.51.100.1 --beacon 2001:db8:1::1
      zos exit offer basement n1 --uplink interface:eth0 --beacon 198.51.100.1 --local
    """
    edit = FarmEdit(Home(), farm_name, registry=registry)
    edit.change(lambda text: farm_files.offer_exit(text, node, entry=entry))
    done = f"{node} is offered as an exit by {entry['uplink']}"
    finish_farm(edit, no_publish=no_publish, done=done)
    name, offered = _exit(edit, node)
    if offered.draining_until:
        output.say(f"it drains; to end that: zos exit drain {farm_name} {name} --undo")


@exit_.command("list")
@_FARM
def list_(farm_name: str) -> None:
    """List the exits of a farm, as its file says.

    Who has which port of an exit, the node says itself: zos status.

    \b
    Examples:
      zos exit list basement
      zos exit list basement --json
    """
    file = FarmEdit(Home(), farm_name).file
    found = [(name, e.node, e.exit) for name, e in sorted(file.nodes.items()) if e.exit]
    rows = (
        (
            name,
            offered.uplink,
            ",".join((*offered.addresses, *_learnt(offered))) or "-",
            ",".join(offered.gateways) or "-",
            ",".join(offered.publish) or "-",
            _drains(offered),
            node,
        )
        for name, node, offered in found
    )
    header = ("NAME", "UPLINK", "ADDRESSES", "GATEWAYS", "PUBLISH", "DRAINS", "NODE")
    lines = [*output.table(header, rows)] or [f"farm {file.name} offers no exit"]
    exits = [{"name": name, "node": node, **_json(offered)} for name, node, offered in found]
    output.show({"name": file.name, "farm": file.farm, "exits": exits}, *lines)


@exit_.command("drain")
@_FARM
@_EXIT
@click.option("--for", "duration", type=DURATION, help="Until it is out of use: 90s, 10m, 2h.")
@click.option("--undo", is_flag=True, help="Take it back into use.")
@registry_option
@_no_publish
def drain(
    farm_name: str,
    node: str,
    duration: timedelta | None,
    undo: bool,
    registry: str | None,
    no_publish: bool,
) -> None:
    """Move tenants to other exits, before this one goes out of use.

    Whoever has another exit takes that one for everything new at once; what is established stays
    here until the time is over, and ends then. Whoever has no other keeps this one until then.
    After that nobody uses it, until --undo.

    \b
    Examples:
      zos exit drain basement n1 --for 10m
      zos exit drain basement n1 --undo
    """
    if undo == (duration is not None):
        raise click.UsageError("write either --for 10m or --undo")
    until = None
    if duration is not None:
        if duration < timedelta(seconds=1):
            raise click.BadParameter("write at least 1s", param_hint="--for")
        until = (datetime.now(UTC) + duration).replace(microsecond=0)
    edit = FarmEdit(Home(), farm_name, registry=registry)
    edit.change(lambda text: farm_files.drain_exit(text, node, until=until))
    done = f"{node} drains until {output.rfc3339(until)}" if until else f"{node} is in use again"
    shown = {"draining_until": output.rfc3339(until) if until else None}
    finish_farm(edit, no_publish=no_publish, done=done, **shown)


@exit_.command("withdraw")
@_FARM
@_EXIT
@registry_option
@_no_publish
def withdraw(farm_name: str, node: str, registry: str | None, no_publish: bool) -> None:
    """Take an offer back. Who uses the exit loses it at once; to spare them, drain it first.

    \b
    Examples:
      zos exit withdraw basement n1
    """
    edit = FarmEdit(Home(), farm_name, registry=registry)
    edit.change(lambda text: farm_files.withdraw_exit(text, node))
    finish_farm(edit, no_publish=no_publish, done=f"{node} is no exit any more")


def _exit(edit: FarmEdit, node: str) -> tuple[str, ExitEntry]:
    """The exit that the file has under this name or id."""
    return next(
        (name, entry.exit)
        for name, entry in edit.file.nodes.items()
        if node in (name, entry.node) and entry.exit
    )


def _learnt(offered: ExitEntry) -> tuple[str, ...]:
    return tuple(each for each in (offered.ipv4, offered.ipv6) if each != "static")


def _drains(offered: ExitEntry) -> str:
    until = offered.draining_until
    if until is None:
        return "-"
    return f"until {output.rfc3339(until)}" if until > datetime.now(UTC) else "out of use"


def _json(offered: ExitEntry) -> dict[str, Any]:
    until = offered.draining_until
    shown: dict[str, Any] = msgspec.to_builtins(offered)
    return {**shown, "draining_until": output.rfc3339(until) if until else None}
