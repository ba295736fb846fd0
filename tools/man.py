"""Writes a man page for every command of zos, from the same source as its help."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import click
from click_man.core import write_man_pages

from zos_core.cli.root import root


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    load(root)
    write_man_pages("zos", root, version=version("zos"), target_dir=str(target))
    print(f"{len(list(target.glob('*.1')))} man pages in {target}")


def load(group: click.Group) -> None:
    """Fetch the commands of a lazy group, which click-man would not see, all the way down."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise SystemExit(f"zos lists a command that it does not have: {name}")
        group.commands[name] = command
        if isinstance(command, click.Group):
            load(command)


if __name__ == "__main__":
    main()
