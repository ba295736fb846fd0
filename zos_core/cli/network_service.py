"""`zos network service`: workloads that the internet reaches by a port of an exit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from overlay import addressing
from overlay.documents.exits import ExitService
from overlay.documents.published import REASONS, Published
from overlay.documents.schema import Member
from overlay.errors import Rejected
from overlay.model import Endpoint
from zos_core.cli import output
from zos_core.cli.command import Command, group
from zos_core.cli.completion import complete_networks
from zos_core.cli.directory import registry_option
from zos_core.cli.home import Home
from zos_core.cli.publishing import NetworkEdit, finish_network
from zos_core.files import network as network_files
from zos_core.files.published import PublishedEntry, format_to

_NET = click.argument("net", metavar="NET", shell_complete=complete_networks)
_EXITS = click.option(
    "--exit", "exits", metavar="MEMBER", multiple=True, help="At this exit only; several may be."
)
_no_publish = click.option("--no-publish", is_flag=True, help="Edit the file only.")

NO_EXIT = "the exit is not offered by its operator, or not up"
PENDING = "the exit has not said yet what became of it"


@group("service")
def service() -> None:
    """Have workloads reached from the internet, by a port of an exit's public addresses.

    The operator of the exit offers ports: zos exit offer --publish. A port is one network's: who
    has it keeps it.

    \b
    Examples:
      zos network service add home tcp/8080 web.n1:80
      zos network service list home
      zos network service remove home tcp/8080
    """


@service.command("add", cls=Command)
@_NET
@click.argument("port", metavar="PROTOCOL/PORT")
@click.argument("to", metavar="WORKLOAD.MEMBER[:PORT]")
@_EXITS
@registry_option
@_no_publish
def add(
    net: str, port: str, to: str, exits: tuple[str, ...], registry: str | None, no_publish: bool
) -> None:
    """Publish a port of a workload; at all exits of the network unless --exit names some.

    WORKLOAD is what the node of MEMBER calls it. It may be attached later, and on every node: what
    comes in is let through to it whatever the policy says.

    \b
    Examples:
      zos network service add home tcp/8080 web.n1:80
      zos network service add home udp/5353 dns.n2 --exit n1
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    names = exits or tuple(sorted(edit.file.exits))
    if not names:
        raise Rejected(
            f"{edit.file.name} has no exits",
            field="--exit",
            remedy=f"choose: zos network exit set {edit.named} MEMBER",
        )
    entries = [PublishedEntry(port, name, to) for name in names]
    edit.change(lambda text: network_files.add_published(text, entries))
    finish_network(
        edit,
        no_publish=no_publish,
        done=f"{port} leads to {to} at {', '.join(names)}",
        **_services(edit),
    )
    output.say(f"what became of it: zos network service list {edit.named}")


@service.command("remove", cls=Command)
@_NET
@click.argument("port", metavar="PROTOCOL/PORT")
@_EXITS
@registry_option
@_no_publish
def remove(
    net: str, port: str, exits: tuple[str, ...], registry: str | None, no_publish: bool
) -> None:
    """Take a port back, at all exits unless --exit names some. What is open ends at once.

    \b
    Examples:
      zos network service remove home tcp/8080
      zos network service remove home tcp/8080 --exit n1
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    edit.change(lambda text: network_files.remove_published(text, port=port, exits=exits))
    where = f" at {', '.join(exits)}" if exits else ""
    finish_network(
        edit,
        no_publish=no_publish,
        done=f"{port} is not published{where} any more",
        **_services(edit),
    )


@service.command("list", cls=Command)
@_NET
@registry_option
def list_(net: str, registry: str | None) -> None:
    """List what the network publishes, where it is reached, and why not if it is not.

    \b
    Examples:
      zos network service list home
      zos network service list home --json
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    directory = edit.directory()
    with output.progress("asking the registry"):
        said = {each.node: each.exit for each in directory.fetch_all(Member, network=edit.id)}
    rows = list(_rows(edit, said))
    table = output.table(
        ("PORT", "EXIT", "TO", "STATE", "AT"),
        (
            (
                f"{row['protocol']}/{row['port']}",
                row["exit"],
                format_to(row["workload"], row["member"], row["target"]),
                f"{row['state']}: {row['reason']}" if row["reason"] else row["state"],
                ", ".join(row["endpoints"]) or "-",
            )
            for row in rows
        ),
    )
    output.show({"network": edit.id, "name": edit.file.name, "published": rows}, *table)
    if not rows:
        output.say(f"nothing; publish: zos network service add {edit.named} tcp/8080 web.n1:80")


def _rows(edit: NetworkEdit, said: Mapping[str, ExitService | None]) -> Iterator[dict[str, Any]]:
    names = {entry.node: name for name, entry in edit.file.members.items()}
    for each in sorted(
        edit.document(edit.file.version + 1).published,
        key=lambda each: (each.protocol, each.port, names[each.exit]),
    ):
        state, reason, endpoints = _outcome(each, said.get(each.exit))
        yield {
            "exit": names[each.exit],
            "protocol": each.protocol,
            "port": each.port,
            "workload": each.workload,
            "member": names[each.node],
            "target": each.target,
            "state": state,
            "reason": reason,
            "endpoints": endpoints,
        }


def _outcome(each: Published, exit_: ExitService | None) -> tuple[str, str, list[str]]:
    """State, why it is not open, and where it can be asked."""
    if exit_ is None:
        return "no-exit", NO_EXIT, []
    key = (each.protocol, each.port)
    state = next((p.state for p in exit_.published if (p.protocol, p.port) == key), None)
    if state is None:
        return "pending", PENDING, []
    addresses = map(addressing.parse_address, exit_.addresses if state == "open" else ())
    return state, REASONS[state], [str(Endpoint(a, each.port)) for a in addresses]


def _services(edit: NetworkEdit) -> dict[str, object]:
    published = edit.file.published
    return {"services": [{"port": e.port, "exit": e.exit, "to": e.to} for e in published]}
