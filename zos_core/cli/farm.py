"""`zos farm`: which nodes belong to an operator's farm."""

from __future__ import annotations

from typing import Any

import click

from overlay.documents import schema
from overlay.documents.fields import is_label
from overlay.errors import Conflict, Rejected
from overlay.keys import identity
from overlay.keys.identity import Kind
from zos_core.cli import output
from zos_core.cli.command import group
from zos_core.cli.completion import complete_farms
from zos_core.cli.directory import registry_option
from zos_core.cli.home import Home
from zos_core.cli.publishing import FarmEdit, finish_farm
from zos_core.files import farm as farm_files

_no_publish = click.option("--no-publish", is_flag=True, help="Edit the file only.")


@group("farm")
def farm() -> None:
    """Say which nodes belong to a farm.

    A farm is an operator's key and a signed list of nodes. The file is in $ZOS_HOME/farms; edit it
    by hand or with these commands.

    \b
    Examples:
      zos farm create basement
      zos farm add-node basement node1... --as n1
      zos farm show basement
    """


@farm.command("create")
@click.argument("name")
@click.option("--key", metavar="NAME", help="The farm key that signs; made when there is none.")
@registry_option
@_no_publish
def create(name: str, key: str | None, registry: str | None, no_publish: bool) -> None:
    """Create a farm, sign it and publish it.

    \b
    Examples:
      zos farm create basement --registry https://192.0.2.1:8443#registry1...
    """
    home = Home()
    if home.file_path("farms", name).exists():
        raise Conflict(f"there is a farm file {home.file_path('farms', name)}")
    signer = home.choose_or_make_key(Kind.FARM, key or name)
    text = farm_files.format_new(
        name.rpartition("/")[2].removesuffix(".toml"), farm=signer.id, registry=registry
    )
    edit = FarmEdit(home, name, registry=registry, text=text)
    edit.change(lambda text: text)
    finish_farm(edit, no_publish=no_publish, done=signer.id)


@farm.command("add-node")
@click.argument("farm_name", metavar="FARM", shell_complete=complete_farms)
@click.argument("node")
@click.option("--as", "name", metavar="NAME", help="What the operator calls the node.")
@registry_option
@_no_publish
def add_node(
    farm_name: str, node: str, name: str | None, registry: str | None, no_publish: bool
) -> None:
    """Enrol a node; `zos id show node` on it prints its id.

    \b
    Examples:
      zos farm add-node basement node1... --as n1
    """
    edit = FarmEdit(Home(), farm_name, registry=registry)
    identity.parse_id(Kind.NODE, node, field="NODE")
    name = name or f"n{len(edit.file.nodes) + 1}"
    if not is_label(name):
        raise Rejected(f"{name!r} is no name", field="--as", remedy="use letters, digits, hyphens")
    edit.change(lambda text: farm_files.add_node(text, name, node=node))
    finish_farm(edit, no_publish=no_publish, done=f"{name} is in farm {edit.file.name}")


@farm.command("remove-node")
@click.argument("farm_name", metavar="FARM", shell_complete=complete_farms)
@click.argument("node")
@registry_option
@_no_publish
def remove_node(farm_name: str, node: str, registry: str | None, no_publish: bool) -> None:
    """Take a node out of the farm.

    \b
    Examples:
      zos farm remove-node basement n1
    """
    edit = FarmEdit(Home(), farm_name, registry=registry)
    edit.change(lambda text: farm_files.remove_node(text, node))
    finish_farm(
        edit, no_publish=no_publish, done=f"{node} is not in farm {edit.file.name} any more"
    )


@farm.command("publish")
@click.argument("farm_name", metavar="FARM", shell_complete=complete_farms)
@registry_option
def publish(farm_name: str, registry: str | None) -> None:
    """Sign and publish the file after it was edited by hand.

    \b
    Examples:
      zos farm publish basement
    """
    edit = FarmEdit(Home(), farm_name, registry=registry)
    finish_farm(edit, no_publish=False, done=f"farm {edit.file.name} is published")


@farm.command("show")
@click.argument("farm_name", metavar="FARM", shell_complete=complete_farms)
@registry_option
def show(farm_name: str, registry: str | None) -> None:
    """Show the nodes of a farm, and what each says about itself.

    \b
    Examples:
      zos farm show basement
      zos farm show basement --json
    """
    edit = FarmEdit(Home(), farm_name, registry=registry)
    directory = edit.directory()
    published = directory.fetch(f"farm/{edit.file.farm}", schema.Farm)
    listed = set(published.nodes) if published else set()
    nodes: list[dict[str, Any]] = []
    for name, entry in sorted(edit.file.nodes.items()):
        node = directory.fetch(f"node/{entry.node}", schema.Node)
        nodes.append(
            {
                "name": name,
                "node": entry.node,
                "published": entry.node in listed,
                "software": node.software if node else None,
                "backend": node.backend if node else None,
                "relay": list(entry.relay),
                "relay_tls_port": entry.relay_tls_port,
                "relay_rate_mbit": entry.relay_rate_mbit,
                "relay_key": node.relay_key if node else None,
                "exit": entry.exit.uplink if entry.exit else None,
            }
        )
    rows = (
        (
            n["name"],
            n["software"] or "not seen yet",
            n["backend"] or "-",
            ",".join(entry for entry in n["relay"]) or "-",
            n["exit"] or "-",
            n["node"],
        )
        for n in nodes
    )
    header = f"farm {edit.file.name}  {edit.file.farm}  version {edit.file.version}"
    value = {
        "name": edit.file.name,
        "farm": edit.file.farm,
        "version": edit.file.version,
        "published_version": published.version if published else None,
        "nodes": nodes,
    }
    table = output.table(
        ("NAME", "SOFTWARE", "WIREGUARD", "RELAY", "EXIT", "NODE"), map(_texts, rows)
    )
    output.show(value, header, *table)


def _texts(row: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(map(str, row))
