"""`zos`: finds the command, runs it, and turns what went wrong into a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from overlay.errors import OverlayError
from zos_core.cli import output
from zos_core.cli.command import PLUGINS, Lazy, LazyGroup
from zos_core.cli.exits import Exit, exit_of

_KEYS, _NODES, _NETWORKS, _LOOK, _OTHER = (
    "Keys and registry",
    "Nodes",
    "Tenant networks",
    "Look",
    "Other",
)

COMMANDS = {
    "id": Lazy("zos_core.cli.id:id_", "Make, show and seal keys.", _KEYS),
    "registry": Lazy("zos_core.cli.registry:registry", "Serve a registry.", _KEYS),
    "farm": Lazy("zos_core.cli.farm:farm", "Say which nodes belong to a farm.", _NODES),
    "node": Lazy("zos_core.cli.node:node", "Run this machine as a node.", _NODES),
    "relay": Lazy("zos_core.cli.relay:relay", "Pass on packets between hidden nodes.", _NODES),
    "exit": Lazy("zos_core.cli.exit_offer:exit_", "Let tenants out to the internet.", _NODES),
    "join": Lazy("zos_core.cli.join:join", "Join a network with a token.", _NODES),
    "network": Lazy("zos_core.cli.network:network", "Create and change networks.", _NETWORKS),
    "attach": Lazy("zos_core.cli.attach:attach", "Attach a netns to a network.", _NETWORKS),
    "detach": Lazy("zos_core.cli.attach:detach", "Detach a workload from a network.", _NETWORKS),
    "exec": Lazy("zos_core.cli.exec:exec_", "Run a command inside a network.", _NETWORKS),
    "status": Lazy("zos_core.cli.status:status", "Show networks, peers and what is wrong.", _LOOK),
    "ping": Lazy("zos_core.cli.ping:ping", "Ask a peer for an answer; name the path.", _LOOK),
    "why": Lazy("zos_core.cli.why:why", "Say what keeps A from reaching B.", _LOOK),
    "wait": Lazy("zos_core.cli.wait:wait", "Wait until networks are up.", _LOOK),
    "doctor": Lazy("zos_core.cli.doctor:doctor", "Check this machine.", _LOOK),
    "completion": Lazy("zos_core.cli.completion:completion", "Print shell completion.", _OTHER),
    "help": Lazy("zos_core.cli.help:help_", "Explain a command or a topic.", _OTHER),
}


@click.group(
    "zos",
    cls=LazyGroup,
    lazy=COMMANDS,
    plugins=PLUGINS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="zos", message="zos %(version)s")
def root() -> None:
    """Encrypted tenant networks across nodes, from signed documents.

    Exit codes: 0 done, 1 not running or not healthy, 2 usage, 3 not converged, 4 refused, 5
    conflict, 6 unavailable, 130 interrupted. Topics: zos help exit-codes, files, environment.

    \b
    Examples:
      zos id new tenant alice
      zos network create home --range 10.1.0.0/16
      zos network add-node home node1... --as n1
      zos status
    """


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; raises nothing that a person would have to read."""
    args = list(sys.argv[1:] if argv is None else argv)
    wants_json = "--json" in (args[: args.index("--")] if "--" in args else args)
    try:
        return int(root.main(args, prog_name="zos", standalone_mode=False) or 0)
    except OverlayError as exc:
        return _refuse(exc, wants_json=wants_json)
    except ExceptionGroup as exc:
        if (reason := _reason(exc)) is None:
            raise
        return _refuse(reason, wants_json=wants_json)
    except click.UsageError as exc:
        if wants_json:
            click.echo(output.format_json(output.usage_json(exc.format_message())))
        exc.show()
        return Exit.USAGE
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort):
        output.say("zos: interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has left (`zos ... | head`); flushing at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def _refuse(error: OverlayError, *, wants_json: bool) -> int:
    if wants_json:
        click.echo(output.format_json(output.error_json(error)))
    output.say(f"zos: {error}")
    return exit_of(error)


def _reason(group: ExceptionGroup[Exception]) -> OverlayError | None:
    """The one thing that went wrong in a group of tasks; None when it was no error of ours."""
    while len(group.exceptions) == 1:
        match group.exceptions[0]:
            case OverlayError() as error:
                return error
            case ExceptionGroup() as inner:
                group = inner
            case _:
                return None
    return None
