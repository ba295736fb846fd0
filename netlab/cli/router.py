"""`zos lab reboot-nat`: what happens to a router."""

from __future__ import annotations

import click

from netlab.cli.complete import complete_routers
from netlab.cli.which import choose, lab_option
from zos_core.cli import output
from zos_core.cli.command import command


@command("reboot-nat")
@lab_option
@click.argument("router", metavar="ROUTER", shell_complete=complete_routers)
def reboot_nat(lab: str | None, router: str) -> None:
    """Make a router forget all connections and translations, as after a power cut.

    \b
    Examples:
      zos lab reboot-nat home
    """
    from netlab.supervisor import asking
    from netlab.supervisor.status import Done, RouterRequest

    done = asking.post(choose(lab), "/v1/router", RouterRequest(router), Done)
    output.show({"router": router}, done.text)
