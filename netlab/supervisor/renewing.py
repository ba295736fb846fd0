"""A lab that lives becomes another one: what that takes, and doing it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from netlab.supervisor.session import Session
from netlab.supervisor.status import SCHEMA
from netlab.topology import Topology
from netlab.wiring.plan import Plan
from zos_core.socket_http import Route, answer, read_body


class PlanRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/plan or /v1/apply: what the lab shall be."""

    topology: Topology


class PlannedChange(msgspec.Struct, frozen=True):
    """One step. `subject`: the node, router, LAN, core or link that it is about."""

    verb: str
    subject: str
    text: str


class PlanAnswer(msgspec.Struct, frozen=True):
    """The steps in their order; none when the lab is so already."""

    schema: int
    changes: tuple[PlannedChange, ...]


def renewing(session: Session) -> tuple[Route, ...]:
    async def plan(request: web.Request) -> web.Response:
        asked = await read_body(request, PlanRequest)
        return answer(_answer(session.lab.plan(asked.topology)))

    async def apply(request: web.Request) -> web.Response:
        asked = await read_body(request, PlanRequest)
        return answer(_answer(await session.apply(asked.topology)))

    return (("POST", "/v1/plan", plan), ("POST", "/v1/apply", apply))


def _answer(plan: Plan) -> PlanAnswer:
    changes = (PlannedChange(each.verb, each.subject, each.text) for each in plan.changes)
    return PlanAnswer(SCHEMA, tuple(changes))
