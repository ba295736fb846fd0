"""`zos id`: the keys of this machine. Shows ids, never keys."""

from __future__ import annotations

import click

from overlay.errors import Conflict, Rejected
from overlay.keys import store
from overlay.keys.identity import Kind
from zos_core.cli import output
from zos_core.cli.command import group
from zos_core.cli.home import Home, KeyFile, read_passphrase
from zos_core.cli.state import node_key_path

PERSONAL = (Kind.TENANT, Kind.FARM)
# Values, not members: click would offer the names of an enum.
_KIND = click.Choice([kind.value for kind in (*PERSONAL, Kind.NODE)])
_PERSONAL = click.Choice([kind.value for kind in PERSONAL])


@group("id")
def id_() -> None:
    """Make, show and seal keys.

    A tenant key signs networks, a farm key says which nodes belong to a farm; both stay on this
    machine. A node's key is made on the node when it first starts and never leaves it.

    \b
    Examples:
      zos id new tenant alice --seal
      zos id show
    """


@id_.command("new")
@click.argument("kind", type=_KIND)
@click.argument("name", required=False)
@click.option("--seal", is_flag=True, help="Put the key under a passphrase.")
def new(kind: str, name: str | None, seal: bool) -> None:
    """Make a key and print its id.

    The passphrase of --seal is asked for, or read from the file that ZOS_PASSPHRASE_FILE names.

    \b
    Examples:
      zos id new tenant alice --seal
      zos id new farm basement
      sudo zos id new node
    """
    if Kind(kind) is Kind.NODE:
        made = store.load_or_create(node_key_path(), Kind.NODE)
        output.show({"kind": kind, "name": None, "id": made.id, "sealed": False}, made.id)
        return
    if name is None:
        raise click.UsageError("a name is missing: zos id new " + kind + " NAME")
    path = Home().key_path(Kind(kind), name)
    if path.exists():
        raise Conflict(f"there is a {kind} key {name!r}", remedy="choose another name")
    identity = store.generate(Kind(kind))
    passphrase = read_passphrase("New passphrase", confirm=True) if seal else None
    with output.progress("sealing the key"):
        store.save(path, identity, passphrase=passphrase)
    output.say(f"wrote {path}")
    output.show({"kind": kind, "name": name, "id": identity.id, "sealed": seal}, identity.id)


@id_.command("show")
@click.argument("kind", type=_KIND, required=False)
@click.argument("name", required=False)
def show(kind: str | None, name: str | None) -> None:
    """Show the keys of this machine, or print the id of one.

    \b
    Examples:
      zos id show
      zos id show tenant alice
      sudo zos id show node
    """
    if kind == Kind.NODE:
        id = store.load_id(node_key_path(), Kind.NODE)
        output.show(
            {"id": id, "keys": [{"kind": kind, "name": None, "id": id, "sealed": False}]}, id
        )
        return
    home = Home()
    kinds = PERSONAL if kind is None else (Kind(kind),)
    keys = [key for each in kinds for key in home.keys(each) if name in (None, key.name, key.id)]
    if name is not None and not keys:
        raise Rejected(f"there is no {kind} key {name!r}", remedy=f"zos id new {kind} {name}")
    rows = ((key.kind, key.name, "sealed" if key.sealed else "plain", key.id) for key in keys)
    lines = [keys[0].id] if name else output.table(("KIND", "NAME", "KEY", "ID"), rows)
    one = {"id": keys[0].id} if name else {}
    output.show({**one, "keys": [_json(key) for key in keys]}, *lines)
    if not keys:
        output.say("no keys yet; make one: zos id new tenant NAME")


@id_.command("seal")
@click.argument("kind", type=_PERSONAL)
@click.argument("name")
def seal(kind: str, name: str) -> None:
    """Put a key under a passphrase.

    \b
    Examples:
      zos id seal tenant alice
    """
    key = Home().choose_key(Kind(kind), name)
    if key.sealed:
        raise Conflict(f"{kind} {name} is sealed already")
    with output.progress("sealing the key"):
        store.seal(key.path, key.kind, read_passphrase("New passphrase", confirm=True))
    output.show(_json(key) | {"sealed": True}, f"{kind} {name} is sealed")


def _json(key: KeyFile) -> dict[str, object]:
    return {"kind": key.kind, "name": key.name, "id": key.id, "sealed": key.sealed}
