"""Topologies of containerlab as labs of ours, and what of them is left out. Pure.

A node becomes a machine without its image, a bridge a LAN, a link between two nodes a LAN of
their own. As in containerlab a node's eth0 leads out, here to the internet.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from netlab.refusals.words import did_you_mean
from netlab.topology import MTU_BYTES_DEFAULT, Lan, Link, Node, Topology
from overlay.errors import Rejected, Unavailable

TEXT_CHARS_MAX = 256 * 1024
NESTING_MAX = 16
HOSTS = ("linux",)
BRIDGES = ("bridge", "ovs-bridge")
# What addresses and links are given with; a lab of ours gives them itself.
_ADDRESSING = re.compile(
    r"(/?\S*/)?(ip(\s+-\S+)*\s+(a|addr|address|l|link|r|route)|ifconfig|route)\b"
)
_READ = {"topology": {"name", "topology", "prefix"}, "node": {"kind", "exec", "network-mode"}}
_FOREIGN_ENDS = ("host", "mgmt-net", "macvlan", "vxlan", "vxlan-stitch", "dummy")

Tree: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Imported:
    """`left_out`: what the file says and the lab does not do, a line each."""

    topology: Topology
    left_out: tuple[str, ...]


def import_containerlab(text: str) -> Imported:
    """A lab of what the file says. Raises Rejected for what is no topology of containerlab.

    Raises Unavailable when there is no reader of YAML.
    """
    tree = _read(text)
    for key in ("name", "topology"):
        if key not in tree:
            raise Rejected(f"lacks {key!r}", field=key, remedy="is it a *.clab.yml?")
    work = _Work()
    topology = _table(tree["topology"], "topology")
    work.leave(tree, _READ["topology"], "the file")
    work.leave(topology, {"nodes", "links", "kinds", "defaults", "groups"}, "topology")
    work.nodes(topology)
    for position, link in enumerate(_list(topology.get("links"), "topology.links")):
        work.link(link, f"topology.links[{position}]")
    lab = Topology(
        tuple(
            Node(each.name, tuple(each.links), run=tuple(each.run)) for each in work.hosts.values()
        ),
        lans=tuple(Lan(name) for name in work.lans),
        name=work.label(str(tree["name"]), "name"),
    )
    return Imported(lab, tuple(dict.fromkeys(work.left_out)))


@dataclass(slots=True)
class _Host:
    name: str
    links: list[Link] = field(default_factory=list)
    run: list[tuple[str, ...]] = field(default_factory=list)


class _Work:
    """Nodes and LANs as they come up, and what is not taken."""

    def __init__(self) -> None:
        self.hosts: dict[str, _Host] = {}  # by their name in the file
        self.bridges: dict[str, str] = {}
        self.lans: list[str] = []
        self.left_out: list[str] = []

    def nodes(self, topology: Tree) -> None:
        nodes = _table(topology.get("nodes"), "topology.nodes")
        for name, said in nodes.items():
            path = f"topology.nodes.{name}"
            entry = _inherited(topology, _table(said, path), path)
            kind = str(entry.get("kind", HOSTS[0]))
            if kind in BRIDGES:
                lan = self.label(name, path)
                self.bridges[name] = lan
                self.lans.append(lan)
                continue
            if kind not in HOSTS:
                self.left_out.append(f"{name}: what kind {kind} runs; it is a plain machine here")
            self.hosts[name] = self._host(name, entry, path)

    def link(self, said: Any, path: str) -> None:
        entry = _table(said, path)
        kind = entry.get("type", "veth")
        if kind != "veth":
            self.left_out.append(f"{path}: a link of type {kind}")
            return
        self.leave(entry, {"type", "endpoints", "mtu"}, path)
        ends = [_end(end, f"{path}.endpoints") for end in _list(entry.get("endpoints"), path)]
        if len(ends) != 2:
            raise Rejected(
                f"has {len(ends)} ends, not 2", field=f"{path}.endpoints", remedy="write two"
            )
        mtu_bytes = entry.get("mtu", MTU_BYTES_DEFAULT)
        if not isinstance(mtu_bytes, int):
            raise Rejected("is no whole number", field=f"{path}.mtu", remedy="write it like 1500")
        if foreign := [node for node, _ in ends if node in _FOREIGN_ENDS]:
            self.left_out.append(f"{path}: a link to {foreign[0]}")
            return
        for node, _ in ends:
            if node not in self.hosts and node not in self.bridges:
                known = [*self.hosts, *self.bridges]
                raise Rejected(
                    f"there is no node {node!r}",
                    field=f"{path}.endpoints",
                    remedy=did_you_mean(node, known),
                )
        self._join(ends, mtu_bytes, path)

    def leave(self, entry: Tree, taken: set[str], what: str) -> None:
        """Note the keys that nothing is made of."""
        if rest := [str(key) for key in entry if key not in taken]:
            self.left_out.append(f"{what}: {', '.join(rest)}")

    def label(self, name: str, path: str) -> str:
        """The name, or the nearest that a lab may have; never one that is taken."""
        label = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63].strip("-")
        if not label:
            raise Rejected(
                f"{name!r} has no letter", field=path, remedy="use letters, digits and '-'"
            )
        taken = {"internet", *self.lans, *(host.name for host in self.hosts.values())}
        free = next(
            each
            for number in range(1, len(taken) + 2)
            if (each := label if number == 1 else f"{label[:58].strip('-')}-{number}") not in taken
        )
        if free != name:
            self.left_out.append(f"{path}: the name {name!r}; it is {free!r} here")
        return free

    def _host(self, name: str, entry: Tree, path: str) -> _Host:
        host = _Host(self.label(name, path))
        if entry.get("network-mode") != "none":
            host.links.append(Link())
        for line in _list(entry.get("exec"), f"{path}.exec"):
            if _ADDRESSING.match(str(line)):
                self.left_out.append(f"{name}: exec {line!r}; a lab gives addresses itself")
                continue
            try:
                host.run.append(tuple(shlex.split(str(line))))
            except ValueError as exc:
                raise Rejected(
                    f"{line!r} cannot be split into words", field=f"{path}.exec", remedy=str(exc)
                ) from exc
        self.leave(entry, _READ["node"], name)
        return host

    def _join(self, ends: list[tuple[str, str]], mtu_bytes: int, path: str) -> None:
        joined = [self.bridges[node] for node, _ in ends if node in self.bridges]
        if len(joined) == 2:
            self.left_out.append(f"{path}: a link between two bridges")
            return
        if joined:
            lan = joined[0]
        else:
            lan = self._lan("-".join(self.hosts[node].name for node, _ in ends))
        for node, interface in ends:
            if node in self.hosts:
                name = self._link_name(interface, node)
                self.hosts[node].links.append(Link(lan, name, mtu_bytes))

    def _lan(self, wanted: str) -> str:
        taken = {*self.lans, *(host.name for host in self.hosts.values())}
        names = (f"{wanted[:58]}{f'-{n}' if n else ''}" for n in range(len(taken) + 1))
        name = next(each for each in names if each not in taken)
        self.lans.append(name)
        return name

    def _link_name(self, interface: str, node: str) -> str:
        name = re.sub(r"[^a-z0-9_.-]+", "-", interface.lower())[:15].strip("-")
        if name != interface:
            self.left_out.append(f"{node}: the name of {interface!r}; it is {name!r} here")
        return name


def _inherited(topology: Tree, entry: Tree, path: str) -> Tree:
    """defaults < kind < group < node, as containerlab has it."""
    defaults = _table(topology.get("defaults"), "topology.defaults")
    groups = _table(topology.get("groups"), "topology.groups")
    group = _table(groups.get(entry.get("group", "")), f"{path}.group")
    kind = entry.get("kind") or group.get("kind") or defaults.get("kind") or HOSTS[0]
    kinds = _table(topology.get("kinds"), "topology.kinds")
    of_kind = _table(kinds.get(kind), f"topology.kinds.{kind}")
    layers = (defaults, of_kind, group, entry)
    programs = [line for layer in layers for line in _list(layer.get("exec"), f"{path}.exec")]
    merged = {key: value for layer in layers for key, value in layer.items() if key != "group"}
    return merged | {"kind": kind} | ({"exec": programs} if programs else {})


def _end(said: Any, path: str) -> tuple[str, str]:
    """Node and interface of "a:eth1", or of a table."""
    if isinstance(said, dict) and {"node", "interface"} <= said.keys():
        return str(said["node"]), str(said["interface"])
    node, colon, interface = str(said).partition(":")
    if not isinstance(said, str) or not colon or not interface:
        raise Rejected(f"{said!r} is no end", field=path, remedy="write it like 'node:eth1'")
    return node, interface


def _table(value: Any, path: str) -> Tree:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise Rejected("is no table of names", field=path, remedy="is it a *.clab.yml?")
    return value


def _list(value: Any, path: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Rejected("is no list", field=path, remedy="write its entries with '-'")
    return value


def _read(text: str) -> Tree:
    """The YAML, without aliases: with them few lines may stand for more than a machine holds."""
    if len(text) > TEXT_CHARS_MAX:
        raise Rejected(
            f"is longer than {TEXT_CHARS_MAX} characters", remedy="split it into several labs"
        )
    try:
        import yaml
    except ImportError as exc:
        raise Unavailable(
            "there is no reader of YAML", remedy='pip install "zos[containerlab]"'
        ) from exc
    try:
        _refuse_tricks(yaml.parse(text, yaml.SafeLoader))
        return _table(yaml.safe_load(text), "the file")
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        reason = getattr(exc, "problem", None) or str(exc)
        raise Rejected(f"{line}is not YAML: {reason}", remedy="is it a *.clab.yml?") from exc


def _refuse_tricks(events: Iterator[Any]) -> None:
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1
            raise Rejected(f"line {line}: has an alias", remedy="write out what it stands for")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > NESTING_MAX:
            line = event.start_mark.line + 1
            raise Rejected(
                f"line {line}: is nested too deeply", remedy=f"{NESTING_MAX} levels are the most"
            )
