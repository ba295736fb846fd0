"""How a judged lab is told: a line each while it is judged, one value in the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from overlay.errors import OverlayError
from zos_core.cli import output
from zos_core.cli.exits import Exit

if TYPE_CHECKING:
    from netlab.supervisor.status import JudgeLine


answers_option = click.option(
    "--answers", is_flag=True, help="With --json: of every pair who answered, how soon, to whom."
)


class Report:
    """What was heard of one judging."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.verdicts: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.error: OverlayError | None = None
        self.evidence: str | None = None

    @property
    def failed(self) -> int:
        return sum(not verdict["held"] for verdict in self.verdicts)

    @property
    def exit(self) -> Exit:
        return Exit.NOT_HEALTHY if self.failed else Exit.OK

    def hear(self, lines: Iterable[JudgeLine]) -> None:
        """Tell each line as it comes, unless JSON is wanted in the end."""
        import msgspec

        from netlab.supervisor.asking import raised

        for line in lines:
            if line.verdict is not None:
                self.verdicts.append(line.verdict)
                _tell(_words_of(line.verdict))
            elif line.event is not None:
                self.events.append(msgspec.to_builtins(line.event))
                _tell([f"{line.event.at_s:6.1f} s  {line.event.text}"])
            elif line.error is not None:
                self.error = raised(line.error)
            else:
                self.evidence = line.evidence

    def show(self) -> None:
        """The whole of it. Raises what went wrong beside the verdicts."""
        if self.error is not None:
            raise self.error
        held = len(self.verdicts) - self.failed
        value = {
            "lab": self.lab,
            "held": held,
            "failed": self.failed,
            "verdicts": self.verdicts,
            "events": self.events,
            "evidence": self.evidence,
        }
        words = f"{self.lab}: {held} of {len(self.verdicts)} hold"
        output.show(value, words, *([f"see {self.evidence}"] if self.evidence else []))


def _tell(lines: Iterable[str]) -> None:
    if not output.asked_for_json():
        for line in lines:
            output.show_line(line)


def _words_of(verdict: dict[str, Any]) -> Iterator[str]:
    many = f" ({verdict['pairs']} pairs)" if verdict["pairs"] > 1 else ""
    if verdict["held"]:
        mark = output.mark("ok", "green")
        yield f"{mark}    {verdict['expect']}{many}, after {verdict['after_s']:.2f} s"
        return
    share = f" ({verdict['failed']} of {verdict['pairs']} pairs)" if many else ""
    yield f"{output.mark('FAIL', 'red')}  {verdict['expect']}{share}"
    for miss in verdict["misses"]:
        yield f"      {miss['from']} -> {miss['to']}: {miss['reason']}"
        yield from (f"        {line}" for line in miss["why"])
    if verdict["failed"] > len(verdict["misses"]):
        yield f"      and {verdict['failed'] - len(verdict['misses'])} more"
