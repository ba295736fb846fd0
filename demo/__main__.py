"""The lab of demo.lab.toml, run as `zos lab run` runs it, and told step by step.

Two tenants with the same addresses, six nodes, a laptop: who reaches whom, and how. Ends with
tables, build/demo.json and a picture beside it; exit code 0 when all that the file expects holds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from demo import results, story, tables
from netlab.cli.verdicts import Report
from netlab.files.reading import read_lab
from netlab.pictures.of_status import live_of
from netlab.pictures.svg import draw_svg
from netlab.supervisor import asking, places
from netlab.supervisor.journal import Event
from netlab.supervisor.order import Word
from netlab.supervisor.start import Starting, started
from netlab.supervisor.status import CheckRequest, JudgeLine, LabStatus
from netlab.topology import Topology
from overlay.errors import OverlayError

FILE = Path(__file__).with_name("demo.lab.toml")
OUT, PICTURE = Path("build/demo.json"), Path("build/demo.svg")


def play(topology: Topology) -> bool:
    """Whether all of it holds. Raises what keeps the lab from coming up, or from being judged."""
    report = Report(topology.name)
    with started(topology, keep=False) as starting:
        happened = _tell_build(starting)
        print(f"\n{story.NOW_JUDGED}\n", flush=True)
        wish = CheckRequest(timeline=True, answers=True)
        report.hear(asking.follow(starting.place, "/v1/check", JudgeLine, wish=wish))
        status = asking.get(starting.place, "/v1/lab", LabStatus, fresh="yes")
    if report.error is not None:
        raise report.error
    found = results.compose(report.verdicts, status, happened)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=2) + "\n")
    PICTURE.write_text(draw_svg(topology, live=live_of(status)))
    print(tables.all_of(found))
    return not report.failed


def _tell_build(starting: Starting) -> list[Event]:
    """Each step as it happens. All that has happened when the lab is up."""
    words = starting.words()
    _refuse(next(words))  # with the first one it listens
    happened = []
    teller = story.Teller()
    for event in asking.follow(starting.place, "/v1/events", Event, from_=1, follow="yes"):
        happened.append(event)
        for line in teller.lines(event):
            print(line, flush=True)
        if event.kind in ("ready", "end"):
            break
    for word in words:
        _refuse(word)
        if word.ready_after_s is not None:
            break
    return happened


def _refuse(word: Word) -> None:
    if word.error is not None:
        raise asking.raised(word.error)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="zos-demo-") as scratch:
        os.environ[places.ROOT_VARIABLE] = scratch  # a lab of its own, whatever else is up
        try:
            holds = play(read_lab(FILE))
        except OverlayError as exc:
            print(f"\nThe demo stopped: {exc}", file=sys.stderr)
            return 1
    verdict = "All as it should be" if holds else "NOT as it should be"
    print(f"\n{verdict}: see {OUT} and {PICTURE}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
