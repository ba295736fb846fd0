"""`zos why`: what keeps A from reaching B."""

from __future__ import annotations

import click
import msgspec

from zos_core import why as walking
from zos_core.cli import output
from zos_core.cli.command import command
from zos_core.cli.completion import complete_networks, complete_peers
from zos_core.cli.exits import Exit
from zos_core.cli.inputs import find_inputs
from zos_core.why import Step, Walk

_MARKS = {"ok": ("ok", "green"), "no": ("NO", "red"), "unknown": ("?", "yellow")}


@command("why")
@click.argument("source", metavar="A", shell_complete=complete_peers)
@click.argument("target", metavar="B", shell_complete=complete_peers)
@click.argument("traffic", metavar="[PROTOCOL/PORT]", default="any")
@click.option("--network", metavar="NET", shell_complete=complete_networks, help="Where to look.")
@click.pass_context
def why(ctx: click.Context, source: str, target: str, traffic: str, network: str | None) -> None:
    """Say what keeps A from reaching B: policy, membership, peer, endpoint, handshake, firewall.

    A and B are names, node ids, workloads of this node, or addresses of the network; B may be an
    address in the internet: then exits, guards and the way to the exit in use are looked at.

    This node judges from what it sees; what it cannot know is marked with "?". Exit code 1 when
    something refuses.

    \b
    Examples:
      zos why n1 n2
      zos why web 10.1.2.5 tcp/443 --network home
      zos why web 1.1.1.1 tcp/443
    """
    inputs = find_inputs(network, source, target=target)
    walk = walking.walk(inputs, source, target, walking.parse_traffic(traffic))
    value = {
        "network": inputs.network.id,
        "from": source,
        "to": target,
        "traffic": str(walk.traffic),
        "steps": msgspec.to_builtins(walk.steps),
        "refusal": msgspec.to_builtins(walk.refusal),
    }
    output.show(value, *format_walk(walk))
    if walk.refusal is not None:
        ctx.exit(Exit.NOT_HEALTHY)


def format_walk(walk: Walk) -> list[str]:
    """The walk as lines, ending in the verdict."""
    width = max(len(step.name) for step in walk.steps)
    lines = [_line(step, width) for step in walk.steps]
    pair = f"{walk.source.text} -> {walk.target.text} {walk.traffic}"
    refusal = walk.refusal
    if refusal is None:
        return [*lines, f"{pair}: nothing that this node sees refuses"]
    remedy = [f"  {refusal.remedy}"] if refusal.remedy else []
    return [*lines, f"{pair}: {refusal.name} refuses: {refusal.evidence}", *remedy]


def _line(step: Step, width: int) -> str:
    text, colour = _MARKS[step.verdict]
    return f"{output.mark(text.rjust(2), colour)}  {step.name.ljust(width)}  {step.evidence}"
