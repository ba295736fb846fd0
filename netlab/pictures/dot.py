"""A lab as a Graphviz graph. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.pictures.live import NOTHING, Live, Tunnel
from netlab.pictures.style import COLOURS, TENANTS
from netlab.pictures.tree import Card, grow, walk
from netlab.pictures.words import STRAIGHT, both_lines, networks
from netlab.topology import Draft

_STYLES = {"punched": "dashed", "relay": "dotted"}
_SHAPES = {"region": "ellipse", "router": "hexagon", "lan": "parallelogram", "registry": "cylinder"}


def draw_dot(topology: Draft, *, live: Live = NOTHING) -> str:
    """`graph`, for `dot -Tsvg` and its relatives."""
    return "\n".join(_lines(topology, live)) + "\n"


def _lines(topology: Draft, live: Live) -> Iterator[str]:
    forest = grow(topology, live)
    cards = list(walk(forest.roots))
    ids = {id(card): f"c{number}" for number, card in enumerate(cards)}
    colours = {
        name: TENANTS[position % COLOURS] for position, name in enumerate(networks(topology))
    }
    yield f"graph {_quoted(topology.name)} {{"
    yield '  node [shape=box, style="rounded", fontname="sans-serif", fontsize=11]'
    yield '  edge [fontname="sans-serif", fontsize=9, color="#8b95a5"]'
    yield "  subgraph cluster_core {"
    yield '    label="core"; style="rounded"; color="#c3d5ee"'
    yield from (
        f"    {_node(card, ids[id(card)], colours)}" for card in cards if card.kind == "region"
    )
    yield "  }"
    yield from (
        f"  {_node(card, ids[id(card)], colours)}" for card in cards if card.kind != "region"
    )
    for latency in topology.latencies:
        first, second = (ids[id(forest.by_name[name])] for name in latency.between)
        yield f"  {first} -- {second} [constraint=false{_label(both_lines(latency.impaired))}]"
    for card in cards:
        if card.parent is not None:
            yield f"  {ids[id(card.parent)]} -- {ids[id(card)]}{_edge(card.links, card.is_cut)}"
    for across in forest.across:
        ends = f"{ids[id(across.source)]} -- {ids[id(across.target)]}"
        yield f"  {ends}{_edge(list(across.lines), across.is_cut)}"
    for tunnel in live.tunnels:
        if all(end in forest.by_name for end in tunnel.ends):
            first, second = (ids[id(forest.by_name[end])] for end in tunnel.ends)
            style = _STYLES.get(tunnel.path, "solid")
            colour = colours.get(tunnel.tenant, TENANTS[0])
            yield (
                f"  {first} -- {second} [constraint=false, penwidth=3, style={style}, "
                f"color={_quoted(colour)}{_label(_named(tunnel))}, "
                f"tooltip={_quoted(f'{tunnel.tenant} {tunnel.way}')}]"
            )
    yield "}"


def _named(tunnel: Tunnel) -> list[str]:
    return [] if tunnel.path in STRAIGHT else [tunnel.way]


def _node(card: Card, name: str, colours: dict[str, str]) -> str:
    words = [card.name, *([] if card.kind == "region" else card.lines)]
    if card.workloads:
        words.append(", ".join(workload for _, workload in card.workloads))
    options = [f"label={_quoted(*words)}"]
    if card.kind in _SHAPES:
        options.append(f"shape={_SHAPES[card.kind]}")
    if card.members:
        options.append(f"color={_quoted(colours[card.members[0]])}, penwidth=2")
    if card.is_dead:
        options.append('style="rounded,dashed", fontcolor="#c62f2f"')
    return f"{name} [{', '.join(options)}]"


def _edge(lines: list[str], is_cut: bool) -> str:
    label = _label([*lines, *(["cut"] if is_cut else [])]).removeprefix(", ")
    options = [*([label] if label else []), *(['style=dashed, color="#c62f2f"'] if is_cut else [])]
    return f" [{', '.join(options)}]" if options else ""


def _label(lines: list[str]) -> str:
    return f", label={_quoted(*lines)}" if lines else ""


def _quoted(*lines: str) -> str:
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
