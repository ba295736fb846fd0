"""A lab as a Mermaid flowchart, for documents that draw it themselves. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.pictures.live import NOTHING, Live
from netlab.pictures.style import COLOURS, TENANTS
from netlab.pictures.tree import Card, grow, walk
from netlab.pictures.words import both_lines, networks
from netlab.topology import Draft

_SHAPES = {
    "region": ('(["', '"])'),
    "router": ('{{"', '"}}'),
    "lan": ('[/"', '"/]'),
    "registry": ('[("', '")]'),
    "client": ('("', '")'),
}


def draw_mermaid(topology: Draft, *, live: Live = NOTHING) -> str:
    """`flowchart TD` with all cards, wires, ways between regions, and tunnels."""
    return "\n".join(_lines(topology, live)) + "\n"


def _lines(topology: Draft, live: Live) -> Iterator[str]:
    forest = grow(topology, live)
    cards = list(walk(forest.roots))
    ids = {id(card): f"c{number}" for number, card in enumerate(cards)}

    def of(name: str) -> str:
        return ids[id(forest.by_name[name])]

    yield f"%% {topology.name}"
    yield "flowchart TD"
    yield "  subgraph core"
    yield from (f"    {ids[id(card)]}{_shape(card)}" for card in cards if card.kind == "region")
    for latency in topology.latencies:
        first, second = map(of, latency.between)
        yield f"    {first} {_wire(both_lines(latency.impaired))} {second}"
    yield "  end"
    yield from (f"  {ids[id(card)]}{_shape(card)}" for card in cards if card.kind != "region")
    for card in cards:
        if card.parent is not None:
            wire = _wire(card.links, is_cut=card.is_cut)
            yield f"  {ids[id(card.parent)]} {wire} {ids[id(card)]}"
    for across in forest.across:
        wire = _wire(list(across.lines), is_cut=across.is_cut)
        yield f"  {ids[id(across.source)]} {wire} {ids[id(across.target)]}"
    for tunnel in live.tunnels:
        if all(end in forest.by_name for end in tunnel.ends):
            first, second = map(of, tunnel.ends)
            words = _text(f"{tunnel.tenant} {tunnel.way}")
            yield f'  {first} <==>|"{words}"| {second}'
    yield from _classes(topology, cards, ids)


def _classes(topology: Draft, cards: list[Card], ids: dict[int, str]) -> Iterator[str]:
    """A tenant's colour around its nodes; of several networks the first one's."""
    for position, network in enumerate(networks(topology)):
        mine = [ids[id(card)] for card in cards if card.members[:1] == (network,)]
        if mine:
            colour = TENANTS[position % COLOURS]
            yield f"  classDef t{position} stroke:{colour},stroke-width:3px"
            yield f"  class {','.join(mine)} t{position}"
    if dead := [ids[id(card)] for card in cards if card.is_dead]:
        yield "  classDef dead stroke:#c62f2f,stroke-dasharray:4 4,opacity:0.5"
        yield f"  class {','.join(dead)} dead"


def _shape(card: Card) -> str:
    opening, closing = _SHAPES.get(card.kind, ('["', '"]'))
    workloads = [name for _, name in card.workloads]
    words = [card.name, *([] if card.kind == "region" else card.lines)]
    if workloads:
        words.append(", ".join(workloads))
    return opening + "<br/>".join(map(_text, words)) + closing


def _wire(lines: list[str], *, is_cut: bool = False) -> str:
    plain = "-.-" if is_cut else "---"
    words = [*lines, *(["cut"] if is_cut else [])]
    return f'{plain}|"{"<br/>".join(map(_text, words))}"|' if words else plain


def _text(text: str) -> str:
    """Mermaid's own way to write what would end a text."""
    for character, name in (("#", "#35;"), ("&", "#amp;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(character, name)
    return text.replace('"', "#quot;").replace("\n", " ")
