"""`zos help`: commands and the topics that belong to no single command."""

from __future__ import annotations

import click

from overlay.errors import Rejected
from zos_core.cli import output
from zos_core.cli.command import command
from zos_core.cli.exits import MEANING, code_of

_FILES = """\
$ZOS_HOME/config.toml            defaults: registry, tenant, farm
$ZOS_HOME/keys/KIND-NAME.key     private keys, 0600, sealed when you say so
$ZOS_HOME/networks/NAME.toml     tenant networks: edit, then zos network publish NAME
$ZOS_HOME/farms/NAME.toml        farms: edit, then zos farm publish NAME
/etc/zos/node.toml               configuration of the node; options of `zos node run` win
/var/lib/zos                     the node's keys and documents
/run/zos/node.sock               where the running node answers local commands
/run/netns/n-...                 one tenant netns per network"""

_ENVIRONMENT = """\
ZOS_HOME              a person's directory; default ~/.config/zos
ZOS_PASSPHRASE_FILE   file with the passphrase of sealed keys, instead of a question
ZOS_STATE             the node's directory; default /var/lib/zos
ZOS_SOCKET            the node's socket; default /run/zos/node.sock
NO_COLOR              no colour, also on a terminal"""


def _exit_codes() -> str:
    lines = [f"{int(code):>3}  {code_of(code):<14} {meaning}" for code, meaning in MEANING.items()]
    return "\n".join([*lines, "", "zos exec exits as its command does."])


TOPICS = {
    "exit-codes": ("What exit codes mean.", _exit_codes),
    "files": ("Which files there are.", lambda: _FILES),
    "environment": ("Which variables count.", lambda: _ENVIRONMENT),
}


@command("help")
@click.argument("words", metavar="[COMMAND | TOPIC]", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command or a topic: exit-codes, files, environment.

    \b
    Examples:
      zos help exit-codes
      zos help network invite
    """
    if len(words) == 1 and words[0] in TOPICS:
        text = TOPICS[words[0]][1]()
    else:
        text = _command_help(ctx.find_root(), words)
    output.show({"topic": " ".join(words) or "zos", "text": text}, text)


def _command_help(root: click.Context, words: tuple[str, ...]) -> str:
    context = root
    for word in words:
        group = context.command
        found = group.get_command(context, word) if isinstance(group, click.Group) else None
        if found is None:
            raise Rejected(
                f"there is no command or topic {' '.join(words)!r}",
                remedy=f"topics are {', '.join(TOPICS)}; zos --help lists commands",
            )
        context = click.Context(found, info_name=word, parent=context)
    return context.get_help()
