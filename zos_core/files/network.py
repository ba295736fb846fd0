"""The network file that a tenant edits, and the network document that it says.

Edits go from text to text and keep comments and order. Names that people use stay in the file;
the document holds ids and indexes only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import tomlkit
from msgspec import Meta

from overlay import addressing
from overlay.documents import schema
from overlay.documents.exits import MAX_ORDER, Exit
from overlay.documents.fields import MAX_VERSION, IdText, Index, Label, Version
from overlay.documents.relays import Relay, TlsPort
from overlay.documents.schema import Network
from overlay.errors import Conflict, Rejected
from zos_core.files import published
from zos_core.files.published import PublishedEntry, published_document
from zos_core.files.toml import parse_toml, set_version

FIRST_INDEX = 1  # index 0 is valid; 10.1.1.0/24 for the first member reads better than 10.1.0.0/24


class OwnersEntry(msgspec.Struct, frozen=True):
    """Whose signatures make the document."""

    keys: tuple[IdText, ...]
    threshold: int = 1


class MemberEntry(msgspec.Struct, frozen=True):
    """A node that joins by itself."""

    node: IdText
    index: Index


class InvitationEntry(msgspec.Struct, frozen=True):
    """A token that was given out; `key` is its public half."""

    key: IdText
    first_index: Index
    expires: datetime
    uses: Annotated[int, Meta(ge=1, le=schema.MAX_INVITATION_USES)] = 1


class AccessEntry(msgspec.Struct, frozen=True):
    """A device without zos; `via` is the name of a member, or a node id."""

    public_key: str
    index: Index
    via: str


class RelayEntry(msgspec.Struct, frozen=True):
    """By way of whom members reach each other; the first in the file comes first."""

    node: IdText
    public_key: str
    endpoints: tuple[str, ...]
    tls_port: TlsPort | None = None


class ExitEntry(msgspec.Struct, frozen=True):
    """A member that may be the way to the internet; the name is the member's."""

    order: Annotated[int, Meta(ge=0, le=MAX_ORDER)] = 0  # lower ones are preferred


class PolicyEntry(msgspec.Struct, frozen=True, rename={"source": "from"}):
    """Traffic that is allowed; without any entry everything inside the network is."""

    source: tuple[str, ...]
    to: tuple[str, ...]
    protocol: Literal["any", "tcp", "udp", "icmp"] = "any"
    ports: tuple[int | str, ...] = ()


class NetworkFile(msgspec.Struct, frozen=True):
    """One tenant network as its owner writes it."""

    name: Label
    range: str
    owners: OwnersEntry
    version: Annotated[int, Meta(ge=0, le=MAX_VERSION)] = 0  # signed last; 0 for never
    registry: str | None = None
    revoked: tuple[IdText, ...] = ()
    deleted: bool = False
    members: dict[Label, MemberEntry] = {}
    invitations: dict[Label, InvitationEntry] = {}
    access: dict[Label, AccessEntry] = {}
    policy: tuple[PolicyEntry, ...] = ()
    relays: dict[Label, RelayEntry] = {}
    exits: dict[Label, ExitEntry] = {}
    local_exits: bool = False
    published: tuple[PublishedEntry, ...] = ()


def parse_network_file(text: str) -> NetworkFile:
    """Raises Rejected naming the key that is wrong."""
    return parse_toml(text, NetworkFile, what="network file")


def network_document(file: NetworkFile, version: Version) -> Network:
    """The document that the file says, as every node will read it. Raises Rejected."""
    document = Network(
        name=file.name,
        version=version,
        owners=owners(file),
        range=file.range,
        members=tuple(
            schema.NamedMember(name, entry.node, entry.index)
            for name, entry in sorted(file.members.items())
        ),
        invitations=tuple(
            schema.Invitation(name, i.key, i.first_index, i.uses, _unix(i.expires, name))
            for name, i in sorted(file.invitations.items())
        ),
        access=tuple(
            schema.AccessDevice(name, entry.public_key, entry.index, _via(file, entry.via, name))
            for name, entry in sorted(file.access.items())
        ),
        policy=tuple(
            schema.Rule(rule.source, rule.to, rule.protocol, tuple(map(str, rule.ports)))
            for rule in file.policy
        ),
        revoked=tuple(sorted(file.revoked)),
        relays=tuple(
            Relay(name, entry.node, entry.public_key, entry.endpoints, entry.tls_port)
            for name, entry in file.relays.items()
        ),
        exits=tuple(
            Exit(_member(file, name, f"exits.{name}"), entry.order)
            for name, entry in sorted(file.exits.items())
        ),
        local_exits=file.local_exits,
        published=published_document(
            file.published,
            name=file.name,
            nodes={name: entry.node for name, entry in file.members.items()},
            exits=file.exits,
        ),
        deleted=file.deleted,
    )
    parsed = schema.parse_document(schema.encode(document), schema.payload_type("network"))
    assert isinstance(parsed, Network)  # noqa: S101 - what the payload type above says
    return parsed


def owners(file: NetworkFile) -> schema.Owners:
    """The owners as the document says them; order in the file has no meaning."""
    return schema.Owners(file.owners.threshold, tuple(sorted(file.owners.keys)))


def format_new(
    name: str, *, range_v4: str, keys: tuple[str, ...], threshold: int, registry: str | None
) -> str:
    """The text of a file for a network that does not exist yet."""
    quoted = ", ".join(f'"{key}"' for key in keys)
    lines = [
        f"# Tenant network {name}. Edit it here, then run: zos network publish {name}",
        "# Commands such as `zos network add-node` edit this file too and keep comments.",
        f'name = "{name}"',
        "version = 0  # signed last; written by zos",
        f'range = "{range_v4}"',
        *([f'registry = "{registry}"'] if registry else []),
        "",
        "[owners]  # part of the network's id: another owner makes another network",
        f"keys = [{quoted}]",
        f"threshold = {threshold}",
    ]
    return "\n".join(lines) + "\n"


def free_index(file: NetworkFile, count: int = 1) -> int:
    """The first of `count` free indexes in a row. Raises Rejected when the range is full."""
    room = addressing.index_count(addressing.parse_range(file.range, field="range"))
    start = FIRST_INDEX
    for first, stop in sorted(_spans(file)):
        if start + count <= first:
            break
        start = max(start, stop)
    if start + count > room:
        raise Rejected(
            f"{file.range} has no {count} free indexes in a row",
            field="range",
            remedy="remove a member or use a larger range",
        )
    return start


def add_member(text: str, name: str, *, node: str, index: int) -> str:
    for known, entry in parse_network_file(text).members.items():
        if entry.node == node:
            raise Conflict(f"{known!r} is that node already", field=f"members.{known}")
    return _add(text, "members", name, {"node": node, "index": index}, unrevoke=node)


def add_invitation(
    text: str, name: str, *, key: str, first_index: int, uses: int, expires: datetime
) -> str:
    entry = {"key": key, "first_index": first_index, "uses": uses, "expires": expires}
    return _add(text, "invitations", name, entry)


def add_access(text: str, name: str, *, public_key: str, index: int, via: str) -> str:
    return _add(text, "access", name, {"public_key": public_key, "index": index, "via": via})


def add_relay(text: str, name: str, entry: RelayEntry) -> str:
    """The file with one more relay. Raises Conflict when the name or the node is there."""
    for known, there in parse_network_file(text).relays.items():
        if name == known or entry.node == there.node:
            raise Conflict(f"{known!r} is a relay already", field=f"relays.{known}")
    return set_relay(text, name, entry)


def set_relay(text: str, name: str, entry: RelayEntry) -> str:
    """The file with this relay under this name."""

    def change(tree: tomlkit.TOMLDocument) -> None:
        if "relays" not in tree:
            tree["relays"] = tomlkit.table(is_super_table=True)
        if name not in tree["relays"]:
            tree["relays"][name] = tomlkit.table()
        table = tree["relays"][name]
        table.update({k: v for k, v in msgspec.to_builtins(entry).items() if v is not None})
        if entry.tls_port is None:
            table.pop("tls_port", None)

    return _edited(text, change)


def set_exits(text: str, names: Mapping[str, int], *, local: bool = False) -> str:
    """The file with these members as exits, by order, and no others.

    `local`: what is on a node leaves by the node itself, where its operator offers it.
    Raises Rejected naming the first that is no member.
    """
    file = parse_network_file(text)
    for name in names:
        _member(file, name, "NODE")

    def change(tree: tomlkit.TOMLDocument) -> None:
        tree.pop("exits", None)
        tree.pop("local_exits", None)
        if local:
            tree["local_exits"] = True
        if not names:
            return
        tree["exits"] = tomlkit.table(is_super_table=True)
        for name, order in names.items():
            entry = tomlkit.table()
            entry.update({"order": order})
            tree["exits"][name] = entry

    return _edited(text, change)


def add_published(text: str, entries: Iterable[PublishedEntry]) -> str:
    """The file with these published as well. Raises Conflict when one of the ports is."""
    return _edited(text, lambda tree: published.add(tree, entries))


def remove_published(text: str, *, port: str, exits: Iterable[str]) -> str:
    """The file without this port, at these exits or at all. Raises Rejected when it is not."""
    return _edited(text, lambda tree: published.remove(tree, port=port, exits=exits))


def remove_entry(
    text: str, section: Literal["members", "invitations", "access", "relays"], name: str
) -> str:
    """The file without the entry. Raises Rejected naming what is there instead."""
    tree = tomlkit.parse(text)
    known: Mapping[str, Any] = tree.get(section, {})
    if name not in known:
        there = ", ".join(sorted(known)) or "nothing"
        raise Rejected(f"{section} has no {name!r}", field=section, remedy=f"it has {there}")
    del tree[section][name]
    if section == "members" and name in tree.get("exits", {}):
        del tree["exits"][name]
    if section == "members":
        published.remove_member(tree, name)
    return _checked(tomlkit.dumps(tree))


def revoke(text: str, node: str) -> str:
    """The file with a node refused that had joined by invitation."""

    def change(tree: tomlkit.TOMLDocument) -> None:
        tree["revoked"] = sorted({*tree.get("revoked", ()), node})

    return _edited(text, change)


def delete(text: str) -> str:
    """The file of a network that is no more: every node that sees it takes it down."""

    def change(tree: tomlkit.TOMLDocument) -> None:
        tree["deleted"] = True

    return _edited(text, change)


def signed_as(text: str, version: int) -> str:
    """The file after its document was signed as `version`."""
    return set_version(text, version)


def _add(
    text: str, section: str, name: str, entry: Mapping[str, Any], *, unrevoke: str | None = None
) -> str:
    file = parse_network_file(text)
    for there in ("members", "invitations", "access"):
        if name in getattr(file, there):
            raise Conflict(
                f"{file.name} has {name!r} already", field=there, remedy="choose another name"
            )

    def change(tree: tomlkit.TOMLDocument) -> None:
        table = tomlkit.table()
        table.update(entry)
        if section not in tree:
            tree[section] = tomlkit.table(is_super_table=True)
        tree[section][name] = table
        if unrevoke in file.revoked:
            tree["revoked"] = [node for node in file.revoked if node != unrevoke]

    return _edited(text, change)


def _edited(text: str, change: Callable[[tomlkit.TOMLDocument], None]) -> str:
    tree = tomlkit.parse(text)
    change(tree)
    return _checked(tomlkit.dumps(tree))


def _checked(text: str) -> str:
    parse_network_file(text)
    return text


def _spans(file: NetworkFile) -> list[tuple[int, int]]:
    single = [e.index for e in file.members.values()] + [e.index for e in file.access.values()]
    ranges = [(i.first_index, i.first_index + i.uses) for i in file.invitations.values()]
    return [(index, index + 1) for index in single] + ranges


def _member(file: NetworkFile, name: str, field: str) -> str:
    if name in file.members:
        return file.members[name].node
    raise Rejected(
        f"{name!r} is no member",
        field=field,
        remedy=f"members are {', '.join(sorted(file.members)) or 'none yet'}",
    )


def _via(file: NetworkFile, via: str, device: str) -> str:
    if via in file.members:
        return file.members[via].node
    if via.startswith("node1"):
        return via
    raise Rejected(
        f"{via!r} is no member",
        field=f"access.{device}.via",
        remedy=f"members are {', '.join(sorted(file.members)) or 'none yet'}",
    )


def _unix(at: datetime, name: str) -> int:
    if at.tzinfo is None:
        raise Rejected(
            "has no time zone", field=f"invitations.{name}.expires", remedy="write it with a Z"
        )
    return int(at.astimezone(UTC).timestamp())
