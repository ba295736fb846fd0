"""`zos join`: this node joins a network with a token."""

from __future__ import annotations

import sys

import click
import msgspec

from overlay.errors import Rejected
from zos_core.cli import local, output
from zos_core.cli.command import command
from zos_core.status import JoinAnswer, JoinRequest
from zos_core.token import MAX_TOKEN_CHARS, parse_token

JOIN_TIMEOUT_S = 60.0


@command("join")
@click.argument("token")
def join(token: str) -> None:
    """Join a network with a token from `zos network invite`.

    Other users of this machine see the arguments of a running command: give `-` to read the token
    from standard input instead. Joining twice is the same as joining once.

    \b
    Examples:
      sudo zos join zosjoin1...
      sudo zos join - < token.txt
    """
    text = sys.stdin.read(MAX_TOKEN_CHARS + 1) if token == "-" else token  # noqa: S105 - a dash
    if not text.strip():
        raise Rejected("standard input is empty", field="TOKEN")
    parse_token(text)  # a damaged token is refused here, also while no node runs
    with output.progress("joining"):
        answer = local.post(
            "/v1/join", JoinRequest(text.strip()), JoinAnswer, timeout_s=JOIN_TIMEOUT_S
        )
    value = {key: item for key, item in msgspec.to_builtins(answer).items() if key != "schema"}
    again = "is in" if answer.already else "joined"
    output.show(
        value,
        f"{again} {answer.name} as index {answer.index}: {answer.subnet_v4} {answer.subnet_v6}",
    )
