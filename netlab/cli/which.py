"""Which lab is meant: the one that is named, or the only one that is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from netlab.cli.complete import complete_labs
from netlab.supervisor import places
from netlab.supervisor.places import Place
from overlay.errors import Rejected
from zos_core.cli.exits import NotRunning

F = TypeVar("F", bound=Callable[..., Any])


def lab_argument(function: F) -> F:
    """[LAB], for commands that are about a lab as a whole."""
    argument = click.argument("lab", metavar="[LAB]", required=False, shell_complete=complete_labs)
    return argument(function)


def lab_option(function: F) -> F:
    """--lab LAB, for commands that are about something inside a lab."""
    option = click.option(
        "--lab",
        metavar="LAB",
        envvar="ZOS_LAB",
        shell_complete=complete_labs,
        help="Which lab; or the variable ZOS_LAB.",
    )
    return option(function)


def choose(name: str | None) -> Place:
    """The place of a lab that is up. Raises NotRunning, or Rejected when it cannot be told."""
    living = places.list_living()
    names = [place.name for place in living]
    if name is not None:
        if name in names:
            return places.place_of(name)
        raise _unknown(name, names)
    if not living:
        raise NotRunning("no lab is up", remedy="zos lab up FILE")
    if len(living) > 1:
        raise Rejected("which lab?", field="LAB", remedy=f"up are {', '.join(names)}")
    return living[0]


def _unknown(name: str, names: list[str]) -> NotRunning:
    from zos_core.files.toml import nearest

    guess = nearest(name, names)
    up = f"up are {', '.join(names)}" if names else "zos lab up FILE"
    return NotRunning(
        f"no lab called {name!r} is up",
        field="LAB",
        remedy=f"did you mean {guess!r}?" if guess else up,
    )
