"""`zos lab link`: what happens to a link."""

from __future__ import annotations

import click

from netlab.cli.complete import complete_links
from netlab.cli.which import choose, lab_option
from zos_core.cli import output
from zos_core.cli.command import group


@group("link")
def link() -> None:
    """Cut and mend links.

    \b
    Examples:
      zos lab link set alice-home --down
    """


@link.command("set")
@lab_option
@click.argument("name", metavar="LINK", shell_complete=complete_links)
@click.option("--up/--down", "up", default=None, help="Plug the cable, or pull it.")
def set_(lab: str | None, name: str, up: bool | None) -> None:
    """Change a link while programs run: A-B as it joins A and B, or A:eth1 by its end.

    \b
    Examples:
      zos lab link set alice-home --down
      zos lab link set alice:eth1 --up
    """
    from netlab.supervisor import asking
    from netlab.supervisor.status import Done, LinkRequest

    if up is None:
        raise click.UsageError("what shall change? --up or --down")
    done = asking.post(choose(lab), "/v1/link", LinkRequest(name, up), Done)
    output.show({"link": name, "up": up}, done.text)
