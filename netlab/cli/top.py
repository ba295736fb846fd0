"""`zos lab top`: the busiest links and tunnels of a lab, again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from netlab.cli.which import choose, lab_argument
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.watch.rates import Rates

EVERY_S = 1.0
ROWS_MAX = 25
_LINKS = ("LINK", "STATE", "OUT", "IN", "DROPPED")
_TUNNELS = ("TUNNEL", "NETWORK", "STATE", "PATH", "RATE")


@command("top")
@lab_argument
@click.option("--every", metavar="SECONDS", type=click.FloatRange(0.2, 60), default=EVERY_S)
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after N looks.")
def top(lab: str | None, every: float, count: int | None) -> None:
    """Show the busiest links and tunnels of a lab, until Ctrl-C or the lab's end.

    With --json one JSON value a look, each on a line of its own.

    \b
    Examples:
      zos lab top
      zos lab top two-homes --every 5
      zos lab top --count 1 --json
    """
    import itertools
    import time

    import msgspec

    from netlab.supervisor import asking
    from netlab.supervisor.status import LabStatus
    from netlab.watch.rates import compare

    place = choose(lab)

    def look() -> LabStatus:
        return asking.get(place, "/v1/lab", LabStatus, counters="yes")

    before = look()
    for number in itertools.count(1):
        time.sleep(every)
        now = look()
        rates = compare(before, now, rows=ROWS_MAX)
        before = now
        if output.asked_for_json():
            click.echo(msgspec.json.encode(rates))
        else:
            click.clear()  # on a terminal only
            output.show_line("\n".join(format_rates(rates)))
        if number == count:
            return


def format_rates(rates: Rates) -> Iterator[str]:
    """What a look shows."""
    yield f"{rates.lab}  {rates.state}  {rates.lab_s:.0f} s"
    yield ""
    links = [
        (each.name, each.state, _rate(each.out_bit_s), _rate(each.in_bit_s), str(each.dropped))
        for each in rates.links
    ]
    yield from output.table(_LINKS, links)
    yield ""
    tunnels = [
        (each.name, each.network, each.state, each.path, _rate(each.bit_s))
        for each in rates.tunnels
    ]
    yield from output.table(_TUNNELS, tunnels)


def _rate(bit_s: float) -> str:
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bit_s >= size:
            return f"{bit_s / size:.1f} {unit}"
    return f"{bit_s:.0f} bit/s"
