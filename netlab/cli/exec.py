"""`zos lab exec`: a command in a node, on this terminal."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import click

from netlab.cli.complete import complete_nodes
from netlab.cli.which import choose, lab_option
from overlay.netns.passing import signals_passed_on
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.status import StartRequest

SIGNALLED = 128  # what a shell adds to the number of the signal that ended a command
# What a node has of its own, so that the caller's directory there is another one or none.
_OWN = ("/run", "/etc", "/var/lib")


@command("exec")
@lab_option
@click.option("--netns", metavar="NAME", default="", help="In this netns of the node.")
@click.argument("node", metavar="NODE", shell_complete=complete_nodes)
@click.argument("argv", metavar="-- COMMAND", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(
    ctx: click.Context, lab: str | None, netns: str, node: str, argv: tuple[str, ...]
) -> None:
    """Run a command in a node. It has these standard streams, and its exit code is passed on.

    It is 127 when the node has no such program, and 126 when nobody may run it.

    Signals reach it; it does not outlive this command. With --json it writes to standard error,
    and standard output has its exit code.

    \b
    Examples:
      zos lab exec alice -- ip addr
      zos lab exec --netns red-home-web n1 -- ping -c 1 10.1.2.2
    """
    from netlab.not_started import NotStarted
    from netlab.supervisor.asking import Started

    stdout = 2 if output.asked_for_json() else 1
    wish = wish_to_start(node, argv, netns=netns)
    place = choose(lab)
    try:
        with (
            signals_passed_on() as adopt,
            closing(Started(place, wish, (0, stdout, 2))) as program,
        ):
            adopt(program)
            code = exit_code_of(program.wait())
    except NotStarted as exc:
        output.say(f"zos: {exc}")
        code = exc.code
    if output.asked_for_json():
        output.show({"node": node, "exit_code": code})
    ctx.exit(code)


def wish_to_start(
    node: str, argv: tuple[str, ...], *, netns: str = "", terminal: bool = False
) -> StartRequest:
    """With this process's environment and, where a node has it too, its directory."""
    from netlab.supervisor.status import StartRequest

    cwd = _own_directory()
    if any(cwd == own or cwd.startswith(f"{own}/") for own in _OWN):
        cwd = "/"
    return StartRequest(node, argv, dict(os.environ), cwd, netns, terminal)


def _own_directory() -> str:
    """Where this process is; / when somebody has removed that."""
    try:
        return os.getcwd()  # noqa: PTH109 - text for another process
    except FileNotFoundError:
        return "/"


def exit_code_of(code: int) -> int:
    return code if code >= 0 else SIGNALLED - code
