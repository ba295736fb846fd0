"""`zos lab lint`: everything that is wrong with a file, and nothing built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from netlab.cli.complete import complete_files
from zos_core.cli import output
from zos_core.cli.command import command
from zos_core.cli.exits import Exit

if TYPE_CHECKING:
    from netlab.files.reading import FileFault


@command("lint")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    shell_complete=complete_files,
)
@click.pass_context
def lint(context: click.Context, files: tuple[Path, ...]) -> None:
    """Say all that is wrong with lab files: file, line, key, reason and what to do about it.

    Nothing is built. The exit code is 0 when nothing is wrong, and 2 when something is.

    \b
    Examples:
      zos lab lint two-homes.lab.toml
      zos lab lint labs/*.lab.toml --json
    """
    found = [(file, _faults(file)) for file in files]
    lines = [
        line
        for file, faults in found
        for line in (map(str, faults) if faults else [f"{file}: nothing is wrong"])
    ]
    values = [
        {"file": str(file), "faults": [_value(fault) for fault in faults]} for file, faults in found
    ]
    output.show({"files": values}, *lines)
    if any(faults for _, faults in found):
        context.exit(Exit.USAGE)


def _faults(file: Path) -> list[FileFault]:
    from netlab.files.reading import FileFault, lint_lab, read_text

    try:
        return lint_lab(read_text(file), source=str(file))
    except FileFault as fault:  # no text at all
        return [fault]


def _value(fault: FileFault) -> dict[str, object]:
    return {
        "line": fault.line,
        "field": fault.field,
        "message": fault.reason,
        "remedy": fault.remedy,
    }
