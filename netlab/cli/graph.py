"""`zos lab graph`: a picture of a file, or of a lab as it is now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from netlab.cli.complete import complete_labs_and_files
from netlab.cli.writing import write_new
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.pictures.live import Live
    from netlab.topology import Draft

FORMATS = {"svg": ".svg", "mermaid": ".mmd", "dot": ".dot"}


@command("graph")
@click.argument(
    "what", metavar="[FILE|LAB]", required=False, shell_complete=complete_labs_and_files
)
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), help="By default svg.")
@click.option("-o", "--output", "path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def graph(what: str | None, format_: str | None, path: Path | None, force: bool) -> None:
    """Draw a lab: the core, what is behind what, NATs, impairments, tenants.

    Of a lab that is up also what is dead, what is cut and which tunnels carry. Without -o the
    picture is printed; with it, its ending (.svg, .mmd, .dot) is a format too.

    \b
    Examples:
      zos lab graph two-homes.lab.toml -o two-homes.svg
      zos lab graph two-homes --format mermaid
    """
    chosen = format_ or _of_suffix(path)
    text = _draw(chosen, *_read(what))
    if path is None:
        output.show({"format": chosen, "picture": text}, text.rstrip("\n"))
        return
    write_new(path, text, force=force)
    output.show({"format": chosen, "file": str(path)}, f"wrote {path}")


def _of_suffix(path: Path | None) -> str:
    suffixes = {suffix: name for name, suffix in FORMATS.items()}
    return suffixes.get(path.suffix, "svg") if path is not None else "svg"


def _read(what: str | None) -> tuple[Draft, Live]:
    """A file by its ending or because it is there; anything else is a lab that is up."""
    if what is not None and (what.endswith(".toml") or Path(what).is_file()):
        from netlab.files.reading import read_lab
        from netlab.pictures.live import NOTHING

        return read_lab(Path(what)), NOTHING
    from netlab.cli.which import choose
    from netlab.pictures.of_status import draft_of, live_of
    from netlab.supervisor import asking
    from netlab.supervisor.status import LabStatus

    status = asking.get(choose(what), "/v1/lab", LabStatus, fresh="yes")
    return draft_of(status), live_of(status)


def _draw(format_: str, draft: Draft, live: Live) -> str:
    match format_:
        case "mermaid":
            from netlab.pictures.mermaid import draw_mermaid

            return draw_mermaid(draft, live=live)
        case "dot":
            from netlab.pictures.dot import draw_dot

            return draw_dot(draft, live=live)
        case _:
            from netlab.pictures.svg import draw_svg

            return draw_svg(draft, live=live)
