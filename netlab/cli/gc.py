"""`zos lab gc`: proof that nothing is left."""

from __future__ import annotations

from dataclasses import asdict

import click

from zos_core.cli import output
from zos_core.cli.command import command


@command("gc")
@click.option("--kept", is_flag=True, help="Also what was kept on purpose.")
def gc(kept: bool) -> None:
    """Remove what dead labs of this user have left, and say what that was. Living ones stay.

    Namespaces, links and processes end with their lab, so what is left is files: after a power
    cut, or when a supervisor was killed.

    \b
    Examples:
      zos lab gc
      zos lab gc --kept --json
    """
    from netlab.supervisor import leftovers, places

    removed = leftovers.collect(kept=kept)
    living = [place.name for place in places.list_living()]
    lines = [f"removed {each.kind} of {each.lab}: {each.what}" for each in removed]
    lines += [] if removed else ["nothing was left"]
    lines += [f"up: {', '.join(living)}"] if living else []
    output.show({"removed": [asdict(each) for each in removed], "up": living}, *lines)
