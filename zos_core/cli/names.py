"""From names that people use to ids, by files on this machine only (CLI-005)."""

from __future__ import annotations

from typing import NamedTuple

from overlay.errors import Conflict, Rejected
from overlay.keys import identity
from overlay.keys.identity import Kind
from overlay.model import NodeId
from zos_core.cli.home import Home
from zos_core.files.farm import parse_farm_file
from zos_core.files.toml import nearest


class ChosenNode(NamedTuple):
    id: NodeId
    name: str | None  # what a farm file calls it


def farm_nodes(home: Home) -> list[tuple[str, str, NodeId]]:
    """Farm, name and id of every node in the farm files."""
    found = []
    for farm in home.file_names("farms"):
        file = parse_farm_file(home.read_file("farms", farm))
        found += [(farm, name, NodeId(entry.node)) for name, entry in sorted(file.nodes.items())]
    return found


def choose_node(home: Home, text: str) -> ChosenNode:
    """The node that is meant. Raises Rejected when unknown, Conflict when two have the name."""
    nodes = farm_nodes(home)
    if text.startswith("node1"):
        identity.parse_id(Kind.NODE, text, field="NODE")
        return ChosenNode(NodeId(text), next((n for _, n, id in nodes if id == text), None))
    matches = {id: farm for farm, name, id in nodes if name == text}
    if len(matches) > 1:
        both = ", ".join(f"{id} in {farm}" for id, farm in sorted(matches.items()))
        raise Conflict(f"{text!r} is {both}", field="NODE", remedy="give the id")
    if not matches:
        guess = nearest(text, [name for _, name, _ in nodes])
        hint = f"did you mean {guess}? " if guess else ""
        raise Rejected(
            f"no farm file on this machine has a node {text!r}",
            field="NODE",
            remedy=f"{hint}give the id; `zos id show node` on the node prints it",
        )
    return ChosenNode(next(iter(matches)), text)
