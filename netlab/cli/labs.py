"""`zos lab labs`: what comes with netlab."""

from __future__ import annotations

import click

from netlab.cli.complete import complete_files
from zos_core.cli import output
from zos_core.cli.command import command


@command("labs")
@click.option(
    "--show",
    metavar="LAB",
    shell_complete=complete_files,
    help="Print its file, to read or to change.",
)
def labs(show: str | None) -> None:
    """List the labs that are shipped: each is a lesson, and `zos lab up` takes its name.

    \b
    Examples:
      zos lab labs
      zos lab labs --show 03-home-nat > mine.lab.toml
      zos lab run 03-home-nat
    """
    from pathlib import Path

    from netlab.files.reading import read_text
    from netlab.labs.shelf import find_lab, shipped_labs

    if show is not None:
        path = find_lab(Path(show))
        text = read_text(path)
        output.show({"name": show, "path": str(path), "text": text}, text.rstrip("\n"))
        return
    found = shipped_labs()
    value = {
        "labs": [{"name": lab.name, "summary": lab.summary, "path": str(lab.path)} for lab in found]
    }
    rows = ((lab.name, lab.summary) for lab in found)
    output.show(value, *output.table(("LAB", "WHAT IT SHOWS"), rows))
