"""`zos lab shell`: a shell in a node, on a terminal of its own that this one shows."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import click

from netlab.cli.complete import complete_nodes
from netlab.cli.exec import exit_code_of, wish_to_start
from netlab.cli.which import choose, lab_option
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.asking import Started

_READ_BYTES = 65536
_END_OF_INPUT, _AGAIN_S = b"\x04", 0.3  # as a terminal has it: Ctrl-D


@command("shell")
@lab_option
@click.option("--netns", metavar="NAME", default="", help="In this netns of the node.")
@click.argument("node", metavar="NODE", shell_complete=complete_nodes)
@click.pass_context
def shell(ctx: click.Context, lab: str | None, netns: str, node: str) -> None:
    """Open a shell in a node, with job control. Its exit code is passed on.

    \b
    Examples:
      zos lab shell alice
      zos lab shell --netns red-home-web n1
    """
    from netlab.not_started import NotStarted
    from netlab.supervisor.asking import Started

    argv = (os.environ.get("SHELL") or "/bin/sh",)
    wish = wish_to_start(node, argv, netns=netns, terminal=True)
    ours, theirs = os.openpty()
    try:
        _copy_size(ours)
        started = Started(choose(lab), wish, (theirs, theirs, theirs))
        os.close(theirs)
        with closing(started) as program, _raw_terminal(), _resizing(ours):
            _carry(program, ours)
            code = exit_code_of(program.wait())
    except NotStarted as exc:
        output.say(f"zos: {exc}")
        code = exc.code
    finally:
        os.close(ours)
    if output.asked_for_json():
        output.show({"node": node, "exit_code": code})
    ctx.exit(code)


def _carry(program: Started, terminal: int) -> None:
    """What is typed goes there, what it says comes here, until the program has ended."""
    watched = [0, terminal, program.fileno()]
    while True:
        at_end = 0 not in watched
        ready, _, _ = select.select(watched, [], [], _AGAIN_S if at_end else None)
        if at_end and not ready:
            # Again: a shell that was not reading yet has thrown the first one away.
            os.write(terminal, _END_OF_INPUT)
        if terminal in ready:
            # An error is how Linux says that nobody has the other end open any more.
            with suppress(OSError):
                os.write(2 if output.asked_for_json() else 1, os.read(terminal, _READ_BYTES))
                continue
            watched.remove(terminal)
        if program.fileno() in ready:
            return
        if 0 in ready:
            typed = os.read(0, _READ_BYTES)
            if typed:
                os.write(terminal, typed)
            else:
                watched.remove(0)
                os.write(terminal, _END_OF_INPUT)


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes through: Ctrl-C is the shell's to answer."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is not lost
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def _resizing(terminal: int) -> Iterator[None]:
    before = signal.signal(signal.SIGWINCH, lambda *_: _copy_size(terminal))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _copy_size(terminal: int) -> None:
    with suppress(OSError):  # no terminal here: the other one keeps its default
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
