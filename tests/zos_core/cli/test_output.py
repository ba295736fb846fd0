"""What others wrote is shown on a terminal, and never obeyed (CLI-018)."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from tests.zos_core.cli.conftest import Zos
from zos_core.cli.output import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x1b[8mhidden", "\\x1b[8mhidden"),
        ("\x1b[30mblack\x1b[41m", "\\x1b[30mblack\\x1b[41m"),
        ("\x9b2J", "\\x9b2J"),
        ("over\rwritten\b", "over\\rwritten\\x08"),
        ("re\u202eversed", "re\\u202eversed"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str) -> None:  # CLI-018
    assert visible(f"a {text}") == f"a {shown}"


def test_lines_letters_and_colours_stay() -> None:  # CLI-018
    text = "two\nlines,\ttab, ± 2 ms … ↑ ü"
    assert visible(text) == text
    for colour in ("red", "green", "yellow", "bright_white"):
        styled = click.style("x", fg=colour, bold=True)
        assert visible(styled) == styled


def test_a_hostile_lab_file_is_safe_to_look_at(zos: Zos, tmp_path: Path) -> None:  # CLI-018
    file = tmp_path / "evil.lab.toml"
    file.write_text('["\\u001b[2Jkey"]\nx = 1\n')
    ran = zos("lab", "lint", str(file))
    assert "\\x1b[2Jkey: is not a known key" in ran.out
    assert "\x1b" not in ran.out
    assert "\\x1b[2Jkey: is not a known key" in zos("lab", "up", str(file)).err
