"""Where each card of a forest is drawn: the core above, what is behind it below. Pure.

Cards that have nothing below them stand together in rows; the others stand side by side. Sizes
are in pixels; how wide a text is, is estimated, since no font is asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from netlab.pictures.tree import Card, Forest, walk

CHAR_PX = 8.1  # of the name; smaller text is SMALL_CHAR_PX
SMALL_CHAR_PX = 6.1
LINE_PX = 15
PAD_PX = 12
CARD_MIN_PX, CARD_MAX_PX = 112, 236
GAP_PX = 22
FALL_PX = 46  # between a card and what is below it
CHIP_PX = 18
ICON_PX = 20
REGION_PX = 40
LATENCY_PX = 120  # room for what is said of the way between two regions
MARGIN_PX = 28
HEAD_PX = 74
BAND_PAD_PX = 26


@dataclass(slots=True)
class Box:
    """Left upper corner and size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def right(self) -> float:
        return self.x + self.width


@dataclass(frozen=True, slots=True)
class Layout:
    """boxes by card; `rows` are the frames around cards that stand together in several rows."""

    width: float
    height: float
    band: Box
    boxes: dict[int, Box]
    rows: dict[int, Box]

    def box(self, card: Card) -> Box:
        return self.boxes[id(card)]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Childless cards of one parent, all as large as the largest."""

    cards: tuple[Card, ...]
    columns: int
    card_width: float
    card_height: float

    @property
    def width(self) -> float:
        inner = self.columns * (self.card_width + GAP_PX) - GAP_PX
        return inner + (2 * PAD_PX if self.is_framed else 0)

    @property
    def height(self) -> float:
        lines = math.ceil(len(self.cards) / self.columns)
        inner = lines * (self.card_height + PAD_PX) - PAD_PX
        return inner + (2 * PAD_PX if self.is_framed else 0)

    @property
    def is_framed(self) -> bool:
        return len(self.cards) > self.columns


def lay_out(forest: Forest, *, arches: int, foot: float) -> Layout:
    """`arches`: how many ways between regions go over others; `foot`: pixels left free below."""
    sizes = {id(card): size(card) for card in walk(forest.roots)}
    rows = {id(card): _rows(card, sizes) for card in walk(forest.roots)}
    widths: dict[int, float] = {}
    for card in reversed(list(walk(forest.roots))):
        below = [widths[id(child)] for child in card.children if child.children]
        if standing := rows[id(card)]:
            below.append(standing.width)
        own = sizes[id(card)][0] + (LATENCY_PX if card.kind == "region" else 0)
        widths[id(card)] = max(own, sum(below) + GAP_PX * max(0, len(below) - 1))
    band_top = HEAD_PX + arches * 2 * LINE_PX
    boxes: dict[int, Box] = {}
    frames: dict[int, Box] = {}
    at = MARGIN_PX + BAND_PAD_PX / 2
    lefts: dict[int, float] = {}
    for root in forest.roots:
        lefts[id(root)] = at
        at += widths[id(root)] + GAP_PX
    width = max(at - GAP_PX + MARGIN_PX + BAND_PAD_PX / 2, 520)
    below_band = band_top + REGION_PX + 2 * BAND_PAD_PX
    for card in walk(forest.roots):
        own_width, own_height = sizes[id(card)]
        if card.parent is None:
            top = band_top + BAND_PAD_PX if card.kind == "region" else below_band + FALL_PX / 2
        else:
            above = boxes[id(card.parent)]
            top = below_band if card.parent.kind == "region" else above.bottom
            top += FALL_PX
        if id(card) not in boxes:  # those in rows are placed with their parent
            left = lefts[id(card)] + (widths[id(card)] - own_width) / 2
            boxes[id(card)] = Box(left, top, own_width, own_height)
        _place_below(card, lefts, widths, rows[id(card)], boxes, frames, below_band)
    lowest = max((box.bottom for box in (*boxes.values(), *frames.values())), default=below_band)
    band = Box(MARGIN_PX, band_top, width - 2 * MARGIN_PX, REGION_PX + 2 * BAND_PAD_PX)
    regions = [root for root in forest.roots if root.kind == "region"]
    if len(regions) < len(forest.roots):  # what is not behind the core is beside it
        last = id(regions[-1])
        band.width = lefts[last] + widths[last] + GAP_PX / 2 - MARGIN_PX
    return Layout(width, max(lowest, below_band) + MARGIN_PX + foot, band, boxes, frames)


def size(card: Card) -> tuple[float, float]:
    """Width and height that what is written on it needs."""
    if card.kind == "region":
        return max(CARD_MIN_PX, len(card.name) * CHAR_PX + 2 * PAD_PX + 24), REGION_PX
    small = [*card.lines, *card.links]
    chips = chip_lines(card)
    texts = [
        len(card.name) * CHAR_PX + ICON_PX + 8,
        *(len(line) * SMALL_CHAR_PX for line in small),
        *(sum(chip_width(name) + 5 for _, name in line) for line in chips),
    ]
    width = min(max(CARD_MIN_PX, max(texts) + 2 * PAD_PX), CARD_MAX_PX)
    dots = 14 if dotted(card) else 0
    height = 2 * PAD_PX - 2 + 20 + len(small) * LINE_PX + len(chips) * (CHIP_PX + 4) + dots
    return width, height


def dotted(card: Card) -> list[str]:
    """The networks that it is in without a workload, whose chip would say so."""
    shown = {network for network, _ in card.workloads}
    return [network for network in card.members if network not in shown]


def chip_width(name: str) -> float:
    return min(len(name), 22) * SMALL_CHAR_PX + 16


def chip_lines(card: Card) -> list[list[tuple[str, str]]]:
    """Workloads, as many in a line as fit."""
    lines: list[list[tuple[str, str]]] = []
    room = 0.0
    for chip in card.workloads:
        wanted = chip_width(chip[1]) + 5
        if not lines or wanted > room:
            lines.append([])
            room = CARD_MAX_PX - 2 * PAD_PX
        lines[-1].append(chip)
        room -= wanted
    return lines


def _rows(card: Card, sizes: dict[int, tuple[float, float]]) -> _Rows | None:
    childless = tuple(child for child in card.children if not child.children)
    if not childless:
        return None
    most = max(4, math.ceil(math.sqrt(len(childless) * 1.5)))
    columns = math.ceil(len(childless) / math.ceil(len(childless) / most))  # no line half empty
    return _Rows(
        childless,
        columns,
        max(sizes[id(child)][0] for child in childless),
        max(sizes[id(child)][1] for child in childless),
    )


def _place_below(
    card: Card,
    lefts: dict[int, float],
    widths: dict[int, float],
    rows: _Rows | None,
    boxes: dict[int, Box],
    frames: dict[int, Box],
    below_band: float,
) -> None:
    """What has children gets its left edge; what has none, its box."""
    deep = [child for child in card.children if child.children]
    parts = [widths[id(child)] for child in deep] + ([rows.width] if rows else [])
    at = lefts[id(card)] + (widths[id(card)] - sum(parts) - GAP_PX * max(0, len(parts) - 1)) / 2
    for child in deep:
        lefts[id(child)] = at
        at += widths[id(child)] + GAP_PX
    if rows is None:
        return
    top = (below_band if card.kind == "region" else boxes[id(card)].bottom) + FALL_PX
    inner = PAD_PX if rows.is_framed else 0
    if rows.is_framed:
        frames[id(card)] = Box(at, top, rows.width, rows.height)
    for position, child in enumerate(rows.cards):
        line, column = divmod(position, rows.columns)
        boxes[id(child)] = Box(
            at + inner + column * (rows.card_width + GAP_PX),
            top + inner + line * (rows.card_height + PAD_PX),
            rows.card_width,
            rows.card_height,
        )
        lefts[id(child)] = at
