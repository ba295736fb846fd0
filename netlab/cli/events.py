"""`zos lab events`: the journal of a lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netlab.cli.which import choose, lab_argument
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.journal import Event


@command("events")
@lab_argument
@click.option("--from", "number", metavar="N", default=1, help="From the N-th event on.")
@click.option("--follow", "-f", is_flag=True, help="Also those to come, until the lab ends.")
def events(lab: str | None, number: int, follow: bool) -> None:
    """Show what has happened in a lab: build, links, partitions, programs, tunnels, expects.

    With --json and --follow one JSON value a line.

    \b
    Examples:
      zos lab events
      zos lab events --follow --json
    """
    import msgspec

    from netlab.supervisor import asking
    from netlab.supervisor.journal import Event

    wanted = "yes" if follow else "no"
    found = asking.follow(choose(lab), "/v1/events", Event, from_=number, follow=wanted)
    if not follow:
        listed = list(found)
        output.show({"events": msgspec.to_builtins(listed)}, *map(format_event, listed))
        return
    for event in found:
        if output.asked_for_json():
            click.echo(msgspec.json.encode(event))
        else:
            output.show_line(format_event(event))


def format_event(event: Event) -> str:
    subject = f"{event.subject}: " if event.subject else ""
    return f"{event.lab_s:9.3f} s  {event.kind:<10} {subject}{event.text}"
