"""`zos lab kill`, `pause`, `resume`, `restart`: what happens to a node as a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netlab.cli.complete import complete_nodes
from netlab.cli.which import choose, lab_option
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.status import PowerVerb


@command("kill")
@lab_option
@click.argument("node", metavar="NODE", shell_complete=complete_nodes)
def kill(lab: str | None, node: str) -> None:
    """Cut a node's power: nothing more is sent, nothing that ran is left. Its disk stays.

    \b
    Examples:
      zos lab kill n1
    """
    _act(lab, node, "kill")


@command("pause")
@lab_option
@click.argument("node", metavar="NODE", shell_complete=complete_nodes)
def pause(lab: str | None, node: str) -> None:
    """Stop every process of a node where it is. Its kernel answers all the same.

    \b
    Examples:
      zos lab pause n1
    """
    _act(lab, node, "pause")


@command("resume")
@lab_option
@click.argument("node", metavar="NODE", shell_complete=complete_nodes)
def resume(lab: str | None, node: str) -> None:
    """Let every process of a paused node go on.

    \b
    Examples:
      zos lab resume n1
    """
    _act(lab, node, "resume")


@command("restart")
@lab_option
@click.argument("node", metavar="NODE", shell_complete=complete_nodes)
def restart(lab: str | None, node: str) -> None:
    """Cut a node's power and switch it on again: same cables, addresses and disk.

    What the file says that runs on it is started again.

    \b
    Examples:
      zos lab restart n1
    """
    _act(lab, node, "restart")


def _act(lab: str | None, node: str, verb: PowerVerb) -> None:
    from netlab.supervisor import asking
    from netlab.supervisor.status import Done, NodeRequest

    with output.progress(f"{verb} {node}"):
        done = asking.post(choose(lab), "/v1/node", NodeRequest(node, verb), Done)
    output.show({"node": node, "verb": verb}, done.text)
