"""`zos lab doctor`: what a lab can have on this machine, before one is built."""

from __future__ import annotations

from dataclasses import asdict

import click

from netlab.capability import DEVICES_DEFAULT, NODES_DEFAULT
from zos_core.cli import output
from zos_core.cli.command import command
from zos_core.cli.exits import Exit


@command("doctor")
@click.option("--nodes", default=NODES_DEFAULT, show_default=True, help="Nodes that run something.")
@click.option("--devices", default=DEVICES_DEFAULT, show_default=True, help="WireGuard devices.")
@click.pass_context
def doctor(ctx: click.Context, nodes: int, devices: int) -> None:
    """Check what labs can have here: namespaces, with or without root, NAT, tunnels, limits.

    Nothing is changed: what has to be tried is tried in a namespace that is gone afterwards. Exit
    code 1 when there can be no lab at all.

    \b
    Examples:
      zos lab doctor
      zos lab doctor --nodes 1000 --json
    """
    from netlab import capability

    with output.progress("examining"):
        found = capability.judge(capability.look(), nodes=nodes, devices=devices)
    width = max(len(each.name) for each in found)
    lines = []
    for each in found:
        word, colour = ("ok", "green") if each.ok else ("no", "red" if each.vital else "yellow")
        lines.append(f"{output.mark(word, colour)}  {each.name.ljust(width)}  {each.reason}")
        if each.remedy:
            lines.append(f"    {' ' * width}  -> {each.remedy}")
    output.show({"capabilities": [asdict(each) for each in found]}, *lines)
    if any(each.vital and not each.ok for each in found):
        ctx.exit(Exit.NOT_HEALTHY)
