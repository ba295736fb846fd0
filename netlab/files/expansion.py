"""One entry into the many that it stands for: counts, chains and names with a `*`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from netlab.topology import ExitOffer, Lan, Link, Node, Router
from overlay.errors import Rejected

NUMBER = "{n}"


def numbered(name: str, count: int) -> list[str]:
    """NAME-1 to NAME-count; a name with {n} has the number there."""
    pattern = name if NUMBER in name else f"{name}-{NUMBER}"
    return [pattern.replace(NUMBER, str(number)) for number in range(1, count + 1)]


def numbered_nodes(pattern: Node, count: int) -> Iterator[Node]:
    """As many nodes; {n} in any text of theirs is their number."""
    for number, name in enumerate(numbered(pattern.name, count), 1):
        yield Node(
            name,
            tuple(_numbered_link(link, number) for link in pattern.links),
            role=pattern.role,
            run=tuple(
                tuple(word.replace(NUMBER, str(number)) for word in argv) for argv in pattern.run
            ),
            relay=pattern.relay,
            exit=None if pattern.exit is None else _numbered_exit(pattern.exit, number),
        )


def numbered_routers(pattern: Router, count: int) -> Iterator[Router]:
    for number, name in enumerate(numbered(pattern.name, count), 1):
        yield replace(pattern, name=name, uplink=_numbered_link(pattern.uplink, number))


def numbered_lans(pattern: Lan, count: int) -> Iterator[Lan]:
    for number, name in enumerate(numbered(pattern.name, count), 1):
        yield Lan(name, pattern.gateway.replace(NUMBER, str(number)))


def chained(nodes: Iterable[Node]) -> tuple[list[Node], list[Lan]]:
    """Each node behind the one before it: a LAN for every two, whose gateway is the former.

    The first link of each leads to the former; the first node's stays as it is. Raises Rejected
    for a node without links.
    """
    linked: list[Node] = []
    lans: list[Lan] = []
    for node in nodes:
        if not node.links:
            raise Rejected("has no link to begin with", field="chain", remedy="add link")
        if linked:
            former = linked[-1]
            lan = Lan(f"{former.name}-lan", gateway=former.name)
            lans.append(lan)
            linked[-1] = replace(former, links=(*former.links, Link(lan.name, _free_name(former))))
            first, *others = node.links
            node = replace(node, links=(replace(first, to=lan.name), *others))  # noqa: PLW2901
        linked.append(node)
    return linked, lans


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that the pattern stands for, in their order; one without `*` is itself."""
    if "*" not in pattern:
        return [pattern]
    return [name for name in names if _matches(name, pattern)]


def _matches(name: str, pattern: str) -> bool:
    """In one pass: the first fit of each part is as good as any, where `*` is all there is."""
    first, *middle, last = pattern.split("*")
    at, end = len(first), len(name) - len(last)
    if end < at or not (name.startswith(first) and name.endswith(last)):
        return False
    for part in middle:
        at = name.find(part, at, end) + len(part)
        if at < len(part):
            return False
    return True


def _numbered_link(link: Link, number: int) -> Link:
    if NUMBER not in link.to:
        return link
    return replace(link, to=link.to.replace(NUMBER, str(number)))


def _numbered_exit(exit_: ExitOffer, number: int) -> ExitOffer:
    return ExitOffer(
        exit_.uplink.replace(NUMBER, str(number)),
        tuple(beacon.replace(NUMBER, str(number)) for beacon in exit_.beacons),
    )


def _free_name(node: Node) -> str:
    used = {link.name for link in node.links}
    return next(name for n in range(len(used) + 1) if (name := f"eth{n}") not in used)
