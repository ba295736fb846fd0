"""`zos lab up`: from a file to a lab that lives on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netlab.cli.complete import complete_files
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.start import Starting
    from netlab.supervisor.status import Build


@command("up")
@click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path), shell_complete=complete_files
)
@click.option("--name", metavar="NAME", help="What the lab is called, instead of the file's name.")
@click.option("--foreground", is_flag=True, help="Stay; Ctrl-C ends the lab.")
@click.option("--keep", is_flag=True, help="Keep logs, events and state when the lab ends.")
def up(file: Path, name: str | None, foreground: bool, keep: bool) -> None:
    """Build a lab from a file, and return when it is ready.

    FILE may be the name of a shipped lab (zos lab labs). It lives on until `zos lab down`. Ctrl-C
    while it is built ends it, and nothing is left.

    What a file says under `run` and `exec` is run as you, on this machine's files: read a
    stranger's lab file before you take it up, and never do so as root.

    \b
    Examples:
      zos lab up two-homes.lab.toml
      zos lab up two-homes.lab.toml --name second --foreground
    """
    from netlab.files.reading import read_lab
    from netlab.labs.shelf import find_lab
    from netlab.supervisor.start import started

    topology = read_lab(find_lab(file))
    if name is not None:
        topology = replace(topology, name=name)
    with started(topology, keep=keep) as starting:
        ready_after_s = wait_ready(starting)
        if not foreground:
            starting.let_go()
        value = {
            "name": topology.name,
            "nodes": len(topology.nodes),
            "ready_after_s": ready_after_s,
            "workdir": str(starting.place.workdir),
        }
        words = f"{topology.name} is up: {len(topology.nodes)} nodes in {ready_after_s:.2f} s"
        output.show(value, words)
        if foreground:
            for _ in starting.words():
                pass


def wait_ready(starting: Starting) -> float:
    """Seconds that the build took, once it is done. Progress is shown meanwhile.

    Raises what went wrong, once the lab has ended.
    """
    from netlab.supervisor.asking import raised

    with _Progress() as progress:
        for word in starting.words():
            if word.error is not None:
                raise raised(word.error)
            if word.ready_after_s is not None:
                return word.ready_after_s
            if word.build is not None:
                progress.show(word.build)
    raise AssertionError("words() raises when there is no last one")


class _Progress:
    """One line that changes on a terminal; a line a phase elsewhere, when it takes long."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty() and not output.asked_for_json()
        self._phase = ""

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal and self._phase:
            click.echo("\r\033[K", nl=False, err=True)

    def show(self, build: Build) -> None:
        counts = f" {build.done}/{build.total}" if build.total > 1 else ""
        if self._is_terminal:
            click.echo(f"\r\033[K{build.phase}{counts}", nl=False, err=True)
        elif build.phase != self._phase:
            output.say(f"{build.phase}{f' {build.total}' if build.total > 1 else ''}")
        self._phase = build.phase
