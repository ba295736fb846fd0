"""`[[published]]` of a network file, as a tenant writes it: ports of exits that lead to workloads.

The names are those of the file; the document has ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
import tomlkit
from msgspec import Meta

from overlay.documents.fields import is_label
from overlay.documents.published import Published, parse_ports
from overlay.errors import Conflict, Rejected

_TO = re.compile(
    r"(?P<workload>[^.:]+)\.(?P<member>[^.:]+)(?::(?P<port>[1-9][0-9]{0,4}))?", re.ASCII
)
_HOW_TARGETS_ARE_WRITTEN = "write web.n1:80: the workload web of the member n1, its port 80"


class PublishedEntry(msgspec.Struct, frozen=True):
    """Who asks this port of the exit's public addresses reaches the workload."""

    port: Annotated[str, Meta(max_length=16)]  # tcp/8080
    exit: str  # name of a member that is an exit
    to: Annotated[str, Meta(max_length=140)]  # web.n1:80

    @property
    def key(self) -> tuple[str, str]:
        return self.exit, self.port


def published_document(
    entries: Iterable[PublishedEntry],
    *,
    name: str,
    nodes: Mapping[str, str],
    exits: Iterable[str],
) -> tuple[Published, ...]:
    """What the document of network `name` says. `nodes` are ids by the names of members.

    Raises Rejected naming the key in the file.
    """
    named = frozenset(exits)
    return tuple(
        _published(entry, f"published[{n}]", network=name, nodes=nodes, exits=named)
        for n, entry in enumerate(entries)
    )


def format_to(workload: str, member: str, port: int) -> str:
    return f"{workload}.{member}:{port}"


def add(tree: tomlkit.TOMLDocument, entries: Iterable[PublishedEntry]) -> None:
    """The file publishes these as well. Raises Conflict when it has one of the ports already."""
    known = {(each["exit"], each["port"]): each["to"] for each in tree.get("published", ())}
    for entry in entries:
        if entry.key in known:
            raise Conflict(
                f"{entry.port} of {entry.exit} leads to {known[entry.key]} already",
                field="published",
                remedy="remove it first: zos network service remove",
            )
        table = tomlkit.table()
        table.update(msgspec.to_builtins(entry))
        if "published" not in tree:
            tree["published"] = tomlkit.aot()
        tree["published"].append(table)


def remove(tree: tomlkit.TOMLDocument, *, port: str, exits: Iterable[str]) -> None:
    """The port is not published any more, at these exits or at any if none is given.

    Raises Rejected naming what is published instead.
    """
    at = frozenset(exits)
    known = [(each["exit"], each["port"]) for each in tree.get("published", ())]
    chosen = [key for key in known if key[1] == port and (not at or key[0] in at)]
    if missing := (at - {name for name, _ in chosen}) or (set() if chosen else {"any exit"}):
        there = ", ".join(f"{text} at {name}" for name, text in known) or "nothing"
        raise Rejected(
            f"{port} is not published at {min(missing)}",
            field="published",
            remedy=f"published: {there}",
        )
    _keep(tree, lambda each: (each["exit"], each["port"]) not in chosen)


def remove_member(tree: tomlkit.TOMLDocument, name: str) -> None:
    """Nothing is published at this member, and none of its workloads is."""
    _keep(tree, lambda each: each["exit"] != name and _member_of(each["to"]) != name)


def _keep(tree: tomlkit.TOMLDocument, wanted: Any) -> None:
    entries = tree.get("published", ())
    for n in reversed(range(len(entries))):
        if not wanted(entries[n]):
            del entries[n]
    if "published" in tree and not entries:
        del tree["published"]


def _member_of(to: str) -> str | None:
    match = _TO.fullmatch(to)
    return match["member"] if match else None


def _published(
    entry: PublishedEntry,
    field: str,
    *,
    network: str,
    nodes: Mapping[str, str],
    exits: frozenset[str],
) -> Published:
    span = parse_ports(entry.port, field=f"{field}.port")
    if span.first != span.last:
        raise Rejected(f"{entry.port} is more than one port", field=f"{field}.port")
    if entry.exit not in exits:
        raise Rejected(
            f"{entry.port} is published at {entry.exit!r}, which is no exit of {network}",
            field=f"{field}.exit",
            remedy=f"zos network exit set {network} {entry.exit}, "
            f"or: zos network service remove {network} {entry.port}",
        )
    match = _TO.fullmatch(entry.to)
    target = int(match["port"] or span.first) if match else 0
    if match is None or not is_label(match["workload"]) or target > 65_535:
        raise Rejected(
            f"{entry.to!r} is no workload with a port",
            field=f"{field}.to",
            remedy=_HOW_TARGETS_ARE_WRITTEN,
        )
    if (node := nodes.get(match["member"])) is None:
        raise Rejected(
            f"{match['member']!r} is no member",
            field=f"{field}.to",
            remedy=f"members are {', '.join(sorted(nodes)) or 'none yet'}",
        )
    return Published(nodes[entry.exit], span.protocol, span.first, node, match["workload"], target)
