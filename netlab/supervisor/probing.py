"""What the NAT of a living lab's router does, measured on request."""

from __future__ import annotations

import msgspec
from aiohttp import web

from netlab.probe import Observed, find_vantage, observe
from netlab.supervisor.session import Session
from netlab.supervisor.status import SCHEMA
from zos_core.socket_http import Route, answer


class NatAnswer(msgspec.Struct, frozen=True):
    """GET /v1/nat?router=NAME. `declared` is of IPv4; None: that router translates nothing."""

    schema: int
    router: str
    declared: Observed | None
    ipv4: Observed
    ipv6: Observed


def probing(session: Session) -> tuple[Route, ...]:
    async def nat(request: web.Request) -> web.Response:
        name = request.query.get("router", "")
        router = session.lab.router(name)
        vantage = find_vantage(session.lab, router)
        seen = [await observe(vantage, family) for family in ("ipv4", "ipv6")]
        if router.nat is None:
            return answer(NatAnswer(SCHEMA, name, None, *seen))
        declared = Observed(
            router.nat.mapping,
            router.nat.filtering,
            router.nat.ports == "preserve",
            router.nat.hairpin if len(vantage.inside) > 1 else None,
        )
        return answer(NatAnswer(SCHEMA, name, declared, *seen))

    return (("GET", "/v1/nat", nat),)
