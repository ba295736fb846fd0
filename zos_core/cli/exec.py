"""`zos exec`: a command as a workload of a network, for as long as it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import msgspec

from overlay.errors import Refused
from overlay.netns import dns, namespaces, spawn
from zos_core.cli import local, output
from zos_core.cli.attach import describe
from zos_core.cli.command import command
from zos_core.cli.completion import complete_networks
from zos_core.status import AttachAnswer, AttachRequest, DetachRequest, Done

SIGNALLED = 128  # what a shell adds to the number of the signal that ended a command


@command("exec")
@click.argument("net", metavar="NET", shell_complete=complete_networks)
@click.option("--name", metavar="NAME", help="What the workload is called while it runs.")
@click.argument("argv", metavar="-- COMMAND", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(ctx: click.Context, net: str, name: str | None, argv: tuple[str, ...]) -> None:
    """Run a command inside a network, as a workload with addresses of its own.

    The command has this terminal and this environment, and a network namespace that is attached to
    the network until it ends. Names are those of the network: the command sees a resolv.conf of its
    own, the machine's stays as it is. The exit code is the command's. With --json the command
    writes to standard error, and standard output has the addresses and the exit code.

    \b
    Examples:
      sudo zos exec home -- ping -c 1 10.1.2.1
      sudo zos exec home --name db -- getent ahosts web.home.zos
      sudo zos exec home -- bash
    """
    if os.geteuid() != 0:
        raise Refused("exec needs root to make a network namespace", remedy="use sudo")
    called = name or f"exec-{os.getpid()}"
    with _attached(net, called) as (netns, answer):
        output.say(describe(answer.attachment))
        stdout = sys.stderr.fileno() if output.asked_for_json() else None
        code = spawn.run_foreground(
            argv,
            netns=netns,
            env=os.environ,
            stdout=stdout,
            files={dns.RESOLV_CONF: answer.resolv_conf} if answer.resolv_conf else None,
            hide=dns.MACHINE_RESOLVERS,
        )
    code = code if code >= 0 else SIGNALLED - code
    value = {"network": answer.network, "attachment": msgspec.to_builtins(answer.attachment)}
    output.show({**value, "exit_code": code})
    ctx.exit(code)


@contextmanager
def _attached(net: str, name: str) -> Iterator[tuple[int, AttachAnswer]]:
    """A new netns that is attached inside the block. Its end is the end of the attachment, too."""
    netns = namespaces.anonymous()
    try:
        path = f"/proc/{os.getpid()}/fd/{netns}"
        request = AttachRequest(network=net, name=name, netns=path)
        answer = local.post("/v1/attach", request, AttachAnswer)
        try:
            yield netns, answer
        finally:
            local.post("/v1/detach", DetachRequest(network=answer.network, name=name), Done)
    finally:
        os.close(netns)
