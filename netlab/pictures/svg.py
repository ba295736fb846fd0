"""A lab as SVG: readable by day and by night, alone in a file or inside a page. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html import escape

from netlab.pictures.icons import icon
from netlab.pictures.layout import (
    CARD_MAX_PX,
    CHIP_PX,
    FALL_PX,
    ICON_PX,
    LINE_PX,
    MARGIN_PX,
    PAD_PX,
    SMALL_CHAR_PX,
    Box,
    Layout,
    chip_lines,
    chip_width,
    dotted,
    lay_out,
)
from netlab.pictures.live import NOTHING, Live, Tunnel
from netlab.pictures.style import COLOURS, STYLE
from netlab.pictures.tree import Across, Card, Forest, grow, walk
from netlab.pictures.words import STRAIGHT, both_lines, counts, networks, way_lines
from netlab.topology import Draft, Latency

_LEGEND_PX = 26
_SAMPLE_PX = 24  # of a line, beside what it needs to be told from others
_HANGING_PX = 80  # of curves that go from bottom to bottom
_NAMED_MAX = 12  # tunnels with words on them
_STYLES = {"punched": "tunnel dashed", "relay": "tunnel dotted"}
_MEANING = {
    "tunnel": "tunnel, straight",
    "tunnel dashed": "punched: through what both NATs or firewalls have opened",
    "tunnel dotted": "by way of a relay",
}


def draw_svg(topology: Draft, *, live: Live = NOTHING) -> str:
    """One <svg> element; no script, no font, nothing that is fetched."""
    forest = grow(topology, live)
    # A file may be newer than what runs.
    known = (each for each in live.tunnels if all(end in forest.by_name for end in each.ends))
    live = replace(live, tunnels=tuple(known))
    order = {region.name: position for position, region in enumerate(topology.regions)}
    arches = sum(1 for each in topology.latencies if _span(each, order) > 1)
    tenancy = networks(topology)
    legend = list(_legend(tenancy, live))
    ways = way_lines(live)
    hanging = _HANGING_PX if live.tunnels or forest.across else 0
    layout = lay_out(forest, arches=arches, foot=_LEGEND_PX * (len(legend) + len(ways)) + hanging)
    colours = {name: f"t{position % COLOURS}" for position, name in enumerate(tenancy)}
    parts = [
        *_head(topology, layout),
        *_band(layout),
        *_latencies(topology, forest, layout, order),
        *(line for root in forest.roots for line in _falls(root, layout)),
        *(line for across in forest.across for line in _across(across, layout)),
        *_tunnels(live, forest, layout, colours),
        *(line for card in walk(forest.roots) for line in _card(card, layout, colours)),
        *(line for across in forest.across for line in _across_words(across, layout)),
        *_tunnel_words(live, forest, layout),
        *_legend_lines(legend, layout, colours, above=len(ways)),
        *_way_words(ways, layout),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _head(topology: Draft, layout: Layout) -> Iterator[str]:
    width, height = _px(layout.width), _px(layout.height)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" class="lab">'
    )
    yield f"<title>{_text(topology.name)}: {_text(counts(topology))}</title>"
    yield f"<style>{STYLE}</style>"
    yield f'<rect class="paper" width="{width}" height="{height}"/>'
    yield f'<text class="title" x="{MARGIN_PX}" y="38">{_text(topology.name)}</text>'
    yield f'<text class="small" x="{MARGIN_PX}" y="57">{_text(counts(topology))}</text>'


def _band(layout: Layout) -> Iterator[str]:
    band = layout.band
    yield f'<rect class="core" {_rect(band)} rx="20"/>'
    yield f'<text class="small core-name" x="{_px(band.x + 16)}" y="{_px(band.y + 19)}">core</text>'


def _latencies(
    topology: Draft, forest: Forest, layout: Layout, order: dict[str, int]
) -> Iterator[str]:
    """Between neighbours a straight line, over others an arch."""
    arch = 0
    for latency in topology.latencies:
        first, second = sorted(
            (layout.box(forest.by_name[name]) for name in latency.between), key=lambda box: box.x
        )
        lines = both_lines(latency.impaired)
        if first.x > second.x:
            lines.reverse()
        middle_y = first.y + first.height / 2
        if _span(latency, order) > 1:
            arch += 1
            top = layout.band.y - 12 - (arch - 1) * 2 * LINE_PX
            yield (
                f'<path class="way" d="M{_px(first.middle)} {_px(first.y)} '
                f"C{_px(first.middle)} {_px(top)} {_px(second.middle)} {_px(top)} "
                f'{_px(second.middle)} {_px(second.y)}"/>'
            )
            height = (first.y + 3 * top) / 4
            yield from _pill((first.middle + second.middle) / 2, height, lines)
        else:
            yield f'<path class="way" d="M{_px(first.right)} {_px(middle_y)}H{_px(second.x)}"/>'
            yield from _pill((first.right + second.x) / 2, middle_y, lines)


def _falls(root: Card, layout: Layout) -> Iterator[str]:
    """The wires from each card to what is below it."""
    for card in walk((root,)):
        if card.children:
            yield from _fall(card, layout)


def _fall(card: Card, layout: Layout) -> Iterator[str]:
    box = layout.box(card)
    frame = layout.rows.get(id(card))
    direct = [child for child in card.children if child.children or frame is None]
    targets = [(layout.box(child), child.is_cut) for child in direct]
    if frame is not None:
        yield f'<rect class="frame" {_rect(frame)} rx="14"/>'
        targets.append((frame, False))
    turn = targets[0][0].y - FALL_PX / 2
    for target, is_cut in targets:
        kind = "wire cut" if is_cut else "wire"
        yield f'<path class="{kind}" d="{_elbow(box.middle, box.bottom, target, turn)}"/>'
        if is_cut:
            yield _cross(target.middle, target.y - FALL_PX / 4)
    if frame is not None:
        for child in card.children:
            if child.is_cut and not child.children:
                its = layout.box(child)
                yield _cross(its.middle, its.y)


def _elbow(x: float, y: float, target: Box, turn: float) -> str:
    """Down, across, down, with round corners."""
    across = target.middle - x
    if abs(across) < 1:
        return f"M{_px(x)} {_px(y)}V{_px(target.y)}"
    radius = min(10.0, abs(across) / 2, (target.y - turn) / 2)
    side = radius if across > 0 else -radius
    return (
        f"M{_px(x)} {_px(y)}V{_px(turn - radius)}"
        f"Q{_px(x)} {_px(turn)} {_px(x + side)} {_px(turn)}"
        f"H{_px(target.middle - side)}"
        f"Q{_px(target.middle)} {_px(turn)} {_px(target.middle)} {_px(turn + radius)}"
        f"V{_px(target.y)}"
    )


def _across(across: Across, layout: Layout) -> Iterator[str]:
    source, target = layout.box(across.source), layout.box(across.target)
    kind = "wire across cut" if across.is_cut else "wire across"
    path, x, y = _sling(source, target)
    yield f'<path class="{kind}" d="{path}"/>'
    if across.is_cut:
        yield _cross(x, y)


def _across_words(across: Across, layout: Layout) -> Iterator[str]:
    """Over the cards, which the curve may pass behind."""
    _, x, y = _sling(layout.box(across.source), layout.box(across.target))
    yield from _pill(x, y, list(across.lines))


def _sling(source: Box, target: Box, *, hang: float = 44) -> tuple[str, float, float]:
    """A curve between two boxes, and its middle: from bottom to bottom, or from edge to edge."""
    if target.y > source.bottom or source.y > target.bottom:
        upper, lower = (source, target) if source.y < target.y else (target, source)
        start, end = (upper.middle + 14, upper.bottom), (lower.middle + 14, lower.y)
        pull = max(30.0, (end[1] - start[1]) / 2)
        controls = (start[1] + pull, end[1] - pull)
    else:
        left, right = (source, target) if source.x < target.x else (target, source)
        start, end = (left.middle + 8, left.bottom), (right.middle - 8, right.bottom)
        controls = (start[1] + hang, end[1] + hang)
    middle_y = (start[1] + 3 * controls[0] + 3 * controls[1] + end[1]) / 8
    path = (
        f"M{_px(start[0])} {_px(start[1])}C{_px(start[0])} {_px(controls[0])} "
        f"{_px(end[0])} {_px(controls[1])} {_px(end[0])} {_px(end[1])}"
    )
    return path, (start[0] + end[0]) / 2, middle_y


def _tunnels(live: Live, forest: Forest, layout: Layout, colours: dict[str, str]) -> Iterator[str]:
    for tunnel, path, _, _ in _slung(live, forest, layout):
        words = f"{tunnel.ends[0]} — {tunnel.ends[1]}, {tunnel.tenant}, {tunnel.way}"
        yield (
            f'<path class="{_style_of(tunnel)} {colours.get(tunnel.tenant, "t0")}" d="{path}">'
            f"<title>{_text(words)}</title></path>"
        )


def _tunnel_words(live: Live, forest: Forest, layout: Layout) -> Iterator[str]:
    """On those that are not straight, while they are few."""
    named = [each for each in _slung(live, forest, layout) if each[0].path not in STRAIGHT]
    for tunnel, _, x, y in named if len(named) <= _NAMED_MAX else ():
        yield from _pill(x, y, [tunnel.way])


def _slung(
    live: Live, forest: Forest, layout: Layout
) -> Iterator[tuple[Tunnel, str, float, float]]:
    """Every tunnel with its curve, and the middle of that."""
    for position, tunnel in enumerate(live.tunnels):
        first, second = (layout.box(forest.by_name[end]) for end in tunnel.ends)
        yield tunnel, *_sling(first, second, hang=52 + 12 * (position % 4))


def _style_of(tunnel: Tunnel) -> str:
    return _STYLES.get(tunnel.path, "tunnel")


def _card(card: Card, layout: Layout, colours: dict[str, str]) -> Iterator[str]:
    box = layout.box(card)
    state = " dead" if card.is_dead else ""
    yield f'<g class="card {card.kind}{state}">'
    yield f"<title>{_text(_told(card))}</title>"
    if card.kind == "region":
        yield f'<rect class="face" {_rect(box)} rx="20"/>'
        y = box.y + box.height / 2 + 5
        yield f'<text class="name" text-anchor="middle" x="{_px(box.middle)}" y="{_px(y)}">'
        yield f"{_text(card.name)}</text></g>"
        return
    for behind in (6, 3) if card.stands_for > 1 else ():
        shifted = Box(box.x + behind, box.y + behind, box.width, box.height)
        yield f'<rect class="face" {_rect(shifted)} rx="10"/>'
    yield f'<rect class="face" {_rect(box)} rx="10"/>'
    yield from _writing(card, box, colours)
    if card.is_dead:
        yield _cross(box.right - 14, box.y + 16)
    yield "</g>"


def _writing(card: Card, box: Box, colours: dict[str, str]) -> Iterator[str]:
    x, y = box.x + PAD_PX, box.y + PAD_PX + 12
    yield icon(card.kind, x, y - 13)
    room = int((box.width - 2 * PAD_PX - ICON_PX - 4) / (SMALL_CHAR_PX + 1))
    yield f'<text class="name" x="{_px(x + ICON_PX + 4)}" y="{_px(y)}">'
    yield f"{_text(_cut_short(card.name, room))}</text>"
    y += 4
    room = int((CARD_MAX_PX - 2 * PAD_PX) / SMALL_CHAR_PX) + 1
    for kind, lines in (("small", card.lines), ("small link", card.links)):
        for line in lines:
            y += LINE_PX
            yield f'<text class="{kind}" x="{_px(x)}" y="{_px(y)}">'
            yield f"{_text(_cut_short(line, room))}</text>"
    y += 6
    for chips in chip_lines(card):
        at = x
        for network, name in chips:
            width = chip_width(name)
            yield (
                f'<rect class="chip {colours[network]}" x="{_px(at)}" y="{_px(y)}" '
                f'width="{_px(width)}" height="{CHIP_PX}" rx="9"/>'
            )
            yield (
                f'<text class="chip-name" text-anchor="middle" x="{_px(at + width / 2)}" '
                f'y="{_px(y + 13)}">{_text(_cut_short(name, 22))}</text>'
            )
            at += width + 5
        y += CHIP_PX + 4
    for position, network in enumerate(dotted(card)):
        yield (
            f'<circle class="dot {colours[network]}" cx="{_px(x + 5 + position * 14)}" '
            f'cy="{_px(y + 5)}" r="4.5"/>'
        )


def _legend(tenancy: list[str], live: Live) -> Iterator[list[tuple[str, str]]]:
    """Lines of (class, words)."""
    for first in range(0, len(tenancy), 5):
        yield [("tenant", name) for name in tenancy[first : first + 5]]
    used = {_style_of(tunnel): None for tunnel in live.tunnels}
    if used:
        yield [(style, words) for style, words in _MEANING.items() if style in used]


def _legend_lines(
    legend: list[list[tuple[str, str]]], layout: Layout, colours: dict[str, str], *, above: int
) -> Iterator[str]:
    y = layout.height - MARGIN_PX / 2 - _LEGEND_PX * (len(legend) + above - 1) - 4
    for entries in legend:
        x = float(MARGIN_PX)
        for kind, words in entries:
            if kind == "tenant":
                dot = f'cx="{_px(x + 12)}" cy="{_px(y - 4)}" r="5"'
                yield f'<circle class="dot {colours[words]}" {dot}/>'
            else:
                line = f"M{_px(x + 4)} {_px(y - 4)}h{_SAMPLE_PX + 12}"
                yield f'<path class="{kind} t0" d="{line}"/>'
                x += _SAMPLE_PX
            yield f'<text class="small" x="{_px(x + 24)}" y="{_px(y)}">{_text(words)}</text>'
            x += 24 + len(words) * SMALL_CHAR_PX + 20
        y += _LEGEND_PX


def _way_words(ways: list[str], layout: Layout) -> Iterator[str]:
    """Below the legend, a line each."""
    room = int((layout.width - 2 * MARGIN_PX) / SMALL_CHAR_PX)
    for position, line in enumerate(reversed(ways)):
        y = layout.height - MARGIN_PX / 2 - _LEGEND_PX * position - 4
        yield f'<text class="small way-words" x="{MARGIN_PX}" y="{_px(y)}">'
        yield f"{_text(_cut_short(line, room))}</text>"


def _pill(x: float, y: float, lines: list[str]) -> Iterator[str]:
    """Words on a line, with the line hidden behind them."""
    if not lines:
        return
    width = max(map(len, lines)) * SMALL_CHAR_PX + 14
    height = len(lines) * LINE_PX + 5
    box = Box(x - width / 2, y - height / 2, width, height)
    yield f'<rect class="pill" {_rect(box)} rx="9"/>'
    for position, line in enumerate(lines):
        below = box.y + 14 + position * LINE_PX
        yield f'<text class="small" text-anchor="middle" x="{_px(x)}" y="{_px(below)}">'
        yield f"{_text(line)}</text>"


def _cross(x: float, y: float) -> str:
    return (
        f'<path class="cross" d="M{_px(x - 5)} {_px(y - 5)}l10 10'
        f'M{_px(x + 5)} {_px(y - 5)}l-10 10"/>'
    )


def _told(card: Card) -> str:
    """All that is known of a card, for those who point at it."""
    state = ["dead"] if card.is_dead else []
    tenancy = [f"in {', '.join(card.members)}"] if card.members else []
    return "\n".join([card.name, *state, *card.lines, *card.links, *tenancy])


def _span(latency: Latency, order: dict[str, int]) -> int:
    first, second = latency.between
    return abs(order[first] - order[second])


def _cut_short(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(1, room - 1)] + "…"


def _rect(box: Box) -> str:
    return f'x="{_px(box.x)}" y="{_px(box.y)}" width="{_px(box.width)}" height="{_px(box.height)}"'


def _px(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _text(text: str) -> str:
    return escape(text)
