"""What changes from one network document to the next, and what that means on the nodes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from overlay import addressing
from overlay.documents import trust
from overlay.documents.schema import Network
from overlay.model import Prefix

Section = Literal[
    "members",
    "invitations",
    "access",
    "policy",
    "relays",
    "exits",
    "published",
    "revoked",
    "network",
]


class Difference(msgspec.Struct, frozen=True):
    """One entry that is not the same; `before` or `after` is None when it comes or goes."""

    section: Section
    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def sign(self) -> str:
        return "+" if self.before is None else "-" if self.after is None else "~"

    def __str__(self) -> str:
        return f"{self.sign} {self.section} {self.name}{_values(self.before, self.after)}"


def diff_networks(*, published: Network | None, draft: Network) -> tuple[Difference, ...]:
    """Every difference, sorted; versions are not compared."""
    before = _entries(published) if published is not None else {}
    after = _entries(draft)
    keys = sorted(before.keys() | after.keys())
    return tuple(
        Difference(section, name, before.get((section, name)), after.get((section, name)))
        for section, name in keys
        if before.get((section, name)) != after.get((section, name))
    )


def consequences(*, published: Network | None, draft: Network) -> tuple[str, ...]:
    """What the members of the network will change, in words."""
    if draft.deleted:
        return ("every member takes the network down: netns, device, rules and keys",)
    lines: list[str] = []
    for difference in diff_networks(published=published, draft=draft):
        lines.extend(_consequence(difference, draft))
    return tuple(lines)


def subnets(network: Network, index: int) -> tuple[Prefix, Prefix]:
    """The two subnets of an index."""
    range_v6 = addressing.ula_range(trust.network_id(network.owners, network.name))
    range_v4 = addressing.parse_range(network.range)
    return addressing.subnet_v4(range_v4, index), addressing.subnet_v6(range_v6, index)


def _entries(network: Network) -> dict[tuple[Any, str], Mapping[str, Any]]:
    entries: dict[tuple[Any, str], Mapping[str, Any]] = {}
    for section in ("members", "invitations", "access", "relays"):
        for entry in getattr(network, section):
            fields = msgspec.to_builtins(entry)
            entries[section, fields.pop("name")] = fields
    for n, rule in enumerate(network.policy, 1):
        entries["policy", f"rule {n}"] = msgspec.to_builtins(rule)
    names = {member.node: member.name for member in network.members}
    for way in network.exits:
        entries["exits", names[way.node]] = {"order": way.order}
    for each in network.published:
        port = f"{each.protocol}/{each.port} at {names[each.exit]}"
        entries["published", port] = {"to": f"{each.workload}.{names[each.node]}:{each.target}"}
    for node in network.revoked:
        entries["revoked", node] = {}
    entries["network", network.name] = {
        "range": network.range,
        "deleted": network.deleted,
        "local_exits": network.local_exits,
    }
    return entries


def _values(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    if before is None or after is None:
        return "".join(f"  {key}={_text(value)}" for key, value in (before or after or {}).items())
    changed = (key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return "".join(
        f"  {key}: {_text(before.get(key))} => {_text(after.get(key))}" for key in sorted(changed)
    )


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _consequence(difference: Difference, draft: Network) -> Iterator[str]:
    name, before, after = difference.name, difference.before, difference.after
    match difference.section:
        case "members" | "access" if after is None:
            yield f"every member drops peer {name}"
        case "members" | "access":
            yield _joined(difference, draft)
        case "invitations":
            yield _invited(name, after)
        case "relays" | "exits" | "published":
            yield _way(difference)
        case "policy":
            yield "every member loads its firewall anew"
        case "revoked":
            yield f"{name} is {'refused' if after is not None else 'not refused any more'}"
        case "network" if before is not None and after is not None:
            if before["range"] != after["range"]:
                yield "every address changes; all members build the network anew"


def _way(difference: Difference) -> str:
    """How members meet, leave the network, and are reached from outside."""
    name, before, after = difference.name, difference.before, difference.after
    match difference.section:
        case "relays" if after is None:
            return f"no member reaches another by way of {name} any more"
        case "relays":
            return f"members that are hidden from each other register with {name}"
        case "exits" if after is None:
            return f"nothing leaves the network by {name} any more"
        case "exits" if before is not None:
            return f"{name} is tried in another order"
    if after is None:
        return f"{name} is not published any more; what is open there ends"
    if difference.section == "exits":
        return f"members may leave the network by {name}"
    return f"{name} leads to {after['to']}, whatever the policy says"


def _joined(difference: Difference, draft: Network) -> str:
    name, after = difference.name, difference.after or {}
    prefixes = " and ".join(subnets(draft, after["index"]))
    verb = "gets" if difference.before is None else "changes"
    if difference.section == "members":
        return f"{name} joins; every other member {verb} peer {name}: {prefixes}"
    return f"{after['via']} {verb} peer {name}: {prefixes}; others route it there"


def _invited(name: str, after: Mapping[str, Any] | None) -> str:
    if after is None:
        return f"token {name} is void; members who joined with it lose their membership"
    return f"up to {after['uses']} nodes may join with token {name}"
