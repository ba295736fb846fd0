"""`zos lab plan` and `apply`: a lab that is up becomes what a changed file says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from netlab.cli.complete import complete_files
from netlab.cli.which import choose, lab_option
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.renewing import PlanAnswer


@command("plan")
@lab_option
@click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path), shell_complete=complete_files
)
def plan(lab: str | None, file: Path) -> None:
    """Show what `zos lab apply FILE` would do to a lab that is up.

    Without --lab it is the lab that the file names.

    \b
    Examples:
      zos lab plan two-homes.lab.toml
      zos lab plan two-homes.lab.toml --lab second --json
    """
    _show(_ask(lab, file, "/v1/plan"), nothing="nothing to do")


@command("apply")
@lab_option
@click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path), shell_complete=complete_files
)
def apply(lab: str | None, file: Path) -> None:
    """Make a lab that is up what FILE says, touching the difference only.

    Links, routers, LANs and plain nodes come, go and change; programs in what stays run on. The
    kernel is read back afterwards. What cannot change while a lab runs is refused first: its seed,
    its tenants, and nodes that run something.

    \b
    Examples:
      zos lab apply two-homes.lab.toml
      zos lab apply two-homes.lab.toml --lab second
    """
    _show(_ask(lab, file, "/v1/apply"), nothing="nothing was to be done")


def _ask(lab: str | None, file: Path, path: str) -> PlanAnswer:
    from netlab.files.reading import read_lab
    from netlab.labs.shelf import find_lab
    from netlab.supervisor import asking
    from netlab.supervisor.renewing import PlanAnswer, PlanRequest

    topology = read_lab(find_lab(file))
    place = choose(lab or topology.name)
    wish = PlanRequest(replace(topology, name=place.name))
    return asking.post(place, path, wish, PlanAnswer)


def _show(answer: PlanAnswer, *, nothing: str) -> None:
    lines = [change.text for change in answer.changes]
    output.show(msgspec.to_builtins(answer), "\n".join(lines) or nothing)
