"""Small drawings that tell kinds of cards apart, 18 pixels square. Values only."""

from __future__ import annotations

_PATHS = {
    # A disc with arrows that cross.
    "router": "M9 1a8 8 0 1 0 .01 0zM4 9h10M11.5 6.5L14 9l-2.5 2.5M9 4v10M6.5 6.5L9 4l2.5 2.5",
    # A bar with three drops.
    "lan": "M1 6h16M4 6v6M9 6v6M14 6v6",
    # A screen on a foot.
    "host": "M2 3h14v9H2zM6 16h6M9 12v4",
    # Six sides, and a core that is awake.
    "node": "M9 1l7 4v8l-7 4-7-4V5zM9 6.5a2.5 2.5 0 1 0 .01 0z",
    # A drum.
    "registry": "M3 4c0-3 12-3 12 0v10c0 3-12 3-12 0zM3 4c0 3 12 3 12 0M3 9c0 3 12 3 12 0",
    # A phone.
    "client": "M5 1h8v16H5zM8 14h2",
}


def icon(kind: str, x: float, y: float) -> str:
    """The drawing with its left upper corner there."""
    return f'<path class="icon" transform="translate({x:.1f} {y:.1f})" d="{_PATHS[kind]}"/>'
