"""The farm file that an operator edits, and the farm document that it says."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
import tomlkit
from msgspec import Meta

from overlay.documents import schema
from overlay.documents.fields import MAX_VERSION, EndpointText, IdText, Label, RateMbit, Version
from overlay.documents.relays import MAX_RELAY_ENDPOINTS, RelayOffer, TlsPort
from overlay.documents.schema import Farm
from overlay.errors import Conflict, Rejected
from zos_core.files.exit_entry import ExitEntry, exit_offer, written_defaults
from zos_core.files.toml import parse_toml, set_version


class NodeEntry(msgspec.Struct, frozen=True):
    """A node of the farm, under the name that the operator gives it."""

    node: IdText
    # Where tenants reach it as a relay, one endpoint of each family; none: it is no relay.
    relay: Annotated[tuple[EndpointText, ...], Meta(max_length=MAX_RELAY_ENDPOINTS)] = ()
    # Where else, by TLS over TCP at the same addresses; none: by UDP alone.
    relay_tls_port: TlsPort | None = None
    # How much each member may send through it.
    relay_rate_mbit: RateMbit = 0
    # How it lets the traffic of tenants out; none: it is no exit.
    exit: ExitEntry | None = None


class FarmFile(msgspec.Struct, frozen=True):
    """One farm as its operator writes it."""

    name: Label
    farm: IdText
    version: Annotated[int, Meta(ge=0, le=MAX_VERSION)] = 0  # signed last; 0 for never
    registry: str | None = None
    nodes: dict[Label, NodeEntry] = {}


def parse_farm_file(text: str) -> FarmFile:
    """Raises Rejected naming the key that is wrong."""
    return parse_toml(text, FarmFile, what="farm file")


def farm_document(file: FarmFile, version: Version) -> Farm:
    """The document that the file says, as every node will read it. Raises Rejected."""
    nodes = tuple(sorted(entry.node for entry in file.nodes.values()))
    offers = (
        RelayOffer(entry.node, entry.relay, entry.relay_tls_port, entry.relay_rate_mbit)
        for entry in file.nodes.values()
        if entry.relay
    )
    exits = (
        exit_offer(entry.exit, node=entry.node, name=name)
        for name, entry in file.nodes.items()
        if entry.exit
    )
    document = Farm(
        farm=file.farm,
        version=version,
        name=file.name,
        nodes=nodes,
        relays=tuple(sorted(offers, key=lambda offer: offer.node)),
        exits=tuple(sorted(exits, key=lambda offer: offer.node)),
    )
    parsed = schema.parse_document(schema.encode(document), schema.payload_type("farm"))
    assert isinstance(parsed, Farm)  # noqa: S101 - what the payload type above says
    return parsed


def format_new(name: str, *, farm: str, registry: str | None) -> str:
    """The text of a file for a farm that does not exist yet."""
    lines = [
        f"# Farm {name}. Edit it here, then run: zos farm publish {name}",
        f'name = "{name}"',
        "version = 0  # signed last; written by zos",
        f'farm = "{farm}"',
        *([f'registry = "{registry}"'] if registry else []),
    ]
    return "\n".join(lines) + "\n"


def add_node(text: str, name: str, *, node: str) -> str:
    """The file with one more node. Raises Conflict when the name or the node is there."""
    file = parse_farm_file(text)
    for known, entry in file.nodes.items():
        if name == known or node == entry.node:
            raise Conflict(f"{file.name} has {known!r} ({entry.node}) already", field="nodes")
    tree = tomlkit.parse(text)
    if "nodes" not in tree:
        tree["nodes"] = tomlkit.table(is_super_table=True)
    table = tomlkit.table()
    table["node"] = node
    tree["nodes"][name] = table
    return tomlkit.dumps(tree)


def remove_node(text: str, name: str) -> str:
    """The file without the node that has this name or id."""
    known = _name_of(parse_farm_file(text), name)
    tree = tomlkit.parse(text)
    del tree["nodes"][known]
    return tomlkit.dumps(tree)


def offer_relay(
    text: str,
    name: str,
    *,
    endpoints: tuple[str, ...],
    tls_port: int | None = None,
    rate_mbit: int = 0,
) -> str:
    """The file with the node offered as a relay; the node is named, or given by its id."""
    known = _name_of(parse_farm_file(text), name)
    tree = tomlkit.parse(text)
    _write_relay(tree["nodes"][known], list(endpoints), tls_port, rate_mbit)
    return tomlkit.dumps(tree)


def withdraw_relay(text: str, name: str) -> str:
    """The file without the offer. Raises Rejected when the node is not offered."""
    file = parse_farm_file(text)
    known = _name_of(file, name)
    if not file.nodes[known].relay:
        there = ", ".join(sorted(n for n, entry in file.nodes.items() if entry.relay)) or "none"
        raise Rejected(f"{known} is not offered", field="nodes", remedy=f"relays: {there}")
    tree = tomlkit.parse(text)
    _write_relay(tree["nodes"][known], [], None, 0)
    return tomlkit.dumps(tree)


def _write_relay(
    node: MutableMapping[str, Any], endpoints: list[str], tls_port: int | None, rate_mbit: int
) -> None:
    """All that is said of a node as a relay; what says nothing is not written."""
    said = {"relay": endpoints, "relay_tls_port": tls_port, "relay_rate_mbit": rate_mbit}
    for key, value in said.items():
        if value:
            node[key] = value
        else:
            node.pop(key, None)


def offer_exit(text: str, name: str, *, entry: Mapping[str, Any]) -> str:
    """The file with the node offered as an exit as `entry` says, by keys of ExitEntry.

    An offer that is there is replaced, its comments stay, and so does a drain: that a node is
    about to be taken out of use is no part of how it is connected.
    """
    known = _name_of(parse_farm_file(text), name)
    tree = tomlkit.parse(text)
    node = tree["nodes"][known]
    if "exit" not in node:
        inline = isinstance(node, tomlkit.items.InlineTable)  # holds no other kind of table
        node["exit"] = tomlkit.inline_table() if inline else tomlkit.table()
    table = node["exit"]
    defaults = written_defaults()
    for key in (each for each in ExitEntry.__struct_fields__ if each in entry):
        value = entry[key]
        plain = list(value) if isinstance(value, tuple) else value
        if key in defaults and value == defaults[key]:
            table.pop(key, None)
        elif key not in table or table[key] != plain:
            table[key] = plain
    return tomlkit.dumps(tree)


def drain_exit(text: str, name: str, *, until: datetime | None) -> str:
    """The file with the exit draining until then, or not any more.

    Raises Rejected when the node is no exit, or does not drain and should stop to.
    """
    known = _exit_of(parse_farm_file(text), name)
    tree = tomlkit.parse(text)
    table = tree["nodes"][known]["exit"]
    if until is not None:
        table["draining_until"] = until
    elif table.pop("draining_until", None) is None:
        raise Rejected(f"{known} does not drain", field=f"nodes.{known}.exit.draining_until")
    return tomlkit.dumps(tree)


def withdraw_exit(text: str, name: str) -> str:
    """The file without the offer. Raises Rejected when the node is no exit."""
    known = _exit_of(parse_farm_file(text), name)
    tree = tomlkit.parse(text)
    del tree["nodes"][known]["exit"]
    return tomlkit.dumps(tree)


def signed_as(text: str, version: int) -> str:
    """The file after its document was signed as `version`."""
    return set_version(text, version)


def _name_of(file: FarmFile, name: str) -> str:
    """What the file calls the node that has this name or id. Raises Rejected."""
    names = [known for known, entry in file.nodes.items() if name in (known, entry.node)]
    if not names:
        there = ", ".join(sorted(file.nodes)) or "none"
        raise Rejected(f"{file.name} has no node {name!r}", field="nodes", remedy=f"nodes: {there}")
    return names[0]


def _exit_of(file: FarmFile, name: str) -> str:
    """What the file calls the node, which is offered as an exit. Raises Rejected."""
    known = _name_of(file, name)
    if file.nodes[known].exit is None:
        there = ", ".join(sorted(n for n, entry in file.nodes.items() if entry.exit)) or "none"
        raise Rejected(f"{known} is not offered", field="nodes", remedy=f"exits: {there}")
    return known
