"""Groups that load their commands when needed, and commands that all take --json."""

from __future__ import annotations

import importlib
from collections.abc import Callable, ItemsView, Mapping
from typing import Any, NamedTuple

import click

from zos_core.cli.output import ask_for_json

# Entry points of packages above zos_core. Each is a table of commands, {"name": Lazy(...)}, in a
# module that is cheap to import: it says what `zos --help` says without importing a command.
PLUGINS = "zos.commands"


class Lazy(NamedTuple):
    """Where a command is, and what `--help` says of it without importing it."""

    target: str  # "package.module:attribute"
    summary: str
    section: str = "Commands"


class Command(click.Command):
    """A command that takes --json."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--json"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=ask_for_json,
                help="Print JSON.",
            )
        )


class Group(click.Group):
    """A group that names the nearest command when one is mistyped (CLI-013)."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            from zos_core.files.toml import nearest

            known = self.list_commands(ctx)
            guess = nearest(args[0], known)
            hint = f"did you mean {guess}?" if guess else f"there is {', '.join(known)}"
            raise click.UsageError(f"No such command {args[0]!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """Knows names and summaries; imports a command when it runs (CLI-016).

    `plugins` names the group of entry points that add commands to it.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, Lazy] | None = None,
        plugins: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})
        self.commands = _Loading(self)
        self._group_of_plugins = plugins
        self._plugins: dict[str, Lazy] | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [*self.lazy, *self._found_plugins()]

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        entry = self.lazy.get(cmd_name) or self._found_plugins().get(cmd_name)
        return None if entry is None else _load(entry.target)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        entries = {**self.lazy, **self._found_plugins()}
        width = max(map(len, entries))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in entries.items():
            sections.setdefault(entry.section, []).append((name.ljust(width), entry.summary))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)

    def _found_plugins(self) -> dict[str, Lazy]:
        if self._plugins is None:
            self._plugins = {}
            if self._group_of_plugins:
                from importlib.metadata import entry_points

                for point in entry_points(group=self._group_of_plugins):
                    self._plugins.update(point.load())
        return self._plugins


class _Loading(dict[str, click.Command]):
    """The commands of a lazy group for those who want them all: click-man."""

    def __init__(self, lazy_group: LazyGroup) -> None:
        super().__init__()
        self._group = lazy_group

    def items(self) -> ItemsView[str, click.Command]:  # type: ignore[override]  # dict's own view
        context = click.Context(self._group)
        found = (
            (name, self._group.get_command(context, name))
            for name in self._group.list_commands(context)
        )
        return {name: command for name, command in found if command is not None}.items()


def _load(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{target} is no command")
    return command


def command(name: str, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A top-level command that takes --json."""
    return click.command(name, cls=Command, **kwargs)


def group(name: str) -> Callable[[Callable[..., Any]], click.Group]:
    """A group of commands that all take --json."""

    def wrap(function: Callable[..., Any]) -> click.Group:
        return click.group(name, cls=Group)(function)

    return wrap
