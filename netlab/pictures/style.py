"""The looks of an SVG, for light and for dark paper. Values only."""

from __future__ import annotations

# Of tenants: told apart on both papers, and by those who see fewer colours.
TENANTS = ("#2f7ed8", "#d9731a", "#22946a", "#c2407e", "#7a5cd0", "#9a7b00", "#0e8fa3", "#c94f3d")
COLOURS = len(TENANTS)

_LIGHT = {
    "paper": "#fbfaf7",
    "face": "#ffffff",
    "edge": "#cdc9bf",
    "ink": "#20242b",
    "soft": "#68707c",
    "core": "#eaf1fb",
    "core-edge": "#c3d5ee",
    "wire": "#8b95a5",
    "frame": "#f3f1eb",
    "link": "#9a5b00",
    "bad": "#c62f2f",
}
_DARK = {
    "paper": "#14161a",
    "face": "#1f2329",
    "edge": "#3d434d",
    "ink": "#e9eaed",
    "soft": "#9da5b1",
    "core": "#18243a",
    "core-edge": "#2d4468",
    "wire": "#6c7686",
    "frame": "#191c21",
    "link": "#e0a95a",
    "bad": "#ff6b62",
}


def _paint(colours: dict[str, str]) -> str:
    return (
        ".lab .paper{{fill:{paper}}}"
        ".lab text{{fill:{ink}}}"
        ".lab .small{{fill:{soft}}}"
        ".lab .small.link{{fill:{link}}}"
        ".lab .face{{fill:{face};stroke:{edge}}}"
        ".lab .core{{fill:{core};stroke:{core-edge}}}"
        ".lab .region .face{{stroke:{core-edge}}}"
        ".lab .frame{{fill:{frame};stroke:{edge}}}"
        ".lab .pill{{fill:{paper};stroke:{edge}}}"
        ".lab .wire,.lab .way{{stroke:{wire}}}"
        ".lab .icon{{stroke:{soft}}}"
        ".lab .cut{{stroke:{bad}}}"
        ".lab .cross{{stroke:{bad}}}"
        ".lab .dead .face{{stroke:{bad}}}"
    ).format(**colours)


STYLE = (
    ".lab text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    ".lab .title{font-size:20px;font-weight:650}"
    ".lab .name{font-size:13px;font-weight:600}"
    ".lab .small{font-size:11px}"
    ".lab .chip-name{font-size:10.5px;font-weight:600;fill:#fff}"
    ".lab .face,.lab .core,.lab .frame,.lab .pill{stroke-width:1.2}"
    ".lab .wire,.lab .way{fill:none;stroke-width:1.6}"
    ".lab .across{stroke-dasharray:2 4;stroke-linecap:round;stroke-width:2}"
    ".lab .cut{stroke-dasharray:5 5}"
    ".lab .icon{fill:none;stroke-width:1.4;stroke-linejoin:round;stroke-linecap:round}"
    ".lab .cross{fill:none;stroke-width:2.4;stroke-linecap:round}"
    ".lab .tunnel{fill:none;stroke-width:3;stroke-opacity:.75;stroke-linecap:round}"
    ".lab .dashed{stroke-dasharray:10 6}"
    ".lab .dotted{stroke-dasharray:1 7}"
    ".lab .dead text,.lab .dead .icon{opacity:.45}"
    + "".join(
        f".lab .chip.t{number},.lab .dot.t{number}{{fill:{colour}}}"
        f".lab .tunnel.t{number}{{stroke:{colour}}}"
        for number, colour in enumerate(TENANTS)
    )
    + _paint(_LIGHT)
    + "@media (prefers-color-scheme:dark){"
    + _paint(_DARK)
    + "}"
    ".lab .chip-name{fill:#fff}"
)
