"""`zos lab nat`: what a router's NAT does, measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from netlab.cli.complete import complete_routers
from netlab.cli.which import choose, lab_option
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.probe import Observed
    from netlab.supervisor.probing import NatAnswer

_HEADER = ("", "MAPPING", "FILTERING", "PORT KEPT", "HAIRPIN")


@command("nat")
@lab_option
@click.argument("router", metavar="ROUTER", shell_complete=complete_routers)
def nat(lab: str | None, router: str) -> None:
    """Measure what a router does to UDP, in the manner of RFC 5780, and compare with its file.

    It takes a node behind the router and two on the internet. Behind another NAT both are measured
    as one. What a firewall stops altogether shows as "-".

    \b
    Examples:
      zos lab nat home
      zos lab nat home --json
    """
    import msgspec

    from netlab.supervisor import asking
    from netlab.supervisor.probing import NatAnswer

    with output.progress(f"probing {router}"):
        found = asking.get(choose(lab), "/v1/nat", NatAnswer, router=router)
    value = {key: item for key, item in msgspec.to_builtins(found).items() if key != "schema"}
    output.show(value, *format_probe(found))


def format_probe(found: NatAnswer) -> Iterator[str]:
    """A line for each family, and one for what the file says."""
    rows = [_row("IPv4", found.ipv4), _row("IPv6", found.ipv6)]
    if found.declared is not None:
        rows.append(_row("declared", found.declared))
    yield from output.table(_HEADER, rows)


def _row(what: str, seen: Observed) -> tuple[str, ...]:
    return (
        what,
        seen.mapping or "-",
        seen.filtering or "-",
        _word(seen.preserved),
        _word(seen.hairpin),
    )


def _word(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"
