"""`zos lab run`: a lab from its file to its end, judged meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from netlab.cli.complete import complete_files
from netlab.cli.verdicts import answers_option
from zos_core.cli import output
from zos_core.cli.command import command


@command("run")
@click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path), shell_complete=complete_files
)
@click.option("--name", metavar="NAME", help="What the lab is called, instead of the file's name.")
@click.option("--keep-on-failure", is_flag=True, help="Leave the lab up when something fails.")
@click.option(
    "--artifacts",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="On failure: logs, events and status of every node. Made anew.",
)
@answers_option
@click.pass_context
def run(
    ctx: click.Context,
    file: Path,
    name: str | None,
    keep_on_failure: bool,
    artifacts: Path | None,
    answers: bool,
) -> None:
    """Build a lab, do what its timeline says, judge what is expected, and end it.

    FILE may be the name of a shipped lab (zos lab labs). Exit code 0 when all of it holds, 1 when
    something does not, 2 when nothing is expected; nothing of the lab is left.

    \b
    Examples:
      zos lab run 07-cut-and-mended
      zos lab run two-homes.lab.toml --artifacts build/two-homes --json
      zos lab run two-homes.lab.toml --keep-on-failure
    """
    from netlab.cli.up import wait_ready
    from netlab.cli.verdicts import Report
    from netlab.files.reading import read_lab
    from netlab.labs.shelf import find_lab
    from netlab.supervisor import asking
    from netlab.supervisor.start import started
    from netlab.supervisor.status import CheckRequest, JudgeLine

    topology = read_lab(find_lab(file))
    if name is not None:
        topology = replace(topology, name=name)
    report = Report(topology.name)
    evidence = str(artifacts.absolute()) if artifacts is not None else ""
    with started(topology, keep=False) as starting:
        wait_ready(starting)
        wish = CheckRequest(timeline=True, evidence=evidence, answers=answers)
        report.hear(asking.follow(starting.place, "/v1/check", JudgeLine, wish=wish))
        if keep_on_failure and (report.failed or report.error is not None):
            starting.let_go()
            output.say(f"{topology.name} is left up; end it with: zos lab down {topology.name}")
    report.show()
    ctx.exit(report.exit)
