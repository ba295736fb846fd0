"""`zos lab check`: whether what a lab's file expects holds."""

from __future__ import annotations

import click

from netlab.cli.verdicts import answers_option
from netlab.cli.which import choose, lab_argument
from zos_core.cli.command import command


@command("check")
@lab_argument
@answers_option
@click.pass_context
def check(ctx: click.Context, lab: str | None, answers: bool) -> None:
    """Judge what the lab's file expects: who reaches whom, by which path, how fast.

    What belongs to a time of the timeline is left out; `zos lab run` judges that. Exit code 0 when
    all of it holds, 1 when something does not, 2 when nothing is expected.

    \b
    Examples:
      zos lab check
      zos lab check two-homes --json
    """
    from netlab.cli.verdicts import Report
    from netlab.supervisor import asking
    from netlab.supervisor.status import CheckRequest, JudgeLine

    place = choose(lab)
    report = Report(place.name)
    report.hear(asking.follow(place, "/v1/check", JudgeLine, wish=CheckRequest(answers=answers)))
    report.show()
    ctx.exit(report.exit)
