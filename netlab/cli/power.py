"""`zos lab kill`, `pause`, `resume`, `restart`: what happens to a node as a machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from netlab.cli.complete import complete_nodes
from netlab.cli.which import choose, lab_option
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.status import PowerVerb


def _command(verb: PowerVerb) -> Callable[[Callable[[], None]], click.Command]:
    """`zos lab VERB NODE`, which says of itself what stands at the function."""

    def wrap(described: Callable[[], None]) -> click.Command:
        @command(verb, help=inspect.getdoc(described))
        @lab_option
        @click.argument("node", metavar="NODE", shell_complete=complete_nodes)
        def act(lab: str | None, node: str) -> None:
            _act(lab, node, verb)

        return act

    return wrap


@_command("kill")
def kill() -> None:
    """Cut a node's power: nothing more is sent, nothing that ran is left. Its disk stays.

    \b
    Examples:
      zos lab kill n1
    """


@_command("pause")
def pause() -> None:
    """Stop every process of a node where it is. Its kernel answers all the same.

    \b
    Examples:
      zos lab pause n1
    """


@_command("resume")
def resume() -> None:
    """Let every process of a paused node go on.

    \b
    Examples:
      zos lab resume n1
    """


@_command("restart")
def restart() -> None:
    """Cut a node's power and switch it on again: same cables, addresses and disk.

    What the file says that runs on it is started again.

    \b
    Examples:
      zos lab restart n1
    """


def _act(lab: str | None, node: str, verb: PowerVerb) -> None:
    from netlab.supervisor import asking
    from netlab.supervisor.status import Done, NodeRequest

    with output.progress(f"{verb} {node}"):
        done = asking.post(choose(lab), "/v1/node", NodeRequest(node, verb), Done)
    output.show({"node": node, "verb": verb}, done.text)
