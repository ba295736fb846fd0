"""A lab judged while it lives: what its file expects of it, and what is to happen meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from aiohttp import web

from netlab.evidence import collect
from netlab.fleet import node_socket
from netlab.fleet.fleet import Fleet
from netlab.judge.judge import Judge
from netlab.judge.timeline import run_timeline
from netlab.judge.verdict import Verdict, as_json, describe
from netlab.supervisor.hands import SessionHands
from netlab.supervisor.lines import Say, narrate
from netlab.supervisor.session import Session
from netlab.supervisor.status import CheckRequest, Happened, JudgeLine
from netlab.topology import Event, Expect
from overlay.errors import OverlayError, Rejected
from zos_core.socket_http import Route, error_of, read_body
from zos_core.status import Status

STATUS_FILE = "status.json"


def judging(session: Session) -> tuple[Route, ...]:
    async def check(request: web.Request) -> web.StreamResponse:
        asked = await read_body(request, CheckRequest)
        expects = _expected(session, timeline=asked.timeline)
        judge = Judge(session.lab, _fleet(session), keeps_answers=asked.answers)

        async def work(say: Say) -> None:
            await _Judging(session, judge, say, asked).judge(expects)

        return await narrate(request, work)

    return (("POST", "/v1/check", check),)


class _Judging:
    """One check, or one run of a timeline."""

    def __init__(self, session: Session, judge: Judge, say: Say, asked: CheckRequest) -> None:
        self._session = session
        self._judge = judge
        self._say = say
        self._asked = asked

    async def judge(self, expects: Sequence[Expect]) -> None:
        """Says what happens, each verdict, and what went wrong beside them."""
        failed = True
        try:
            failed = not all(verdict.held for verdict in await self._verdicts(expects))
        except* OverlayError as group:
            for error in _errors(group):
                _, body = error_of(error)
                self._say(JudgeLine(error=body))
        if failed and self._asked.evidence:
            await _keep_evidence(self._session, Path(self._asked.evidence))
            self._say(JudgeLine(evidence=self._asked.evidence))

    async def _verdicts(self, expects: Sequence[Expect]) -> list[Verdict]:
        if not self._asked.timeline:
            return await self._judge.judge(expects, on_verdict=self._note_verdict)
        return await run_timeline(
            self._session.topology,
            SessionHands(self._session),
            self._judge,
            on_event=self._note_event,
            on_verdict=self._note_verdict,
        )

    def _note_event(self, event: Event, words: str) -> None:
        self._say(JudgeLine(event=Happened(event.at_s, event.verb, words)))

    def _note_verdict(self, verdict: Verdict) -> None:
        value = as_json(verdict)
        told = {key: value[key] for key in value if key != "answers"}
        reasons = "; ".join(f"{m.source} -> {m.target}: {m.reason}" for m in verdict.misses[:1])
        text = "holds" if verdict.held else f"does not hold: {reasons}"
        self._session.journal.tell("expect", describe(verdict.expect), text, **told)
        self._say(JudgeLine(verdict=value))


def _expected(session: Session, *, timeline: bool) -> list[Expect]:
    """What is to be judged. Raises Rejected when that is nothing."""
    expects = session.topology.expects
    if not timeline:
        expects = tuple(expect for expect in expects if expect.at_s is None)
    if not expects and (not timeline or not session.topology.events):
        raise Rejected(
            f"{session.topology.name} expects nothing",
            field="expect",
            remedy="its timeline does: zos lab run FILE"
            if session.topology.expects
            else "add [[expect]] to its file",
        )
    return list(expects)


def _fleet(session: Session) -> Fleet:
    crew = session.crew
    if not isinstance(crew, Fleet):
        raise TypeError(f"{type(crew).__name__} is no fleet")
    return crew


async def _keep_evidence(session: Session, directory: Path) -> None:
    """Logs, events, and what every node looks like and says of itself."""
    lab = session.lab
    await collect(lab, directory)
    (directory / session.place.journal.name).write_bytes(session.place.journal.read_bytes())
    for name in _fleet(session).node_ids:
        with suppress(OverlayError):
            status = await node_socket.ask(lab.node(name), "/v1/status", Status)
            (directory / name / STATUS_FILE).write_bytes(msgspec.json.encode(status))


def _errors(group: BaseExceptionGroup[OverlayError]) -> list[OverlayError]:
    found: list[OverlayError] = []
    for each in group.exceptions:
        found += _errors(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
