"""Expectations judged: each holds as soon as it is seen to hold, or fails when its time is up.

Who must not be reached is asked after everybody who must be, so that silence is never the silence
of a network that is not there yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet
from netlab.judge import paths, rate
from netlab.judge.ends import End, Pair, pairs_of
from netlab.judge.questions import Question, Questions, Version
from netlab.judge.verdict import Answer, Miss, Verdict, format_rate
from netlab.lab import Lab
from netlab.topology import Expect, Family, Via
from netlab.wiring.egress import Egress, find_egresses
from overlay.errors import OverlayError, Rejected
from zos_core import why
from zos_core.cli.why import format_walk
from zos_core.status import Status, WhyInputs

# So that asking does not keep a machine from doing what is asked for.
QUESTIONS_PER_S = 4000
BATCH = 100
AGAIN_S = 0.05
# A path that works answers in milliseconds; lost once, a datagram is sent again within it.
SILENCE_S = 1.5
SILENT_AGAIN_S = 0.25
SILENCES = 500  # at once
# UDP may be forbidden where TCP is not.
BY_TCP_AFTER_S = 1.0
CONNECT_S = 2.0
CONNECTIONS = 64  # at once
LOOK_S = 0.25
TOLD = 10  # of the pairs that fail

_VERSIONS: dict[Family, tuple[Version, ...]] = {"both": (4, 6), "ipv4": (4,), "ipv6": (6,)}

OnVerdict = Callable[[Verdict], None]


@dataclass(slots=True)
class _Case:
    """One pair of an expectation, on its way to a verdict. `reason`: why it does not hold yet."""

    expect: Expect
    pair: Pair
    questions: list[Question] = field(default_factory=list)
    exit: Egress | None = None  # by which it has to be reached
    reason: str = "not asked yet"
    held_s: float = 0.0

    @property
    def holds(self) -> bool:
        return not self.reason

    @property
    def missing(self) -> list[Question]:
        """What nobody has answered yet, or another one, or to somebody who came another way."""
        return [each for each in self.questions if self.complaint(each)]

    def complaint(self, question: Question) -> str:
        """Why an answer is not yet the one that is wanted; "" when it is."""
        if question.heard != self.pair.target.says:
            return _silence(question)
        if self.exit is not None and question.seen_as not in self.exit.seen_as:
            return f"{question.heard} sees {question.seen_as} over IPv{question.version}"
        return ""


class Judge:
    """Asks in one lab. `fleet` is who answers; in a lab without zos nobody is inside a network.

    With `keeps_answers` a verdict has what became of every pair, and how long an answer takes.
    """

    def __init__(self, lab: Lab, fleet: Fleet, *, keeps_answers: bool = False) -> None:
        self._lab = lab
        self._keeps_answers = keeps_answers
        self._fleet = fleet
        self._loop = asyncio.get_running_loop()
        self._wiring = lab.wiring
        self._exits = find_egresses(lab.wiring)
        self._machines = {node.name: _machine(lab, node.name) for node in lab.topology.nodes}

    async def judge(
        self, expects: Sequence[Expect], *, on_verdict: OnVerdict = lambda _: None
    ) -> list[Verdict]:
        """A verdict for each, in their order. Raises Rejected when one means nobody."""
        groups = [(expect, await self._cases(expect)) for expect in expects]
        began = self._loop.time()
        questions = Questions(self._lab)
        try:
            reached = [case for expect, cases in groups if expect.reached for case in cases]
            await self._until_reached(questions, reached)
            await self._until_as_wanted(questions, [case for case in reached if case.holds])
            silent = [case for expect, cases in groups if not expect.reached for case in cases]
            asked_s = self._loop.time()
            await self._until_silent(questions, silent)
            for case in reached if self._keeps_answers else ():
                for question in (each for each in case.questions if not case.complaint(each)):
                    await questions.measure(question)
        finally:
            questions.close()
        verdicts = []
        for expect, cases in groups:
            since = began if expect.reached else asked_s
            verdicts.append(await self._verdict(expect, cases, since))
            on_verdict(verdicts[-1])
        return verdicts

    async def _cases(self, expect: Expect) -> list[_Case]:
        pairs = pairs_of(expect, machines=self._machines, inside=self._fleet.inside)
        if expect.path:
            self._check_path(expect, pairs)
        for name in {pair.target.at for pair in pairs if not pair.target.netns}:
            await self._fleet.greeter.listen(self._lab.node(name), name)
        exit_ = self._exits[expect.via] if expect.via else None
        return [_Case(expect, pair, exit=exit_) for pair in pairs]

    def _check_path(self, expect: Expect, pairs: Sequence[Pair]) -> None:
        """With an exit it is the way to that, and else to whoever is asked."""
        both = (end for pair in pairs for end in (pair.source, pair.target))
        for end in (pair.source for pair in pairs) if expect.via else both:
            if end.at not in self._fleet.node_ids or not end.network:
                raise Rejected(
                    f"{end.name} runs no zos that could say by which path it is reached",
                    field="expect.path",
                    remedy="expect a path between workloads of one network",
                )

    # Who must be reached.

    async def _until_reached(self, questions: Questions, cases: Sequence[_Case]) -> None:
        began = self._loop.time()
        waiting = [case for case in cases if self._prepare(case)]
        async with asyncio.TaskGroup() as group:
            connections: set[asyncio.Task[None]] = set()
            while waiting:
                by_tcp = self._loop.time() - began > BY_TCP_AFTER_S
                async for question in self._paced(waiting):
                    questions.ask(question)
                    if by_tcp and not question.is_connecting and len(connections) < CONNECTIONS:
                        asked = questions.connect(question, timeout_s=CONNECT_S)
                        task = group.create_task(asked, name="ask by TCP")
                        connections.add(task)
                        task.add_done_callback(connections.discard)
                await asyncio.sleep(AGAIN_S)
                waiting = [case for case in waiting if self._is_waiting(case, began)]
            for task in connections:
                task.cancel()

    def _prepare(self, case: _Case) -> bool:
        """Whether there is an address to ask in every family that is meant."""
        source, target = case.pair.source, case.pair.target
        wanted = _VERSIONS[case.expect.family]
        found = {4: target.ipv4, 6: target.ipv6}
        case.questions = [
            Question(source, address, version)
            for version in wanted
            if (address := found[version]) is not None
        ]
        lacking = [f"IPv{version}" for version in wanted if found[version] is None]
        case.reason = f"{target.name} has no {' and no '.join(lacking)} address" if lacking else ""
        return not lacking

    async def _paced(self, waiting: Sequence[_Case]) -> AsyncIterator[Question]:
        """What is still to be asked, no faster than a machine can answer beside its work."""
        asked = 0
        for case in waiting:
            for question in case.missing:
                yield question
                asked += 1
                if asked % BATCH == 0:
                    await asyncio.sleep(BATCH / QUESTIONS_PER_S)

    def _is_waiting(self, case: _Case, began: float) -> bool:
        missing = case.missing
        if not missing:
            case.reason = ""
            case.held_s = max(question.heard_s for question in case.questions)
            return False
        case.reason = "; ".join(map(case.complaint, missing))
        return self._loop.time() - began < case.expect.within_s

    async def _until_as_wanted(self, questions: Questions, cases: Sequence[_Case]) -> None:
        """Those who are reached: by the path and at the rate that is expected."""
        by_path = [case for case in cases if case.expect.path]
        async with asyncio.TaskGroup() as group:
            for node in {case.pair.source.at for case in by_path}:
                seen = [case for case in by_path if case.pair.source.at == node]
                group.create_task(self._until_path(node, seen), name=f"paths of {node}")
        for case in cases:
            if case.holds and (case.expect.at_least_bit_s or case.expect.at_most_bit_s):
                for question in case.questions:
                    await self._until_rate(questions, case, question)

    async def _until_path(self, node: str, cases: Sequence[_Case]) -> None:
        began = self._loop.time()
        while True:
            status = await self._status(node)
            for case in cases:
                found = self._path(case, status) if status is not None else ""
                case.reason = "" if found == case.expect.path else f"by {found or 'no tunnel yet'}"
                case.held_s = self._loop.time()
            lasted_s = self._loop.time() - began
            cases = [case for case in cases if case.reason and lasted_s < case.expect.within_s]
            if not cases:
                return
            await asyncio.sleep(LOOK_S)

    def _path(self, case: _Case, status: Status) -> Via:
        near, far = case.pair.source.at, case.expect.via or case.pair.target.at
        network = self._fleet.network_ids.get(_network(case.pair), "")
        peer = paths.find_peer(status, network, far=far, node_ids=self._fleet.node_ids)
        return paths.path_of(peer, on_lan=paths.lan_addresses(self._wiring, near, far))

    async def _status(self, node: str) -> Status | None:
        try:
            return await node_socket.ask(self._lab.node(node), "/v1/status", Status)
        except OverlayError:
            return None

    async def _until_rate(self, questions: Questions, case: _Case, question: Question) -> None:
        """One after the other, because they would share what there is."""
        began = self._loop.time()
        expect = case.expect
        while True:
            says = case.pair.target.says
            found = await rate.measure(questions, self._fleet.greeter, question, says)
            is_slow = found < expect.at_least_bit_s
            is_fast = bool(expect.at_most_bit_s) and found > expect.at_most_bit_s
            case.reason = f"at {format_rate(found)}" if is_slow or is_fast else ""
            case.held_s = self._loop.time()
            if case.holds or self._loop.time() - began > expect.within_s:
                return

    # Who must not be reached.

    async def _until_silent(self, questions: Questions, cases: Sequence[_Case]) -> None:
        turns = asyncio.Semaphore(SILENCES)
        async with asyncio.TaskGroup() as group:
            for case in cases:
                case.reason = ""
                for_all = self._until_unheard(questions, case, turns)
                group.create_task(for_all, name=f"silence of {case.pair.target.name}")

    async def _until_unheard(
        self, questions: Questions, case: _Case, turns: asyncio.Semaphore
    ) -> None:
        self._prepare(case)
        async with turns:
            began = self._loop.time()
            while True:
                case.reason = await self._heard(questions, case)
                case.held_s = self._loop.time()
                if case.holds or self._loop.time() - began > case.expect.within_s:
                    return

    async def _heard(self, questions: Questions, case: _Case) -> str:
        """What was heard of the target during a whole silence, by UDP or TCP; "" for nothing."""
        began = self._loop.time()
        says = case.pair.target.says
        async with asyncio.TaskGroup() as group:
            for question in case.questions:
                asked = questions.connect(question, timeout_s=SILENCE_S)
                group.create_task(asked, name="ask by TCP")
            while self._loop.time() - began < SILENCE_S:
                for question in case.questions:
                    questions.ask(question)
                await asyncio.sleep(SILENT_AGAIN_S)
        heard = [q for q in case.questions if q.heard == says and q.heard_s >= began]
        return "; ".join(f"{says} answers over IPv{question.version}" for question in heard)

    # What comes out.

    async def _verdict(self, expect: Expect, cases: Sequence[_Case], since: float) -> Verdict:
        lasted_s = max((case.held_s for case in cases), default=since) - since
        failed = [case for case in cases if not case.holds]
        misses = []
        for case in failed[:TOLD]:
            reason = await self._explain(case) if expect.reached else ()
            misses.append(Miss(case.pair.source.name, case.pair.target.name, case.reason, reason))
        return Verdict(
            expect,
            pairs=len(cases),
            after_s=expect.within_s if failed else lasted_s,
            failed=len(failed),
            misses=tuple(misses),
            answers=tuple(chain.from_iterable(map(_answers, cases))) if self._keeps_answers else (),
        )

    async def _explain(self, case: _Case) -> tuple[str, ...]:
        """What `zos why` says on the node of the one who asked."""
        source, target = case.pair.source, case.pair.target
        network = self._fleet.network_ids.get(_network(case.pair), "")
        if source.at not in self._fleet.node_ids or not source.network:
            return ()
        try:
            inputs = await node_socket.ask(
                self._lab.node(source.at), "/v1/why", WhyInputs, network=network
            )
            asker = source.name.rpartition("/")[2]
            found = why.walk(inputs, asker, target.ipv4 or target.name, why.parse_traffic("any"))
            return tuple(format_walk(found))
        except OverlayError as exc:
            return (str(exc),)


def _answers(case: _Case) -> Iterator[Answer]:
    for question in case.questions:
        reached = question.heard == case.pair.target.says
        yield Answer(
            case.pair.source.name,
            case.pair.target.name,
            question.version,
            question.address,
            reached,
            question.rtt_s,
            question.seen_as if reached else "",
        )


def _machine(lab: Lab, name: str) -> End:
    node = lab.node(name)
    return End(name, name, name, "", "", node.ipv4, node.ipv6)


def _network(pair: Pair) -> str:
    return pair.source.network or pair.target.network


def _silence(question: Question) -> str:
    if question.heard:
        return f"{question.heard} answers at {question.address}"
    return f"nobody answers at {question.address}"
