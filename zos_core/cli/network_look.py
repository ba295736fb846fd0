"""`zos network list|show|diff|plan`: files, what is published, and what nodes made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
import msgspec

from overlay import addressing
from overlay.documents import schema, trust
from overlay.documents.schema import Member, Network, Result
from overlay.errors import Refused, Rejected
from overlay.keys.identity import Kind
from overlay.model import NetworkId
from zos_core.cli import local, output
from zos_core.cli.command import Command
from zos_core.cli.completion import complete_networks
from zos_core.cli.directory import Directory, choose_reference, registry_option
from zos_core.cli.exits import NotRunning
from zos_core.cli.home import Home
from zos_core.cli.publishing import NetworkEdit
from zos_core.files.difference import consequences, diff_networks, subnets
from zos_core.status import Plan, PlannedChange, PlanRequest, Status

_NET = click.argument("net", metavar="NET", shell_complete=complete_networks)


@click.command("list", cls=Command)
def list_() -> None:
    """List the network files of this machine.

    \b
    Examples:
      zos network list
    """
    home = Home()
    rows = [NetworkEdit(home, name) for name in home.file_names("networks")]
    value = [
        {
            "name": edit.file.name,
            "network": edit.id,
            "range": edit.file.range,
            "version": edit.file.version,
            "members": len(edit.file.members),
            "deleted": edit.file.deleted,
        }
        for edit in rows
    ]
    table = output.table(
        ("NAME", "RANGE", "MEMBERS", "VERSION", "NETWORK"),
        (
            tuple(str(v[k]) for k in ("name", "range", "members", "version", "network"))
            for v in value
        ),
    )
    output.show({"networks": value}, *table)
    if not rows:
        output.say("no networks yet; make one: zos network create NAME --range 10.1.0.0/16")


@click.command("show", cls=Command)
@_NET
@registry_option
def show(net: str, registry: str | None) -> None:
    """Show who is in a network, and what each node made of the published version.

    \b
    Examples:
      zos network show home
      zos network show net1... --json
    """
    directory, id, name = _subject(net, registry)
    with output.progress("asking the registry"):
        network = directory.fetch(f"network/{id}", Network)
        if network is None:
            raise Rejected(
                f"{name} is not published", field="NET", remedy=f"zos network publish {name}"
            )
        members = directory.fetch_all(Member, network=id)
        results = directory.fetch_all(Result, network=id)
    value = _view(network, members, results)
    output.show(value, *_lines(value))


@click.command("diff", cls=Command)
@_NET
@registry_option
def diff(net: str, registry: str | None) -> None:
    """Compare the file with what is published. Exit code 0, whether they differ or not.

    \b
    Examples:
      zos network diff home
    """
    edit = NetworkEdit(Home(), net, registry=registry)
    published = edit.directory().fetch(f"network/{edit.id}", Network)
    draft = edit.document(edit.file.version + 1)
    changes = diff_networks(published=published, draft=draft)
    value = {
        "network": edit.id,
        "name": edit.file.name,
        "version": edit.file.version,
        "published_version": published.version if published is not None else None,
        "differences": [msgspec.to_builtins(change) for change in changes],
    }
    output.show(value, *map(str, changes))
    if published is not None and published.version > edit.file.version:
        output.say(
            f"version {published.version} was published elsewhere; to publish over it, "
            f"set version = {published.version} in the file"
        )
    elif not changes:
        output.say("the file is what is published")


@click.command("plan", cls=Command)
@_NET
@registry_option
def plan(net: str, registry: str | None) -> None:
    """Show what publishing the file would change.

    On a node that is in the network: the exact changes to its kernel, before they are made.
    Elsewhere: what the members will change.

    \b
    Examples:
      zos network plan home
    """
    home = Home()
    if not home.file_path("networks", net).exists():
        network = local.choose_network(_node_status(home, net), net)
        changes = local.get("/v1/plan", Plan).changes
        return _show_changes(network.id, [c for c in changes if c.network == network.id])
    edit = NetworkEdit(home, net, registry=registry)
    draft = edit.document(edit.file.version + 1)
    if _is_here(edit.id):
        request = PlanRequest(msgspec.Raw(schema.encode(draft)))
        return _show_changes(edit.id, local.post("/v1/plan", request, Plan).changes)
    published = edit.directory().fetch(f"network/{edit.id}", Network)
    words = consequences(published=published, draft=draft)
    output.show({"network": edit.id, "at": "members", "changes": list(words)}, *words)
    if not words:
        output.say("nothing would change")
    return None


def _node_status(home: Home, net: str) -> Status:
    """The node's status; without a node there should have been a file."""
    try:
        return local.fetch_status()
    except NotRunning:
        home.read_file("networks", net)
        raise


def _is_here(network: NetworkId) -> bool:
    """Whether the node of this machine is in the network."""
    try:
        return any(network == there.id for there in local.fetch_status().networks)
    except (NotRunning, Refused):
        return False


def _show_changes(network: NetworkId | str, changes: Sequence[PlannedChange]) -> None:
    value = {"network": network, "at": "kernel", "changes": msgspec.to_builtins(changes)}
    output.show(value, *(f"{change.change}  ({change.reason})" for change in changes))
    if not changes:
        output.say("nothing would change")


def _subject(net: str, registry: str | None) -> tuple[Directory, NetworkId, str]:
    """Where to ask about a network, its id, and what to call it."""
    home = Home()
    if not net.startswith("net1") or home.file_path("networks", net).exists():
        edit = NetworkEdit(home, net, registry=registry)
        return edit.directory(), edit.id, edit.file.name
    reference = choose_reference(home, option=registry, file=None)
    caller = home.open_key(home.choose_key(Kind.TENANT, None))
    return Directory(reference, caller=caller), schema.parse_network_id(net, field="NET"), net


def _view(network: Network, members: Sequence[Member], results: Sequence[Result]) -> dict[str, Any]:
    roster = trust.Roster(network)
    joined = {member.node: member for member in members if _admitted(roster, member)}
    told = {result.node: result for result in results}
    named = {member.node for member in network.members}
    rows = [
        _member(network, m.name, "named", m.node, m.index, joined, told) for m in network.members
    ]
    rows += [
        _member(network, m.name, "invited", m.node, m.index, joined, told)
        for m in joined.values()
        if m.node not in named
    ]
    return {
        "network": roster.id,
        "name": network.name,
        "version": network.version,
        "range_v4": network.range,
        "range_v6": addressing.ula_range(roster.id),
        "deleted": network.deleted,
        "members": sorted(rows, key=lambda row: int(str(row["index"]))),
        "access": [
            {**msgspec.to_builtins(d), "subnets": subnets(network, d.index)} for d in network.access
        ],
        "invitations": [
            {
                "name": i.name,
                "uses": i.uses,
                "used": sum(m.invitation == i.key for m in joined.values()),
                "expires": output.rfc3339_unix(i.expires),
            }
            for i in network.invitations
        ],
        "policy": msgspec.to_builtins(network.policy),
        "relays": msgspec.to_builtins(network.relays),
    }


def _admitted(roster: trust.Roster, member: Member) -> bool:
    try:
        roster.admit(member)
    except Refused:
        return False
    return True


def _member(
    network: Network,
    name: str,
    by: str,
    node: str,
    index: int,
    joined: Mapping[str, Member],
    told: Mapping[str, Result],
) -> dict[str, Any]:
    member, result = joined.get(node), told.get(node)
    return {
        "name": name,
        "by": by,
        "node": node,
        "index": index,
        "subnets": subnets(network, index),
        "joined": member is not None,
        "endpoints": [c.endpoint for c in member.endpoints] if member is not None else [],
        "version": result.document_version if result is not None else None,
        "ok": result.ok if result is not None else None,
        "reason": result.reason if result is not None else None,
        "state": _state(network, member, result),
    }


def _state(network: Network, member: Member | None, result: Result | None) -> str:
    if result is not None and not result.ok:
        return f"error: {result.reason}"
    if result is not None and result.document_version < network.version:
        return f"behind: version {result.document_version}"
    if member is None:
        return "not joined"
    return "ok" if result is not None else "joined"


def _lines(value: Mapping[str, Any]) -> Iterator[str]:
    state = "deleted" if value["deleted"] else f"version {value['version']}"
    yield f"network {value['name']}  {value['network']}  {state}"
    yield f"range {value['range_v4']}  {value['range_v6']}"
    yield ""
    yield from output.table(
        ("NAME", "IPV4", "IPV6", "STATE", "NODE"),
        ((m["name"], *m["subnets"], m["state"], m["node"]) for m in value["members"]),
    )
    if value["access"]:
        yield ""
        yield from output.table(
            ("DEVICE", "IPV4", "IPV6", "VIA"),
            ((d["name"], *d["subnets"], d["via"]) for d in value["access"]),
        )
    if value["invitations"]:
        yield ""
        yield from output.table(
            ("INVITATION", "USED", "EXPIRES"),
            (
                (i["name"], f"{i['used']} of {i['uses']}", i["expires"])
                for i in value["invitations"]
            ),
        )
    if value["relays"]:
        yield ""
        yield from output.table(
            ("RELAY", "ENDPOINTS", "NODE"),
            ((r["name"], ",".join(r["endpoints"]), r["node"]) for r in value["relays"]),
        )
    if value["policy"]:
        yield ""
        yield from (_rule(rule) for rule in value["policy"])


def _rule(rule: Mapping[str, Any]) -> str:
    ports = f"/{','.join(rule.get('ports', ()))}" if rule.get("ports") else ""
    sides = f"{','.join(rule['from'])} -> {','.join(rule['to'])}"
    return f"allow {sides} {rule.get('protocol', 'any')}{ports}"
