"""`zos network relay`: by way of whom the members of a network reach each other."""

from __future__ import annotations

from functools import partial

import click
import msgspec

from overlay.documents import schema
from overlay.documents.relays import MAX_RELAYS, Sighting
from overlay.errors import Rejected, Unavailable
from zos_core.cli import output
from zos_core.cli.command import Command, group
from zos_core.cli.completion import complete_networks, complete_nodes, complete_relays
from zos_core.cli.directory import Directory, registry_option
from zos_core.cli.home import Home
from zos_core.cli.names import choose_node
from zos_core.cli.publishing import NetworkEdit, finish_network, network_value
from zos_core.files import network as network_files
from zos_core.files.network import RelayEntry

_NET = click.argument("net", metavar="NET", shell_complete=complete_networks)
_no_publish = click.option("--no-publish", is_flag=True, help="Edit the file only.")


@group("relay")
def relay() -> None:
    """Name relays, so that members who are hidden from each other meet.

    Any node that its operator offers can relay; it need not be a member, and cannot read what it
    passes on. Members register with the first two that they reach.

    \b
    Examples:
      zos network relay add home node1... --as r1
      zos network relay list home
      zos network relay remove home r1
    """


@relay.command("add", cls=Command)
@_NET
@click.argument("node", shell_complete=complete_nodes)
@click.option("--as", "name", metavar="NAME", help="What the network calls the relay.")
@registry_option
@_no_publish
def add(net: str, node: str, name: str | None, registry: str | None, no_publish: bool) -> None:
    """Name a node as a relay. Its key and endpoints are taken from what it has signed.

    NODE is a node's id, or the name it has in a farm file on this machine.

    \b
    Examples:
      zos network relay add home node1... --as r1
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    chosen = choose_node(edit.home, node)
    name = name or chosen.name or f"r{len(edit.file.relays) + 1}"
    if len(edit.file.relays) >= MAX_RELAYS:
        raise Rejected(
            f"{edit.file.name} has {MAX_RELAYS} relays already",
            field="NODE",
            remedy=f"take one out first: zos network relay remove {edit.named} NAME",
        )
    entry = _fetch_entry(edit.directory(), chosen.id)
    edit.change(lambda text: network_files.add_relay(text, name, entry))
    finish_network(
        edit,
        no_publish=no_publish,
        done=f"{name} relays for {edit.file.name} at {', '.join(entry.endpoints)}",
    )


@relay.command("update", cls=Command)
@_NET
@registry_option
@_no_publish
def update(net: str, registry: str | None, no_publish: bool) -> None:
    """Take over what the relays say of themselves now: a new key, other endpoints.

    \b
    Examples:
      zos network relay update home
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    directory, changed = edit.directory(), []
    for name, known in edit.file.relays.items():
        entry = _fetch_entry(directory, known.node)
        if entry != known:
            changed.append(name)
            edit.change(partial(network_files.set_relay, name=name, entry=entry))
    if not changed:
        output.show({**network_value(edit, published=False), "changed": []}, "nothing has changed")
        return
    finish_network(
        edit, no_publish=no_publish, done=f"updated: {', '.join(changed)}", changed=changed
    )


@relay.command("remove", cls=Command)
@_NET
@click.argument("name", shell_complete=complete_relays)
@registry_option
@_no_publish
def remove(net: str, name: str, registry: str | None, no_publish: bool) -> None:
    """Do without a relay. Members who are reached through it change to another one.

    \b
    Examples:
      zos network relay remove home r1
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    names = [known for known, entry in edit.file.relays.items() if name in (known, entry.node)]
    edit.change(
        lambda text: network_files.remove_entry(text, "relays", names[0] if names else name)
    )
    finish_network(
        edit, no_publish=no_publish, done=f"{name} does not relay for {edit.file.name} any more"
    )


@relay.command("list", cls=Command)
@_NET
@registry_option
def list_(net: str, registry: str | None) -> None:
    """List the relays of a network, whom they hear, and what has to be done about them.

    \b
    Examples:
      zos network relay list home
      zos network relay list home --json
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    directory = edit.directory()
    with output.progress("asking the registry"):
        sightings = {each.node: each for each in directory.fetch_all(Sighting, network=edit.id)}
        rows = [
            {
                "name": name,
                **msgspec.to_builtins(entry),
                "hears": len(sightings[entry.node].seen) if entry.node in sightings else 0,
                "trouble": _trouble(directory, edit.named, entry),
            }
            for name, entry in edit.file.relays.items()
        ]
    table = output.table(
        ("NAME", "ENDPOINTS", "HEARS", "TROUBLE", "NODE"),
        (
            (
                str(row["name"]),
                ",".join(row["endpoints"]),
                str(row["hears"]),
                row["trouble"] or "-",
                str(row["node"]),
            )
            for row in rows
        ),
    )
    output.show({"network": edit.id, "name": edit.file.name, "relays": rows}, *table)
    if not rows:
        output.say(f"no relays; name one: zos network relay add {edit.named} NODE")


def _fetch_entry(directory: Directory, node: str) -> RelayEntry:
    """What a node that is offered says of its relay. Raises Unavailable when it says nothing."""
    found = directory.fetch(f"node/{node}", schema.Node)
    if found is None or found.relay_key is None:
        raise Unavailable(
            f"{node} does not say that it is a relay, or not to you",
            field="NODE",
            remedy="its farm's operator runs: zos relay offer FARM NODE --endpoint ADDRESS",
        )
    return RelayEntry(node, found.relay_key, found.relay_endpoints, found.relay_tls_port)


def _trouble(directory: Directory, named: str, entry: RelayEntry) -> str:
    try:
        now = _fetch_entry(directory, entry.node)
    except Unavailable:
        return "not offered"
    return "" if now == entry else f"changed; run: zos network relay update {named}"
