"""Names of labs that live and of what is in them, for the shell's tab key."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from overlay.errors import OverlayError

if TYPE_CHECKING:
    from netlab.supervisor.status import LabStatus


def complete_labs(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from netlab.supervisor import places

    with suppress(OverlayError):
        return _starting((place.name for place in places.list_living()), incomplete)
    return []


def complete_labs_and_files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Labs that are up, and files."""
    living = complete_labs(context, parameter, incomplete)
    return [*map(CompletionItem, living), CompletionItem(incomplete, type="file")]


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Labs that are shipped, by their names, and files."""
    from netlab.labs.shelf import shipped_labs

    shipped = [lab for lab in shipped_labs() if lab.name.startswith(incomplete)]
    return [
        *(CompletionItem(lab.name, help=lab.summary) for lab in shipped),
        CompletionItem(incomplete, type="file"),
    ]


def complete_nodes(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    lab = _status(context)
    return _starting((node.name for node in lab.nodes) if lab else (), incomplete)


def complete_routers(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    lab = _status(context)
    return _starting((router.name for router in lab.routers) if lab else (), incomplete)


def complete_links(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    lab = _status(context)
    return _starting((link.name for link in lab.links) if lab else (), incomplete)


def complete_places(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Links, nodes and routers."""
    lab = _status(context)
    if lab is None:
        return []
    names = [node.name for node in lab.nodes]
    names += (router.name for router in lab.routers)
    names += (link.name for link in lab.links)
    return _starting(names, incomplete)


def _status(context: click.Context) -> LabStatus | None:
    from netlab.cli.which import choose
    from netlab.supervisor import asking
    from netlab.supervisor.status import LabStatus

    # Somebody waits for the tab key: no answer is an answer.
    with suppress(OverlayError):
        return asking.get(choose(context.params.get("lab")), "/v1/lab", LabStatus)
    return None


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
