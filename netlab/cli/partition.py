"""`zos lab partition` and `heal`: the network in parts while every cable stays."""

from __future__ import annotations

import re

import click

from netlab.cli.complete import complete_nodes
from netlab.cli.which import choose, lab_argument, lab_option
from zos_core.cli import output
from zos_core.cli.command import command

Parts = tuple[tuple[str, ...], ...]


@command("partition")
@lab_option
@click.argument(
    "words", metavar="A,B '|' C", nargs=-1, required=True, shell_complete=complete_nodes
)
def partition(lab: str | None, words: tuple[str, ...]) -> None:
    """Cut the network in parts that hear nothing of each other, until `zos lab heal`.

    A router, LAN or region stands for the nodes behind it. Who is named in no part hears everybody.
    The bar needs quotes; without one every argument is a part.

    \b
    Examples:
      zos lab partition alice,bob '|' carol
      zos lab partition home-a eu
    """
    _set(lab, read_parts(words))


@command("heal")
@lab_argument
def heal(lab: str | None) -> None:
    """Make the network whole again after a partition. Links that were cut stay cut.

    \b
    Examples:
      zos lab heal
    """
    _set(lab, ())


def read_parts(words: tuple[str, ...]) -> Parts:
    """Names between commas or spaces, parts between bars; without a bar a part an argument."""
    texts = " ".join(words).split("|") if any("|" in word for word in words) else words
    return tuple(tuple(filter(None, re.split(r"[,\s]+", text))) for text in texts)


def _set(lab: str | None, parts: Parts) -> None:
    from netlab.supervisor import asking
    from netlab.supervisor.status import Done, PartitionRequest

    done = asking.post(choose(lab), "/v1/partition", PartitionRequest(parts), Done)
    output.show({"partition": parts}, done.text)
