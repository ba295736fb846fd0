"""The journal: numbered without a gap, bounded in memory, complete on disk, followed to its end."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from netlab.supervisor import journal as journals
from netlab.supervisor.journal import EVENTS_KEPT, Event, Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    ticks = count(100.0)
    opened = Journal(path, wall=lambda: 1e9, monotonic=lambda: next(ticks))
    yield opened
    opened.close()


async def collect(journal: Journal, number: int, into: list[Event]) -> None:
    async for event in journal.follow(number):
        into.append(event)


def test_events_carry_number_and_both_clocks_to_disk(  # LAB-244
    journal: Journal, path: Path
) -> None:
    journal.tell("link", "alice-home", "cut", up=False)
    journal.tell("node", "bob", "killed")

    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert written[0] == {
        "number": 1,
        "at": 1e9,
        "lab_s": 1.0,
        "kind": "link",
        "subject": "alice-home",
        "text": "cut",
        "detail": {"up": False},
    }
    assert [event["number"] for event in written] == [1, 2]
    assert journal.since(2)[0].subject == "bob"


def test_memory_is_bounded_and_the_disk_is_not(  # LAB-244
    journal: Journal, path: Path
) -> None:
    for n in range(EVENTS_KEPT + 1):
        journal.tell("link", f"l{n}", "cut")

    kept = journal.since(1)
    assert (len(kept), kept[0].number, kept[-1].number) == (EVENTS_KEPT, 2, EVENTS_KEPT + 1)
    assert len(path.read_text().splitlines()) == EVENTS_KEPT + 1


def test_an_unknown_kind_is_refused(journal: Journal) -> None:
    with pytest.raises(ValueError, match="gossip"):
        journal.tell("gossip", "", "psst")


async def test_followers_see_all_from_their_number_on_until_the_end(  # LAB-244
    path: Path,
) -> None:
    journal = Journal(path)
    journal.tell("phase", "", "one")
    seen: list[Event] = []
    later: list[Event] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(collect(journal, 1, seen), name="follow all")
        tasks.create_task(collect(journal, 3, later), name="follow later ones")
        await asyncio.sleep(0)
        journal.tell("phase", "", "two")
        await asyncio.sleep(0)
        journal.tell("phase", "", "three")
        journal.tell("end", "", "down")
        journal.close()

    assert [event.text for event in seen] == ["one", "two", "three", "down"]
    assert [event.number for event in later] == [3, 4]


async def test_a_slow_reader_misses_the_oldest_never_the_order(  # LAB-244
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "EVENTS_KEPT", 2)
    journal = Journal(path)
    for n in range(5):
        journal.tell("phase", "", str(n))
    journal.close()

    seen: list[Event] = []
    await collect(journal, 1, seen)
    assert [event.text for event in seen] == ["3", "4"]


def test_a_full_disk_keeps_no_event_from_being_told_and_tears_no_line(  # LAB-253
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    journal.tell("link", "alice-home", "cut")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
    try:
        journal.tell("link", "alice-home", "plugged")
        journal.tell("end", "", "down")
        assert [event.number for event in journal.since(1)] == [1, 2, 3]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, was)
    journal.tell("end", "", "room again")
    journal.close()

    written = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    assert written == [1, 2, 3, 4]


def test_what_is_not_written_yet_is_bounded(  # LAB-253
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "UNWRITTEN_BYTES_MAX", 1000)
    journal = Journal(tmp_path / "events.jsonl")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        for _ in range(20):
            journal.tell("link", "x" * 100, "cut")
        assert len(journal.since(1)) == 20
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, was)
    journal.tell("end", "", "room again")
    journal.close()

    assert 0 < len((tmp_path / "events.jsonl").read_bytes()) <= 1000
