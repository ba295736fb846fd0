"""What happens and what is expected, in the order of a timeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from netlab.impairment import Both, Impairment
from netlab.judge.timeline import ACTS, run_timeline
from netlab.judge.verdict import Verdict
from netlab.refusals.events import VERBS
from netlab.topology import Event, Expect, Node, Topology
from overlay.errors import Unavailable

SLOW = Both(up=Impairment(delay_s=0.1))
SOON_S = 0.01


class Stage:
    """Hands and judge in one: notes what is asked of it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        async def act(*words: Any, **more: Any) -> str:
            self.seen.append((verb, *words, *more.values()))
            if words == ("broken",):
                raise Unavailable("it is broken")
            return f"{verb} done"

        return act

    async def judge(
        self, expects: Sequence[Expect], *, on_verdict: Callable[[Verdict], None]
    ) -> list[Verdict]:
        self.seen += [("judge", expect.source, expect.target) for expect in expects]
        verdicts = [Verdict(expect, 1, 0.0) for expect in expects]
        for verdict in verdicts:
            on_verdict(verdict)
        return verdicts


def topology(*events: Event, expects: tuple[Expect, ...] = ()) -> Topology:
    return Topology(nodes=(Node("a"), Node("b"), Node("broken")), events=events, expects=expects)


async def test_everything_comes_at_its_time_and_what_has_none_comes_last():
    # LAB-312
    stage, told = Stage(), []
    ends = Expect("a", "b")
    first, second = Expect("b", "a", at_s=0.0), Expect("a", "b", at_s=SOON_S)
    events = (
        Event(2 * SOON_S, "kill", "b"),
        Event(SOON_S, "cut", "a-internet"),
        Event(SOON_S, "plug", "a-internet"),
    )
    whole = topology(*events, expects=(ends, second, first))
    verdicts = await run_timeline(
        whole, stage, stage, on_event=lambda event, words: told.append((event.verb, words))
    )
    assert stage.seen == [
        ("judge", "b", "a"),
        ("set_link", "a-internet", False),
        ("set_link", "a-internet", True),
        ("judge", "a", "b"),
        ("kill", "b"),
        ("judge", "a", "b"),
    ]
    assert [verdict.expect for verdict in verdicts] == [ends, second, first]
    assert told == [("cut", "set_link done"), ("plug", "set_link done"), ("kill", "kill done")]


@pytest.mark.parametrize(
    ("event", "asked"),
    [
        (Event(0, "cut", "a"), ("set_link", "a", False)),
        (Event(0, "plug", "a"), ("set_link", "a", True)),
        (Event(0, "impair", "a", impaired=SLOW), ("impair", "a", SLOW)),
        (Event(0, "kill", "a"), ("kill", "a")),
        (Event(0, "restart", "a"), ("restart", "a")),
        (Event(0, "pause", "a"), ("pause", "a")),
        (Event(0, "resume", "a"), ("resume", "a")),
        (Event(0, "partition", groups=(("a",), ("b",))), ("partition", (("a",), ("b",)))),
        (Event(0, "heal"), ("partition", ())),
        (Event(0, "reboot-nat", "a"), ("reboot_nat", "a")),
        (Event(0, "exec", "a", argv=("true",)), ("exec", "a", ("true",))),
    ],
)
async def test_every_verb_is_something_that_hands_do(event, asked):
    # LAB-312
    stage = Stage()
    await ACTS[event.verb](stage, event)
    assert stage.seen == [asked]


def test_every_verb_of_the_topology_is_known():
    # LAB-312
    assert set(ACTS) == VERBS


async def test_an_event_that_fails_ends_the_run():
    # LAB-312
    stage = Stage()
    with pytest.raises(ExceptionGroup) as caught:
        await run_timeline(topology(Event(0, "kill", "broken")), stage, stage)
    assert caught.group_contains(Unavailable, match="it is broken")
