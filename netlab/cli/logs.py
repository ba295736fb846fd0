"""`zos lab logs`: what the programs of a lab have written."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netlab.cli.complete import complete_nodes
from netlab.cli.which import choose, lab_option
from overlay.errors import Rejected
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.supervisor.places import Place

POLL_S = 0.2
LINES_MAX = 1_000_000


@command("logs")
@lab_option
@click.option("--follow", "-f", is_flag=True, help="Also what is still to come.")
@click.option(
    "--lines",
    "-n",
    metavar="N",
    type=click.IntRange(0, LINES_MAX),
    default=LINES_MAX,
    help="Only the last N lines of each log.",
)
@click.argument("node", metavar="[NODE]", required=False, shell_complete=complete_nodes)
def logs(lab: str | None, follow: bool, lines: int, node: str | None) -> None:
    """Show the logs of a node, or without one those of the lab itself and of all nodes.

    \b
    Examples:
      zos lab logs alice
      zos lab logs n1 --follow -n 20
    """
    place = choose(lab)
    directory = place.workdir
    if node is not None:
        _check_node(node, place)
        directory = place.workdir / node
    tail = _Tail(directory, lines)
    if not follow:
        found = [{"log": name, "line": line} for name, line in tail.read()]
        output.show({"logs": found}, *(f"{each['log']} | {each['line']}" for each in found))
        return
    from netlab.supervisor import places

    while True:
        for name, line in tail.read():
            output.show_line(f"{name} | {line}")
        if not places.is_alive(place):
            return
        time.sleep(POLL_S)


class _Tail:
    """All logs below a directory, those included that are yet to be made."""

    def __init__(self, directory: Path, lines: int) -> None:
        self._directory = directory
        self._lines = lines
        self._positions: dict[Path, int] = {}

    def read(self) -> Iterator[tuple[str, str]]:
        """Whole lines that were not read before, with the name of their log."""
        for path in sorted({*self._directory.glob("*.log"), *self._directory.glob("*/*.log")}):
            is_new = path not in self._positions
            lines = self._read_on(path)
            name = str(path.relative_to(self._directory).with_suffix(""))
            for line in lines[max(0, len(lines) - self._lines) if is_new else 0 :]:
                yield name, line

    def _read_on(self, path: Path) -> list[str]:
        position = self._positions.get(path, 0)
        with path.open("rb") as file:
            file.seek(position)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._positions[path] = position + len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines() if newline else []


def _check_node(name: str, place: Place) -> None:
    """Raises Rejected when the lab has no such node.

    The lab is asked about one that has written nothing yet, and only then: logs are there to be
    read also when it does not answer.
    """
    from netlab.supervisor import asking
    from netlab.supervisor.status import LabStatus

    if name in (path.name for path in place.workdir.iterdir() if path.is_dir()):
        return
    nodes = [node.name for node in asking.get(place, "/v1/lab", LabStatus).nodes]
    if name not in nodes:
        raise _no_node(name, nodes)


def _no_node(name: str, nodes: list[str]) -> Rejected:
    guess = difflib.get_close_matches(name, nodes, n=1, cutoff=0.0)
    return Rejected(
        f"there is no node {name!r}",
        field="NODE",
        remedy=f"did you mean {guess[0]!r}?" if guess else "see zos lab status",
    )
