"""`zos lab import`: a lab file of a topology of containerlab."""

from __future__ import annotations

from pathlib import Path

import click

from netlab.cli.writing import write_new
from overlay.errors import Rejected, Unavailable
from zos_core.cli import output
from zos_core.cli.command import command


@command("import")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-o", "--output", "path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def import_(file: Path, path: Path | None, force: bool) -> None:
    """Make a lab file of a containerlab topology (*.clab.yml).

    Nodes become plain machines, bridges LANs, exec lines programs. What is left out, such as
    images, is told, and stands at the top of the new file. Needs zos[containerlab].

    \b
    Examples:
      zos lab import mesh.clab.yml -o mesh.lab.toml
      zos lab import mesh.clab.yml --json
    """
    from netlab.files.containerlab import import_containerlab
    from netlab.files.writing import format_lab

    found = import_containerlab(_read(file))
    notes = [f"# Made from {file.name}.", *(f"# Left out: {line}" for line in found.left_out)]
    text = "\n".join([*(_comment(note) for note in notes), "", format_lab(found.topology)])
    value = {"name": found.topology.name, "left_out": list(found.left_out)}
    if path is None:
        output.show({**value, "lab": text}, text.rstrip("\n"))
        return
    write_new(path, text, force=force)
    for line in found.left_out:
        output.say(f"left out: {line}")
    output.show({**value, "file": str(path)}, f"wrote {path}")


def _comment(text: str) -> str:
    """Text that cannot end a comment."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise Rejected(f"{file} is not UTF-8 text", remedy="save it as UTF-8") from exc
    except OSError as exc:
        raise Unavailable(f"{file}: {exc.strerror}") from exc
