"""How commands speak: JSON alone on standard output, prose for people, tables, colour, time.

Standard output carries what was asked for; everything else goes to standard error (CLI-010).
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from overlay.errors import OverlayError
from zos_core.cli.exits import Exit, code_of, exit_of

SCHEMA = 1
SLOW_S = 1.0  # what takes longer tells so

_JSON = "zos.json"
# What click.style makes of bold, dim and the foreground colours; no background, nothing concealed.
_COLOUR = re.compile(r"(\x1b\[(?:[012]|3[1-79]|9[1-7])m)")


def asked_for_json() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_JSON))


def ask_for_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_JSON] = True


def show(value: Mapping[str, Any], *lines: str) -> None:
    """The answer of a command: `value` for programs, `lines` for people."""
    if asked_for_json():
        click.echo(format_json(value))
        return
    for line in lines:
        click.echo(visible(line))


def show_line(line: str) -> None:
    """One line of an answer that comes bit by bit, for people."""
    click.echo(visible(line))


def say(line: str) -> None:
    """Something that a person may want to know, but that was not asked for."""
    click.echo(visible(line), err=True)


def visible(text: str) -> str:
    """What a terminal would obey instead of showing it is spelled out, save colours (CLI-018).

    Names, logs and files are of others: they must not move the cursor, hide or retitle anything.
    """
    if text.isprintable():
        return text
    parts = _COLOUR.split(text)
    return "".join(part if _COLOUR.fullmatch(part) else _spelled(part) for part in parts)


def _spelled(text: str) -> str:
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )


def format_json(value: Mapping[str, Any]) -> str:
    return json.dumps({"schema": SCHEMA, **value}, indent=2, default=_plain)


def error_json(error: OverlayError) -> dict[str, Any]:
    return {
        "error": {
            "code": code_of(exit_of(error)),
            "message": error.message,
            "field": error.field,
            "remedy": error.remedy,
        }
    }


def usage_json(message: str) -> dict[str, Any]:
    error = {"code": code_of(Exit.USAGE), "message": message, "field": None, "remedy": None}
    return {"error": error}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines with aligned columns; no line for no rows."""
    body = [tuple(row) for row in rows]
    if not body:
        return
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    for n, row in enumerate((tuple(header), *body)):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line = "  ".join(cells).rstrip()
        yield click.style(line, bold=True) if n == 0 and has_colour() else line


def has_colour() -> bool:
    """Whether standard output is a terminal whose owner wants colour (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def mark(text: str, colour: str) -> str:
    return click.style(text, fg=colour) if has_colour() else text


def rfc3339(at: datetime) -> str:
    """2026-11-23T19:00:00Z"""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_unix(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


def draw_qr(text: str) -> None:
    """The text as a QR code, on standard error so that pipes carry the text alone."""
    import segno

    segno.make(text, error="l", micro=False).terminal(out=sys.stderr, compact=True)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Says `what` on standard error when the block takes longer than a second."""
    import threading

    # A timer, because the block may be one call that cannot be asked how far it is.
    timer = threading.Timer(SLOW_S, say, (f"{what} ...",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _plain(value: object) -> Any:
    import msgspec

    return msgspec.to_builtins(value)
