"""`zos lab pcap`: the packets of a link or a node."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from netlab.cli.complete import complete_places
from netlab.cli.which import choose, lab_option
from netlab.cli.writing import open_new
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from netlab.capture.taps import Heard
    from netlab.supervisor.tapping import Tapped


@command("pcap")
@lab_option
@click.argument("name", metavar="LINK|NODE", shell_complete=complete_places)
@click.option("-w", "--write", "path", metavar="FILE", help="As pcapng; - is standard output.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many packets.")
@click.option("--duration", metavar="TIME", help="Stop after this time: 10s.")
def pcap(
    lab: str | None,
    name: str,
    path: str | None,
    force: bool,
    count: int | None,
    duration: str | None,
) -> None:
    """Show what passes a link, at both ends, or all links of a node or router.

    A line a packet (with --json a value), or a file for Wireshark with an interface for every end.
    It goes on until Ctrl-C, --count, --duration or the end of the lab. Packets that came faster
    than they could be written are counted.

    \b
    Examples:
      zos lab pcap alice-home
      zos lab pcap alice --duration 10s -w alice.pcapng
      zos lab pcap alice-home -w - | wireshark -k -i -
    """
    from netlab.files.quantities import parse_time
    from netlab.supervisor.tapping import Tapped

    for_s = None if duration is None else parse_time(duration, field="duration")
    with closing(Tapped(choose(lab), name)) as tapped, _stopped_by_signals() as stopping:
        until = None if for_s is None else time.monotonic() + for_s
        heard = islice(tapped.hear(until=until, stopping=stopping), count)
        if path is None:
            _print(tapped, heard)
        else:
            _write(tapped, heard, path, about=name, force=force)


def _print(tapped: Tapped, heard: Iterator[Heard]) -> None:
    passed = 0
    for passed, each in enumerate(heard, start=1):  # noqa: B007 - the last number is told
        _show(tapped, each)
    _tell(passed, sum(tapped.missed()))


def _show(tapped: Tapped, heard: Heard) -> None:
    from dataclasses import asdict

    import msgspec

    from netlab.capture.summary import summarize

    summary = summarize(heard.frame)
    end = tapped.taps[heard.tap].name
    if output.asked_for_json():
        value = {"at_ns": heard.at_ns, "end": end, "way": heard.way, **asdict(summary)}
        click.echo(msgspec.json.encode(value))
        return
    at = datetime.fromtimestamp(heard.at_ns // 1_000_000_000).astimezone()
    micro = heard.at_ns % 1_000_000_000 // 1000
    output.show_line(f"{at:%H:%M:%S}.{micro:06d} {end} {heard.way:<3} {summary}")


def _write(tapped: Tapped, heard: Iterator[Heard], path: str, *, about: str, force: bool) -> None:
    from netlab.capture import pcapng

    received = [0] * len(tapped.taps)
    with _opened(path, force=force) as file:
        file.write(pcapng.section(comment=f"zos lab, {about}"))
        for tap in tapped.taps:
            file.write(pcapng.interface(tap.name, description=tap.about))
        file.flush()
        for each in heard:
            received[each.tap] += 1
            file.write(pcapng.packet(each.tap, each.frame, at_ns=each.at_ns, way=each.way))
            if path == "-":
                file.flush()  # somebody watches
        missed = tapped.missed()
        now_ns = time.time_ns()
        for number, (count, dropped) in enumerate(zip(received, missed, strict=True)):
            block = pcapng.statistics(number, at_ns=now_ns, received=count, dropped=dropped)
            file.write(block)
    _tell(sum(received), sum(missed))


@contextmanager
def _opened(path: str, *, force: bool) -> Iterator[IO[bytes]]:
    if path == "-":
        if sys.stdout.isatty():
            raise click.UsageError("a capture on a terminal: redirect it, or leave -w out")
        yield sys.stdout.buffer
    else:
        with open_new(Path(path), force=force) as file:
            yield file


def _tell(passed: int, missed: int) -> None:
    """Beside what was asked for: on standard error."""
    words = f"{passed} packets" + (f", {missed} more came too fast" if missed else "")
    click.echo(words, err=True)


@contextmanager
def _stopped_by_signals() -> Iterator[int]:
    """Readable once somebody wants this to stop: what there is by then is written to its end."""
    stopping, stop = os.pipe()
    os.set_blocking(stop, False)

    def note(*_: object) -> None:
        os.write(stop, b"x")

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield stopping
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        os.close(stopping)
        os.close(stop)
