"""`zos lab link`: what happens to a link."""

from __future__ import annotations

from typing import Any

import click

from netlab.cli.complete import complete_links
from netlab.cli.quantities import RATE, SHARE, TIME
from netlab.cli.which import choose, lab_option
from zos_core.cli import output
from zos_core.cli.command import group


@group("link")
def link() -> None:
    """Cut, mend and impair links.

    \b
    Examples:
      zos lab link set alice-home --down
      zos lab link set alice-home --delay 20ms --loss 1%
    """


@link.command("set")
@lab_option
@click.argument("name", metavar="LINK", shell_complete=complete_links)
@click.option("--up/--down", "plugged", default=None, help="Plug the cable, or pull it.")
@click.option("--delay", "delay_s", type=TIME, help="Every packet so much later.")
@click.option("--jitter", "jitter_s", type=TIME, help="Up to so much more or less.")
@click.option("--loss", type=SHARE, help="Lose so many.")
@click.option("--duplicate", type=SHARE, help="Send so many twice.")
@click.option("--reorder", type=SHARE, help="Let so many overtake.")
@click.option("--rate", "rate_bit_s", type=RATE, help="No more than this a second.")
@click.option("--mtu", "mtu_bytes", type=int, metavar="BYTES", help="The largest packet.")
@click.option("--clear", is_flag=True, help="First take back all impairments.")
@click.option(
    "--direction",
    type=click.Choice(["both", "up", "down"]),
    default="both",
    show_default=True,
    help="Of impairments; up leaves the end that the link is declared at.",
)
def set_(
    lab: str | None,
    name: str,
    plugged: bool | None,
    mtu_bytes: int | None,
    clear: bool,
    direction: Any,
    **change: Any,
) -> None:
    """Change a link while programs run: A-B as it joins A and B, or A:eth1 by its end.

    What is not given stays as it is.

    \b
    Examples:
      zos lab link set alice-home --down
      zos lab link set alice:eth0 --delay 20ms --jitter 2ms --loss 1% --rate 10mbit
      zos lab link set alice-home --loss 30% --direction up
      zos lab link set alice-home --clear
    """
    from netlab.supervisor import asking
    from netlab.supervisor.status import Done, LinkChange, LinkRequest

    request = LinkRequest(
        link=name,
        plugged=plugged,
        mtu_bytes=mtu_bytes,
        clear=clear,
        direction=direction,
        change=LinkChange(**change),
    )
    if request == LinkRequest(link=name, direction=direction):
        raise click.UsageError("what shall change? see zos lab link set --help")
    done = asking.post(choose(lab), "/v1/link", request, Done)
    output.show({"link": name, "done": done.text}, done.text)
