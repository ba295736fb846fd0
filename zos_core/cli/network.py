"""`zos network`: create and change tenant networks. Each edit signs and publishes a new version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from overlay import addressing
from overlay.errors import Conflict, Rejected
from overlay.keys import store
from overlay.keys.identity import Kind
from zos_core.cli import output
from zos_core.cli.command import group
from zos_core.cli.completion import complete_networks, complete_nodes
from zos_core.cli.directory import choose_reference, registry_option
from zos_core.cli.home import Home
from zos_core.cli.names import choose_node
from zos_core.cli.network_access import access
from zos_core.cli.network_exit import exit_
from zos_core.cli.network_look import diff, list_, plan, show
from zos_core.cli.network_publish import publish
from zos_core.cli.network_relay import relay
from zos_core.cli.network_service import service
from zos_core.cli.publishing import NetworkEdit, finish_network, network_value
from zos_core.cli.types import DURATION
from zos_core.files import network as network_files

_NET = click.argument("net", metavar="NET", shell_complete=complete_networks)
_no_publish = click.option("--no-publish", is_flag=True, help="Edit the file only.")


@group("network")
def network() -> None:
    """Create and change tenant networks.

    A network is a file in $ZOS_HOME/networks. Edit it by hand or with these commands; each edit
    signs a new version with the owner's key and publishes it, and the nodes do the rest.

    \b
    Examples:
      zos network create home --range 10.1.0.0/16
      zos network add-node home node1... --as n1
      zos network invite home guest --uses 1 --expires 24h
      zos network show home
    """


@network.command("create")
@click.argument("net", metavar="NET")
@click.option("--range", "range_v4", metavar="PREFIX", required=True, help="IPv4, /8 to /23.")
@click.option("--owner", "owners", metavar="TENANT", multiple=True, help="Key name or tenant1... .")
@click.option("--threshold", type=click.IntRange(1), default=1, help="Signatures that it takes.")
@registry_option
@_no_publish
def create(
    net: str,
    range_v4: str,
    owners: tuple[str, ...],
    threshold: int,
    registry: str | None,
    no_publish: bool,
) -> None:
    """Create a network, sign it and publish it.

    The IPv6 range follows from the network's id. Two tenants may use the same IPv4 range.

    \b
    Examples:
      zos network create home --range 10.1.0.0/16
      zos network create lab --range 10.9.0.0/20 --owner alice --owner bob --threshold 2
    """
    home = Home()
    if (path := home.file_path("networks", net)).exists():
        raise Conflict(f"there is a network file {path}", remedy="choose another name")
    keys = tuple(_owner_id(home, owner) for owner in owners or (None,))
    reference = None if no_publish else choose_reference(home, option=registry, file=None)
    text = network_files.format_new(
        path.stem, range_v4=range_v4, keys=keys, threshold=threshold, registry=reference
    )
    edit = NetworkEdit(home, net, registry=registry, text=text)
    edit.change(lambda text: text)
    finish_network(edit, no_publish=no_publish, done=edit.id)


@network.command("add-node")
@_NET
@click.argument("node", shell_complete=complete_nodes)
@click.option("--as", "name", metavar="NAME", help="What the network calls the node.")
@click.option("--index", type=click.IntRange(0, 65_535), help="Its place in the range.")
@registry_option
@_no_publish
def add_node(
    net: str,
    node: str,
    name: str | None,
    index: int | None,
    registry: str | None,
    no_publish: bool,
) -> None:
    """Name a node in the network; it joins by itself.

    NODE is a node's id, or the name it has in a farm file on this machine.

    \b
    Examples:
      zos network add-node home n1
      zos network add-node home node1... --as n1 --index 7
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    chosen = choose_node(edit.home, node)
    name = name or chosen.name or f"n{len(edit.file.members) + 1}"
    index = network_files.free_index(edit.file) if index is None else index
    edit.change(lambda text: network_files.add_member(text, name, node=chosen.id, index=index))
    finish_network(
        edit,
        no_publish=no_publish,
        done=f"{name} is in {edit.file.name}: {_subnet(edit, index)}",
        index=index,
    )


@network.command("remove-node")
@_NET
@click.argument("node", shell_complete=complete_nodes)
@registry_option
@_no_publish
def remove_node(net: str, node: str, registry: str | None, no_publish: bool) -> None:
    """Take a node out of the network: one that is named, or one that joined by invitation.

    A node that joined by invitation is named by its id and refused from then on.

    \b
    Examples:
      zos network remove-node home n1
      zos network remove-node home node1...
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    named = [n for n, entry in edit.file.members.items() if node in (n, entry.node)]
    if named:
        edit.change(lambda text: network_files.remove_entry(text, "members", named[0]))
    elif node.startswith("node1"):
        edit.change(lambda text: network_files.revoke(text, node))
    else:
        known = ", ".join(sorted(edit.file.members)) or "nobody"
        raise Rejected(
            f"{edit.file.name} names no node {node!r}",
            field="NODE",
            remedy=f"it names {known}; give the id of a node that joined by invitation",
        )
    finish_network(edit, no_publish=no_publish, done=f"{node} is not in {edit.file.name} any more")


@network.command("invite")
@_NET
@click.argument("name")
@click.option("--uses", type=click.IntRange(1), default=1, help="How many nodes may join.")
@click.option("--expires", type=DURATION, default="24h", help="90s, 30m, 24h, 7d.")
@click.option("--qr", is_flag=True, help="Also draw the token, on standard error.")
@registry_option
def invite(
    net: str, name: str, uses: int, expires: timedelta, qr: bool, registry: str | None
) -> None:
    """Print a token with which nodes may join. It is shown once: who has it can join.

    To take it back, remove [invitations.NAME] from the file and publish it: who joined with it
    loses the membership.

    \b
    Examples:
      zos network invite home guest --uses 1 --expires 24h
      zos network invite home guest | ssh node sudo zos join -
    """
    from zos_core.token import Token

    edit = NetworkEdit(Home(), net, registry=registry)
    key = store.generate(Kind.INVITE)
    until = (datetime.now(UTC) + expires).replace(microsecond=0)
    first_index = network_files.free_index(edit.file, uses)
    edit.change(
        lambda text: network_files.add_invitation(
            text, name, key=key.id, first_index=first_index, uses=uses, expires=until
        )
    )
    token = Token(registry=edit.reference(), network=edit.id, invitation=key)
    with output.progress("publishing"):
        edit.publish()
    output.say(
        f"good for {uses} node(s) until {output.rfc3339(until)}; on the node: zos join TOKEN"
    )
    value = {"name": name, "uses": uses, "expires": output.rfc3339(until), "invitation": key.id}
    text = token.encode()
    output.show({**network_value(edit, published=True), **value, "token": text}, text)
    if qr:
        output.draw_qr(text)


@network.command("delete")
@_NET
@click.option("--yes", is_flag=True, help="Do not ask.")
@registry_option
def delete(net: str, yes: bool, registry: str | None) -> None:
    """Take the network down on every node, for good.

    The file stays, marked as deleted: the deletion is a version of the document like any other.

    \b
    Examples:
      zos network delete home --yes
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    if not yes:
        click.confirm(
            f"Take {edit.file.name} down on {len(edit.file.members)} nodes?", abort=True, err=True
        )
    edit.change(network_files.delete)
    finish_network(edit, no_publish=False, done=f"{edit.file.name} is deleted")


for _command in (access, diff, exit_, list_, plan, publish, relay, service, show):
    network.add_command(_command)


def _owner_id(home: Home, owner: str | None) -> str:
    """An owner by the name of a key here, or by id when the key is somebody else's."""
    if owner is not None and owner.startswith("tenant1"):
        return owner
    return home.choose_key(Kind.TENANT, owner).id


def _subnet(edit: NetworkEdit, index: int) -> str:
    range_v4 = addressing.parse_range(edit.file.range)
    range_v6 = addressing.ula_range(edit.id)
    return f"{addressing.subnet_v4(range_v4, index)} {addressing.subnet_v6(range_v6, index)}"
