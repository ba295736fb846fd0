"""A lab's timeline: what happens and what is expected, each at its time, and what in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from netlab.impairment import Both
from netlab.judge.judge import Judge, OnVerdict
from netlab.judge.verdict import Verdict
from netlab.topology import Event, Expect, Topology


class Hands(Protocol):
    """Who can do to a running lab what a timeline says. Each gives a sentence that says so."""

    async def set_link(self, text: str, *, up: bool) -> str: ...

    async def impair(self, text: str, impaired: Both) -> str: ...

    async def kill(self, node: str) -> str: ...

    async def restart(self, node: str) -> str: ...

    async def pause(self, node: str) -> str: ...

    async def resume(self, node: str) -> str: ...

    async def partition(self, parts: Sequence[Sequence[str]]) -> str: ...

    async def reboot_nat(self, router: str) -> str: ...

    async def exec(self, node: str, argv: Sequence[str]) -> str: ...


Act = Callable[[Hands, Event], Awaitable[str]]
OnEvent = Callable[[Event, str], None]

ACTS: Mapping[str, Act] = {
    "cut": lambda hands, event: hands.set_link(event.target, up=False),
    "plug": lambda hands, event: hands.set_link(event.target, up=True),
    "impair": lambda hands, event: hands.impair(event.target, event.impaired or Both()),
    "kill": lambda hands, event: hands.kill(event.target),
    "restart": lambda hands, event: hands.restart(event.target),
    "pause": lambda hands, event: hands.pause(event.target),
    "resume": lambda hands, event: hands.resume(event.target),
    "partition": lambda hands, event: hands.partition(event.groups),
    "heal": lambda hands, _: hands.partition(()),
    "reboot-nat": lambda hands, event: hands.reboot_nat(event.target),
    "exec": lambda hands, event: hands.exec(event.target, event.argv),
}


async def run_timeline(
    topology: Topology,
    hands: Hands,
    judge: Judge,
    *,
    on_event: OnEvent = lambda _event, _words: None,
    on_verdict: OnVerdict = lambda _: None,
) -> list[Verdict]:
    """A verdict for each expectation, in their order; those without a time come last of all.

    Time counts from the call. What happens waits for what happened before it, never for what is
    being judged; what is expected at a time is judged after what happens then. Raises what an event
    raises.
    """
    running = _Run(topology.expects, judge, on_verdict)
    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for at_s in _times(topology):
            await _sleep_until(began + at_s)
            for event in topology.events:
                if event.at_s == at_s:
                    on_event(event, await ACTS[event.verb](hands, event))
            expected = [expect for expect in topology.expects if expect.at_s == at_s]
            group.create_task(running.judge(expected), name=f"expected at {at_s:g} s")
    await running.judge([expect for expect in topology.expects if expect.at_s is None])
    return running.verdicts()


class _Run:
    def __init__(self, expects: Sequence[Expect], judge: Judge, on_verdict: OnVerdict) -> None:
        self._expects = expects
        self._judge = judge
        self._on_verdict = on_verdict
        self._verdicts: list[Verdict] = []

    async def judge(self, expects: Sequence[Expect]) -> None:
        self._verdicts += await self._judge.judge(expects, on_verdict=self._on_verdict)

    def verdicts(self) -> list[Verdict]:
        place = {id(expect): number for number, expect in enumerate(self._expects)}
        return sorted(self._verdicts, key=lambda verdict: place[id(verdict.expect)])


async def _sleep_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))


def _times(topology: Topology) -> list[float]:
    events = {event.at_s for event in topology.events}
    return sorted(events | {each.at_s for each in topology.expects if each.at_s is not None})
