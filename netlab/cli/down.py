"""`zos lab down`: the end of a lab, proven."""

from __future__ import annotations

import click

from netlab.cli.which import choose, lab_argument
from netlab.supervisor.places import Place
from overlay.errors import Unavailable
from zos_core.cli import output
from zos_core.cli.command import command

PATIENCE_S = 60.0


@command("down")
@lab_argument
@click.option("--all", "every", is_flag=True, help="All labs of this user.")
@click.option("--keep", is_flag=True, help="Keep logs, events and state.")
def down(lab: str | None, every: bool, keep: bool) -> None:
    """End a lab. When this returns its processes are gone and its work directory is removed.

    \b
    Examples:
      zos lab down
      zos lab down two-homes --keep
      zos lab down --all
    """
    from netlab.supervisor import places

    if every and lab is not None:
        raise click.UsageError("--all, or one LAB")
    chosen = places.list_living() if every else [choose(lab)]
    for place in chosen:
        _end(place, keep=keep)
    names = [place.name for place in chosen]
    output.show({"ended": names}, *(f"{name} is down" for name in names))


def _end(place: Place, *, keep: bool) -> None:
    from netlab.supervisor import asking, leftovers, places
    from netlab.supervisor.status import Done, EndRequest

    leftovers.wake_supervisor(place)
    asking.post(place, "/v1/end", EndRequest(keep=keep), Done)
    with output.progress(f"waiting for {place.name} to end"):
        if not places.wait_free(place, within_s=PATIENCE_S):
            raise Unavailable(
                f"{place.name} has not ended in {PATIENCE_S:g} s", remedy=f"see {place.log}"
            )
