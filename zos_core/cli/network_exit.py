"""`zos network exit`: which members are the network's ways to the internet."""

from __future__ import annotations

import click
import msgspec

from overlay.documents.exits import MAX_EXITS
from overlay.documents.schema import Member
from overlay.errors import Rejected
from zos_core.cli import output
from zos_core.cli.command import Command, group
from zos_core.cli.completion import complete_networks, complete_peers
from zos_core.cli.directory import registry_option
from zos_core.cli.home import Home
from zos_core.cli.publishing import NetworkEdit, finish_network
from zos_core.files import network as network_files

_NET = click.argument("net", metavar="NET", shell_complete=complete_networks)
_MEMBERS = click.argument(
    "members", metavar="MEMBER...", nargs=-1, required=True, shell_complete=complete_peers
)
_no_publish = click.option("--no-publish", is_flag=True, help="Edit the file only.")


@group("exit")
def exit_() -> None:
    """Choose the ways to the internet.

    Workloads and access devices of the network leave it by one exit at a time: the first that is
    healthy, the next within seconds when it is not, and by no other way. An exit is a member whose
    operator offers it.

    \b
    Examples:
      zos network exit set home n1 n2
      zos network exit show home
      zos network exit clear home
    """


@exit_.command("set", cls=Command)
@_NET
@click.argument("members", metavar="MEMBER...", nargs=-1, shell_complete=complete_peers)
@click.option(
    "--local",
    is_flag=True,
    help="What is on a node leaves by that node itself, where its operator offers it as an exit.",
)
@registry_option
@_no_publish
def set_(
    net: str, members: tuple[str, ...], local: bool, registry: str | None, no_publish: bool
) -> None:
    """Leave the network by these members, the first one first.

    MEMBER is the name of a node that the network lists. Names joined by a comma are as good as each
    other: the nearest is taken. With --local nobody else leaves by a node that is not named, and
    what is on a node that is not offered leaves by the members named, or not at all.

    \b
    Examples:
      zos network exit set home n1 n2
      zos network exit set home n1,n2 n3
      zos network exit set home --local
      zos network exit set home n1 --local
    """
    if not members and not local:
        raise Rejected("nobody is named", field="MEMBER", remedy="name members, or give --local")
    orders = _orders(members)
    edit = NetworkEdit(Home(), net, registry=registry)
    edit.change(lambda text: network_files.set_exits(text, orders, local=local))
    ways = [*(["each node itself"] if local else []), *members]
    finish_network(
        edit,
        no_publish=no_publish,
        done=f"{edit.file.name} is left by {', then '.join(ways)}",
        **_chosen(edit),
    )


@exit_.command("clear", cls=Command)
@_NET
@registry_option
@_no_publish
def clear(net: str, registry: str | None, no_publish: bool) -> None:
    """Let nothing leave the network.

    \b
    Examples:
      zos network exit clear home
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    edit.change(lambda text: network_files.set_exits(text, {}))
    finish_network(
        edit, no_publish=no_publish, done=f"nothing leaves {edit.file.name}", **_chosen(edit)
    )


@exit_.command("show", cls=Command)
@_NET
@registry_option
def show(net: str, registry: str | None) -> None:
    """Show the exits of a network, and whether they say that they are ready.

    Which of them a node uses, it says itself: zos status.

    \b
    Examples:
      zos network exit show home
      zos network exit show home --json
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    directory = edit.directory()
    with output.progress("asking the registry"):
        said = {each.node: each.exit for each in directory.fetch_all(Member, network=edit.id)}
    rows = []
    for name, entry in sorted(edit.file.exits.items(), key=lambda item: (item[1].order, item[0])):
        service = said.get(edit.file.members[name].node)
        rows.append(
            {
                "name": name,
                "order": entry.order,
                "ready": service is not None,
                "service": msgspec.to_builtins(service),
            }
        )
    table = output.table(
        ("ORDER", "NAME", "STATE"),
        ((str(row["order"]), str(row["name"]), _state(row)) for row in rows),
    )
    is_local = edit.file.local_exits
    value = {"network": edit.id, "name": edit.file.name, "local": is_local, "exits": rows}
    output.show(value, *table)
    if is_local:
        output.say("what is on a node leaves by the node itself, where its operator offers it")
    elif not rows:
        output.say(f"no exits; choose: zos network exit set {edit.named} MEMBER")


def _state(row: dict[str, object]) -> str:
    service = row["service"]
    if not isinstance(service, dict):
        return "not offered by its operator, or not up"
    return "draining" if service.get("draining_until") else "ready"


def _orders(members: tuple[str, ...]) -> dict[str, int]:
    orders: dict[str, int] = {}
    for order, names in enumerate(members):
        for name in filter(None, names.split(",")):
            if name in orders:
                raise Rejected(f"{name!r} stands there twice", field="MEMBER")
            orders[name] = order
    if len(orders) > MAX_EXITS or (members and not orders):
        raise Rejected(f"{len(orders)} exits are not between 1 and {MAX_EXITS}", field="MEMBER")
    return orders


def _chosen(edit: NetworkEdit) -> dict[str, object]:
    exits = {name: entry.order for name, entry in edit.file.exits.items()}
    return {"local": edit.file.local_exits, "exits": exits}
